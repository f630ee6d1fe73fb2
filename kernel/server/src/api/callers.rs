//! Callers by their address: how many requests each has under way where a proxy stands in front, how often each comes without a
//! valid key, and how often one is refused at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use kith_model::budget::{Allowance, Budget, Exhausted};
use kith_model::time::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::app::App;
use crate::error::{ApiError, FailedAuthentication};
use crate::front::counted;

/// The peer of a request's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Answer a request within what its address may have.
pub(super) async fn by_address(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() else { return next.run(request).await };
    let proxies = app.config.http.proxies.as_ref().filter(|proxies| proxies.is_proxy(peer));
    let client = counted(proxies.map_or(peer, |proxies| proxies.client(peer, request.headers())));
    // Without a proxy a connection is one client's, and carries one request at a time.
    let share = proxies.map(|_| app.peer_requests.take(client, 1)).transpose();
    let _under_way = match share {
        Ok(share) => share,
        Err(exhausted) => return ApiError::from(exhausted).into_response(),
    };
    let response = authenticated(&app, client, next.run(request).await);
    if response.status() == StatusCode::TOO_MANY_REQUESTS && app.refusals.count(client).is_err() {
        tokio::time::sleep(refusal_delay()).await;
    }
    response
}

/// How long a refusal beyond an address's prompt ones is held back. Whoever asks again as soon as he is refused would take the
/// processor from those who are answered, with hardly any work behind it; so he asks less than once a second on each connection.
const HELD: Duration = Duration::from_secs(1);

/// Over how much longer they are spread: hundreds that are refused together would come again together, each second.
const SPREAD_MS: u64 = 1_000;

/// How long one of them is held back.
pub(crate) fn refusal_delay() -> Duration {
    let mut bits = [0_u8; 2];
    // Where the system has no random bits, all of them are held for equally long.
    let _ = getrandom::fill(&mut bits);
    HELD + Duration::from_millis((u64::from(u16::from_le_bytes(bits)) * SPREAD_MS) >> u16::BITS)
}

/// The answer itself, or a refusal where the address came too often without a valid key.
fn authenticated(app: &App, client: IpAddr, response: Response) -> Response {
    if response.extensions().get::<FailedAuthentication>().is_none() {
        return response;
    }
    metrics::counter!("kith_failed_authentications_total").increment(1);
    match app.failures.count(client) {
        Ok(()) => response,
        Err(exhausted) => {
            let mut refusal = ApiError::from(exhausted).into_response();
            // A page in a browser may read why its batch was refused.
            if let Some(origin) = response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
                refusal.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
            refusal
        }
    }
}

/// Addresses whose failures are counted at once; those of further ones are not, until some of these have come to rest.
const MAX_ADDRESSES: usize = 16_384;

/// How long no second look is taken at which addresses have come to rest.
const SWEEP_PERIOD_MS: i64 = 1_000;

/// What each address may still do in vain. A valid key passes from any address: behind one there may be many people, and a
/// key's bits are too many to guess at whatever rate.
pub(crate) struct InVain {
    budget: &'static Budget,
    limit: u64,
    began: Instant,
    by_address: Mutex<ByAddress>,
}

#[derive(Default)]
struct ByAddress {
    left: HashMap<IpAddr, Allowance>,
    swept_at: Option<Timestamp>,
}

impl InVain {
    pub(crate) fn new(budget: &'static Budget, limit: u64) -> InVain {
        InVain { budget, limit, began: Instant::now(), by_address: Mutex::default() }
    }

    /// One more time. The server's own clock may stand still, so time is the machine's.
    pub(crate) fn count(&self, client: IpAddr) -> Result<(), Exhausted> {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.count_at(client, Timestamp(passed))
    }

    fn count_at(&self, client: IpAddr, now: Timestamp) -> Result<(), Exhausted> {
        let mut by_address = self.by_address.lock();
        if by_address.left.len() >= MAX_ADDRESSES && !by_address.left.contains_key(&client) {
            by_address.sweep(now);
            if by_address.left.len() >= MAX_ADDRESSES {
                return Ok(());
            }
        }
        let fresh = || Allowance::new(self.budget, self.limit, now);
        by_address.left.entry(client).or_insert_with(fresh).spend(1, now)
    }
}

impl ByAddress {
    /// Forget who has everything left.
    fn sweep(&mut self, now: Timestamp) {
        if self.swept_at.is_some_and(|last| now.0 - last.0 < SWEEP_PERIOD_MS) {
            return;
        }
        self.swept_at = Some(now);
        self.left.retain(|_, allowance| !allowance.is_full(now));
    }
}

#[cfg(test)]
mod tests {
    use kith_model::budget::table;

    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn who_fails_too_often_is_told_to_wait_and_others_are_not() {
        let failures = InVain::new(&table::FAILED_AUTHENTICATIONS, 60);
        let second = |seconds: i64| Timestamp(seconds * 1_000);
        (0..60).for_each(|_| failures.count_at(address(1), second(0)).unwrap());
        let refused = failures.count_at(address(1), second(0)).unwrap_err();
        assert_eq!((refused.budget.name, refused.limit), ("failed-authentications", 60));
        assert!(refused.retry_after.is_some());
        assert!(failures.count_at(address(2), second(0)).is_ok());
        assert!(failures.count_at(address(1), second(2)).is_ok(), "one a second comes back");
    }

    #[test]
    fn what_is_refused_together_does_not_come_again_together() {
        let mut held: Vec<Duration> = (0..400).map(|_| refusal_delay()).collect();
        held.sort_unstable();
        assert!(held.iter().all(|held| (HELD..2 * HELD).contains(held)), "{held:?}");
        // At random, of 400 some 40 come in each tenth of the second.
        for tenth in 0..10 {
            let within = HELD + Duration::from_millis(100 * tenth)..HELD + Duration::from_millis(100 * (tenth + 1));
            let many = held.iter().filter(|held| within.contains(*held)).count();
            assert!((5..120).contains(&many), "{many} in {within:?}");
        }
    }

    #[test]
    fn addresses_are_forgotten_once_they_rest() {
        let failures = InVain::new(&table::FAILED_AUTHENTICATIONS, 2);
        let most = u32::try_from(MAX_ADDRESSES).unwrap();
        (0..most + 10).for_each(|number| failures.count_at(address(number), Timestamp(0)).unwrap());
        assert_eq!(failures.by_address.lock().left.len(), MAX_ADDRESSES);
        assert!(failures.count_at(address(0), Timestamp(0)).is_ok());
        assert!(failures.count_at(address(0), Timestamp(0)).is_err(), "who is known is still counted");
        failures.count_at(address(most + 1), Timestamp(120_000)).unwrap();
        assert_eq!(failures.by_address.lock().left.len(), 1);
    }
}
