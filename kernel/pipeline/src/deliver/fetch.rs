//! Requests for a page of a poll: sent as a channel's are, within the same limits of each receiving host and past the same circuits,
//! a few at once, and all of them answered before the connector is asked again. What they and their answers take in memory is counted.

use std::sync::Arc;
use std::time::Duration;

use kith_model::budget::{Exhausted, table};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::sending::{AnswerRoom, InboundResponse, OutboundRequest, SendFailure, Transport};
use kith_model::time::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::hosts::{self, Admission, Place, Target};
use crate::poll::memory::{Room, Round};
use crate::shared::KernelState;

/// Requests of one page under way.
const AT_ONCE: usize = 4;

/// A request waits this long in line for a busy host before its page is put off.
const MAX_IN_LINE: Duration = Duration::from_secs(30);

/// A host is not tried now, so that the page is not fetched now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostAway {
    pub host: String,
    pub until: Timestamp,
}

/// Why a page is not fetched now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotNow {
    Host(HostAway),
    /// There is no memory for its requests or for the answers, or too many requests are with their peers.
    NoRoom(Exhausted),
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

/// The answers of these requests, in their order, and the memory that they hold.
///
/// # Errors
/// No memory, or no place among the requests that are with their peers; or a host that is left alone, once the others have answered:
/// each request that is under way is counted at its host until it ends.
pub(crate) async fn fetch(
    of: &Arc<Fetcher>,
    requests: Vec<OutboundRequest>,
) -> Result<(Vec<Fetched>, Arc<Round>), NotNow> {
    let bytes = requests.iter().map(OutboundRequest::bytes).sum::<usize>() as u64;
    let round = Round::begin(&of.shared.polls.answers, of.workspace, bytes).map_err(NotNow::NoRoom)?;
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut answers: Vec<Option<Fetched>> = requests.iter().map(|_| None).collect();
    let mut under_way = JoinSet::new();
    for (place, request) in requests.into_iter().enumerate() {
        let (of, places, room) = (Arc::clone(of), Arc::clone(&places), Room::of(&round));
        under_way.spawn(async move {
            let _place = places.acquire().await;
            (place, of.send(request, room).await)
        });
    }
    let mut away = None;
    while let Some(joined) = under_way.join_next().await {
        match joined {
            Ok((place, Ok(answer))) => answers[place] = Some(answer),
            Ok((_, Err(not_now))) => away = Some(not_now),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
    if let Some(exhausted) = round.exhausted() {
        return Err(NotNow::NoRoom(exhausted));
    }
    if let Some(not_now) = away {
        return Err(not_now);
    }
    let lost = || Err(SendFailure::Connection("the request was given up".to_owned()));
    Ok((answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect(), round))
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

    async fn send(&self, request: OutboundRequest, room: Arc<Room>) -> Result<Fetched, NotNow> {
        let host = match self.transport.target(&request) {
            Ok(host) => host,
            Err(failure) => return Ok(Err(failure)),
        };
        let target = Target { workspace: self.workspace, host };
        let hosts = &self.shared.deliveries.hosts;
        let away = |until| NotNow::Host(HostAway { host: target.host.clone(), until });
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
        // Its place at the host is kept meanwhile, which is one of its own workspace.
        let until = self.deadline.min(Instant::now() + MAX_IN_LINE);
        let Ok(_socket) = timeout_at(until, self.shared.polls.requests.take(self.workspace)).await else {
            hosts.leave_line(&target, self.installation);
            let limit = &table::POLL_REQUESTS_AT_ONCE;
            return Err(NotNow::NoRoom(limit.exhausted(limit.default, None)));
        };
        match hosts.depart(&target, &slot, self.shared.clock.now()) {
            Admission::Go => {}
            Admission::Wait { until } => return Err(away(until)),
        }
        let within: Arc<dyn AnswerRoom> = room.clone();
        let (result, signal) = match timeout_at(self.deadline, self.transport.send_within(request, within)).await {
            Ok(result) => {
                let result = room.settled(result);
                let signal = hosts::signal(&result);
                (result, signal)
            }
            // The page had no more time, which says nothing about the host.
            Err(_) => (room.settled(too_long()), None),
        };
        let reason = match &result {
            Ok(response) => format!("status {}", response.status),
            Err(failure) => failure.to_string(),
        };
        hosts.arrive(&target, slot, signal, &reason, self.shared.clock.now());
        Ok(result)
    }
}
