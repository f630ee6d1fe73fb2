//! Requests for a page of a poll: sent as a channel's are, within the same limits of each receiving host and past the same circuits,
//! a few at once, and all of them answered before the connector is asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kith_model::budget::table;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::sending::{InboundResponse, OutboundRequest, SendFailure, Transport};
use kith_model::time::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::hosts::{self, Admission, Place, Target};
use crate::shared::KernelState;

/// Requests of one page under way: each holds its answer in memory.
const AT_ONCE: usize = 4;

/// A request waits this long in line for a busy host before its page is put off.
const MAX_IN_LINE: Duration = Duration::from_secs(30);

/// A host is not tried now, so that the page is not fetched now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostAway {
    pub host: String,
    pub until: Timestamp,
}

/// What an answer is, or why there is none.
pub(crate) type Fetched = Result<InboundResponse, SendFailure>;

/// Who fetches a page.
pub(crate) struct Fetcher {
    pub shared: Arc<KernelState>,
    pub workspace: WorkspaceId,
    pub installation: InstallationId,
    pub transport: Arc<dyn Transport>,
    /// When the page has to be there.
    pub deadline: Instant,
}

/// The answers of these requests, in their order.
///
/// # Errors
/// A host that is left alone, once the others have answered: each request that is under way is counted at its host until it ends.
pub(crate) async fn fetch(of: &Arc<Fetcher>, requests: Vec<OutboundRequest>) -> Result<Vec<Fetched>, HostAway> {
    let (room, received) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(AtomicU64::new(0)));
    let mut answers: Vec<Option<Fetched>> = requests.iter().map(|_| None).collect();
    let mut under_way = JoinSet::new();
    for (place, request) in requests.into_iter().enumerate() {
        let (of, room, received) = (Arc::clone(of), Arc::clone(&room), Arc::clone(&received));
        under_way.spawn(async move {
            let _room = room.acquire().await;
            (place, of.send(request).await.map(|answer| within_bytes(answer, &received)))
        });
    }
    let mut away = None;
    while let Some(joined) = under_way.join_next().await {
        match joined {
            Ok((place, Ok(answer))) => answers[place] = Some(answer),
            Ok((_, Err(host))) => away = Some(host),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    if let Some(host) = away {
        return Err(host);
    }
    let lost = || Err(SendFailure::Connection("the request was given up".to_owned()));
    Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect())
}

/// The answer, unless those before it are as many bytes as one call is handed.
fn within_bytes(answer: Fetched, received: &AtomicU64) -> Fetched {
    let response = answer?;
    let limit = table::POLL_ANSWERS.default;
    let bytes = response.body.len() as u64;
    if received.fetch_add(bytes, Ordering::Relaxed) + bytes > limit {
        table::POLL_ANSWERS.count();
        return Err(SendFailure::TooLarge(format!("the answers of this round have more than {limit} bytes together")));
    }
    Ok(response)
}

/// What a request comes to for which the page has no more time.
fn too_long() -> Fetched {
    Err(SendFailure::Timeout("the page took too long".to_owned()))
}

impl Fetcher {
    /// Whether the page should be there by now.
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    async fn send(&self, request: OutboundRequest) -> Result<Fetched, HostAway> {
        let host = match self.transport.target(&request) {
            Ok(host) => host,
            Err(failure) => return Ok(Err(failure)),
        };
        let target = Target { workspace: self.workspace, host };
        let hosts = &self.shared.deliveries.hosts;
        let away = |until| HostAway { host: target.host.clone(), until };
        let slots = match hosts.line_up(&target, self.installation, AT_ONCE, self.shared.clock.now()) {
            Place::InLine { slots, .. } => slots,
            Place::Away { until } => return Err(away(until)),
        };
        let until = self.deadline.min(Instant::now() + MAX_IN_LINE);
        let Some(slot) = timeout_at(until, slots.acquire()).await.ok().flatten() else {
            hosts.leave_line(&target, self.installation);
            if self.is_over() {
                return Ok(too_long());
            }
            let now = self.shared.clock.now();
            return Err(away(hosts.paused_until(&target, now).unwrap_or(now)));
        };
        if self.is_over() {
            hosts.leave_line(&target, self.installation);
            return Ok(too_long());
        }
        match hosts.depart(&target, &slot, self.shared.clock.now()) {
            Admission::Go => {}
            Admission::Wait { until } => return Err(away(until)),
        }
        let (result, signal) = match timeout_at(self.deadline, self.transport.send(request)).await {
            Ok(result) => {
                let signal = hosts::signal(&result);
                (result, signal)
            }
            // The page had no more time, which says nothing about the host.
            Err(_) => (too_long(), None),
        };
        let reason = match &result {
            Ok(response) => format!("status {}", response.status),
            Err(failure) => failure.to_string(),
        };
        hosts.arrive(&target, slot, signal, &reason, self.shared.clock.now());
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_handed_over_up_to_the_budget() {
        let answer = |bytes: usize| {
            Ok(InboundResponse { status: 200, headers: Vec::new(), body: vec![b'x'; bytes], truncated: false })
        };
        let received = AtomicU64::new(0);
        let limit = usize::try_from(table::POLL_ANSWERS.default).unwrap();
        assert!(within_bytes(answer(limit - 1), &received).is_ok());
        assert!(within_bytes(answer(1), &received).is_ok());
        assert!(matches!(within_bytes(answer(1), &received), Err(SendFailure::TooLarge(_))));
        let failure = || Err(SendFailure::Timeout("10 s".to_owned()));
        assert_eq!(within_bytes(failure(), &received), failure());
    }
}
