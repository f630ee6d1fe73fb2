//! The test host: on the native target it answers a plugin's calls, so that unit tests are plain `cargo test`.
//!
//! Each thread has its own; a test sets one up, runs the plugin inside and reads what the plugin did. Limits, grants and real
//! network are left to the real host.
//!
//! ```
//! use kith_plugin_sdk::{clock, http, log, testing};
//!
//! let (status, record) = testing::Host::new()
//!     .now(1_700_000_000_000)
//!     .http_answer(Ok(http::Response::new(204)))
//!     .run(|| {
//!         log::info(format!("calling at {}", clock::now()));
//!         http::Request::post("https://example.com/hook").body("{}").send().map(|response| response.status)
//!     });
//! assert_eq!(status, Ok(204));
//! assert_eq!(record.requests[0].url(), "https://example.com/hook");
//! assert_eq!(record.logs[0].1, "calling at 1700000000000");
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use serde::Serialize;

use crate::{
    Connector, Declared, Emitted, Failure, Page, PollAnswer, PollFailure, PollRequest, Received, Rejection, Request,
    Scorer, Table, TagModel, Timestamp, Turn, Wanted, http, log, secrets,
};

/// The most requests of a page, as the kernel has it.
const MAX_POLL_REQUESTS: usize = 16;

/// How a test answers an HTTP request.
type HttpAnswer = Rc<RefCell<dyn FnMut(&http::Request) -> Result<http::Response, http::Error>>>;

/// How a test answers whether a signature holds.
type Verification = Rc<RefCell<dyn FnMut(secrets::HmacKey<'_>, &[u8], &str) -> bool>>;

/// A host for one test.
#[derive(Default)]
pub struct Host {
    config: Option<String>,
    now: Timestamp,
    secrets: BTreeSet<String>,
    log_level: Option<log::Level>,
    kv_quota_bytes: Option<usize>,
    http_answers: VecDeque<Result<http::Response, http::Error>>,
    http: Option<HttpAnswer>,
    verification: Option<Verification>,
    /// Whether what runs is a poll, which sends nothing itself.
    polling: bool,
    record: Record,
}

/// What the plugin did while it ran.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// The lines it logged.
    pub logs: Vec<(log::Level, String)>,
    /// The events that it emitted, each with its row.
    pub emitted: Vec<(usize, Emitted)>,
    /// The HTTP requests it sent.
    pub requests: Vec<http::Request>,
    /// Its key-value state in the end, without what has expired by then.
    pub kv: BTreeMap<String, Vec<u8>>,
    /// Until when those of them are kept that it keeps for a time.
    pub kv_expires_at: BTreeMap<String, Timestamp>,
}

impl Record {
    /// Put a value into the state, in the place of what is there.
    fn keep(&mut self, key: &str, value: Vec<u8>, expires_at: Option<Timestamp>) {
        self.kv.insert(key.to_owned(), value);
        match expires_at {
            Some(expires_at) => self.kv_expires_at.insert(key.to_owned(), expires_at),
            None => self.kv_expires_at.remove(key),
        };
    }

    /// Take a key out of the state.
    fn forget(&mut self, key: &str) {
        self.kv.remove(key);
        self.kv_expires_at.remove(key);
    }

    /// Take out what has expired.
    fn forget_expired(&mut self, now: Timestamp) {
        let expired = self.kv_expires_at.iter().filter(|(_, expires_at)| **expires_at <= now);
        let expired: Vec<String> = expired.map(|(key, _)| key.clone()).collect();
        expired.iter().for_each(|key| self.forget(key));
    }
}

impl Host {
    /// A host with the configuration `{}`, the clock at 0, no secrets, empty state and no answers.
    pub fn new() -> Host {
        Host::default()
    }

    /// The same with this configuration. Defaults of the manifest's schema are not filled in here.
    ///
    /// # Panics
    /// When `config` does not write as JSON.
    #[must_use]
    pub fn config(mut self, config: impl Serialize) -> Host {
        let text = serde_json::to_string(&config);
        self.config = Some(text.unwrap_or_else(|error| panic!("the configuration does not write as JSON: {error}")));
        self
    }

    /// The same with the clock at this time.
    #[must_use]
    pub fn now(mut self, now: Timestamp) -> Host {
        self.now = now;
        self
    }

    /// The same with a secret of this name; its stand-in is `{{secret:NAME}}`.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>) -> Host {
        self.secrets.insert(name.into());
        self
    }

    /// The same that keeps lines of this level and above; all of them without it.
    #[must_use]
    pub fn log_level(mut self, least: log::Level) -> Host {
        self.log_level = Some(least);
        self
    }

    /// The same with this value in the key-value state.
    #[must_use]
    pub fn kv(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Host {
        self.record.keep(&key.into(), value.into(), None);
        self
    }

    /// The same with this value in the key-value state until then.
    #[must_use]
    pub fn kv_until(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>, expires_at: Timestamp) -> Host {
        self.record.keep(&key.into(), value.into(), Some(expires_at));
        self
    }

    /// The same with a quota on the key-value state, counted over keys and values.
    #[must_use]
    pub fn kv_quota_bytes(mut self, quota_bytes: usize) -> Host {
        self.kv_quota_bytes = Some(quota_bytes);
        self
    }

    /// The same with one more answer for the HTTP requests, given in this order.
    #[must_use]
    pub fn http_answer(mut self, answer: Result<http::Response, http::Error>) -> Host {
        self.http_answers.push_back(answer);
        self
    }

    /// The same with a function that answers the HTTP requests for which no single answer is left.
    #[must_use]
    pub fn http(mut self, answer: impl FnMut(&http::Request) -> Result<http::Response, http::Error> + 'static) -> Host {
        self.http = Some(Rc::new(RefCell::new(answer)));
        self
    }

    /// The same with a function that says which signatures hold; without it none does. What it is asked is what the plugin asks:
    /// key, message, signature. This host computes no signatures.
    #[must_use]
    pub fn verify_hmac(mut self, holds: impl FnMut(secrets::HmacKey<'_>, &[u8], &str) -> bool + 'static) -> Host {
        self.verification = Some(Rc::new(RefCell::new(holds)));
        self
    }

    /// Run `plugin` on this host; gives its result and what it did.
    pub fn run<R>(self, plugin: impl FnOnce() -> R) -> (R, Record) {
        let before = HOST.replace(self);
        // Put the outer host back even when `plugin` panics: another test may run on this thread.
        let mut restore = Restore(Some(before));
        let result = plugin();
        let mut host = HOST.replace(restore.0.take().unwrap_or_default());
        host.record.forget_expired(host.now);
        (result, host.record)
    }

    /// Have a connector receive requests as the kernel hands over those that come at the same time: in calls of every size.
    ///
    /// # Panics
    /// When what it answers to a request depends on how many there are in a call.
    pub fn receive_all<C: Connector>(self, requests: &[Request]) -> (Vec<Result<Received, Rejection>>, Record) {
        self.run(|| {
            let alone: Vec<_> = requests.iter().cloned().map(C::receive).collect();
            for size in 1..=requests.len() {
                let calls = requests.chunks(size).zip(alone.chunks(size));
                calls.for_each(|(some, expected)| {
                    assert_eq!(C::receive_all(some.to_vec()), expected, "in calls of {size}")
                });
            }
            alone
        })
    }

    /// Ask a tag model about rows as the kernel does: with the declared inputs; its tags have to be the declared outputs, and what it
    /// emits declared events.
    ///
    /// # Panics
    /// When the rows, the tags or the events are not as declared, with the words of the real host for the latter.
    pub fn evaluate<M: TagModel>(
        self,
        declared: &Declared,
        state: &[u8],
        rows: &Table,
    ) -> (Result<Table, Failure>, Record) {
        self.held_against(declared, rows, || M::evaluate(state, rows))
    }

    /// The same of a scorer.
    ///
    /// # Panics
    /// When the rows or the scores are not as declared, with the words of the real host for the latter.
    pub fn score<M: Scorer>(self, declared: &Declared, state: &[u8], rows: &Table) -> (Result<Table, Failure>, Record) {
        self.held_against(declared, rows, || M::score(state, rows))
    }

    fn held_against(
        self,
        declared: &Declared,
        rows: &Table,
        model: impl FnOnce() -> Result<Table, Failure>,
    ) -> (Result<Table, Failure>, Record) {
        if let Err(problem) = declared.check_inputs(rows) {
            panic!("{problem}");
        }
        let (answer, record) = self.run(model);
        if let Ok(table) = &answer
            && let Err(problem) = declared.check_outputs(rows.len(), table)
        {
            panic!("{problem}");
        }
        if let Err(problem) = declared.check_events(rows.len(), &record.emitted) {
            panic!("{problem}");
        }
        (answer, record)
    }

    /// Poll one page after `cursor` as the kernel does: the plugin's requests are answered by this host, and recorded.
    pub fn poll<C: Connector>(mut self, cursor: Option<&[u8]>) -> (Result<Page, PollFailure>, Record) {
        self.polling = true;
        let now = self.now;
        self.run(|| -> Result<Page, PollFailure> {
            let since = cursor.map(|_| now);
            let wanted = Wanted { cursor: cursor.map(<[u8]>::to_vec), now, since, attributes: Vec::new() };
            let (mut turn, mut round, mut sent) = (C::poll(&wanted)?, 0, 0);
            loop {
                let requests = match turn {
                    Turn::Page(page) => return Ok(page),
                    Turn::Send(requests) => requests,
                };
                round += 1;
                sent += requests.len();
                if requests.is_empty() || sent > MAX_POLL_REQUESTS {
                    return Err(PollFailure::permanent("a page takes from one to sixteen requests"));
                }
                let answer = |request: PollRequest| PollAnswer {
                    round,
                    resume: request.resume,
                    result: platform::answer_http(request.request),
                    truncated: false,
                };
                turn = C::polled(&wanted, requests.into_iter().map(answer).collect())?;
            }
        })
    }
}

struct Restore(Option<Host>);

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            HOST.set(before);
        }
    }
}

/// Let the clock of the host that runs go on, e.g. between two calls of a plugin: what is kept for a time ends with it.
pub fn advance_ms(milliseconds: u32) {
    HOST.with_borrow_mut(|host| host.now += i64::from(milliseconds));
}

/// Run `plugin` with this configuration and nothing else.
pub fn with_config<R>(config: impl Serialize, plugin: impl FnOnce() -> R) -> R {
    Host::new().config(config).run(plugin).0
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::new());
}

/// What the host functions call on the native target.
pub(crate) mod platform {
    use super::{HOST, Host};
    use crate::{Emitted, Timestamp, http, kv, log, secrets};

    /// The most keys of a page, as the kernel has it.
    const MAX_PAGE_KEYS: u32 = 256;

    pub(crate) fn now() -> Timestamp {
        HOST.with_borrow(|host| host.now)
    }

    pub(crate) fn config() -> String {
        HOST.with_borrow(|host| host.config.clone().unwrap_or_else(|| "{}".to_owned()))
    }

    pub(crate) fn stand_in(name: &str) -> Option<String> {
        HOST.with_borrow(|host| host.secrets.contains(name).then(|| format!("{{{{secret:{name}}}}}")))
    }

    pub(crate) fn verify_hmac(key: secrets::HmacKey<'_>, message: &[u8], signature: &str) -> bool {
        let verification =
            HOST.with_borrow(|host| host.verification.clone().filter(|_| host.secrets.contains(key.secret)));
        // The borrow has ended, as for requests.
        verification.is_some_and(|holds| holds.borrow_mut()(key, message, signature))
    }

    pub(crate) fn log(level: log::Level, text: &str) {
        HOST.with_borrow_mut(|host| host.record.logs.push((level, text.to_owned())));
    }

    pub(crate) fn least_level() -> log::Level {
        HOST.with_borrow(|host| host.log_level.unwrap_or(log::Level::Debug))
    }

    pub(crate) fn emit(row: usize, event: Emitted) {
        HOST.with_borrow_mut(|host| host.record.emitted.push((row, event)));
    }

    /// Look at the state as it is at the time of the clock.
    fn state<R>(look: impl FnOnce(&mut Host) -> R) -> R {
        HOST.with_borrow_mut(|host| {
            host.record.forget_expired(host.now);
            look(host)
        })
    }

    pub(crate) fn kv_get(key: &str) -> Result<Option<Vec<u8>>, kv::Error> {
        Ok(state(|host| host.record.kv.get(key).cloned()))
    }

    fn keep(host: &mut Host, key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), kv::Error> {
        let others = host.record.kv.iter().filter(|(held, _)| *held != key);
        let total = others.map(|(key, value)| key.len() + value.len()).sum::<usize>() + key.len() + value.len();
        if let Some(quota) = host.kv_quota_bytes.filter(|quota| total > *quota) {
            return Err(kv::Error::Quota(format!("{total} of {quota} bytes")));
        }
        let end = |ttl_ms: u64| host.now.saturating_add(i64::try_from(ttl_ms).unwrap_or(i64::MAX));
        let expires_at = ttl_ms.map(end);
        host.record.keep(key, value.to_owned(), expires_at);
        Ok(())
    }

    pub(crate) fn kv_set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), kv::Error> {
        state(|host| keep(host, key, value, ttl_ms))
    }

    pub(crate) fn kv_compare_and_set(
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl_ms: Option<u64>,
    ) -> Result<bool, kv::Error> {
        state(|host| {
            if host.record.kv.get(key).map(Vec::as_slice) != expected {
                return Ok(false);
            }
            keep(host, key, value, ttl_ms).map(|()| true)
        })
    }

    pub(crate) fn kv_list_keys(prefix: &str, after: Option<&str>, limit: u32) -> Result<kv::KeyPage, kv::Error> {
        let limit = limit.clamp(1, MAX_PAGE_KEYS) as usize;
        Ok(state(|host| {
            let keys = host.record.kv.keys().filter(|key| after.is_none_or(|after| key.as_str() > after));
            let mut found = keys.filter(|key| key.starts_with(prefix));
            let keys: Vec<String> = found.by_ref().take(limit).cloned().collect();
            let next = found.next().and_then(|_| keys.last().cloned());
            kv::KeyPage { keys, next }
        }))
    }

    pub(crate) fn kv_delete(key: &str) -> Result<(), kv::Error> {
        state(|host| host.record.forget(key));
        Ok(())
    }

    pub(crate) fn send_http(request: http::Request) -> Result<http::Response, http::Error> {
        if HOST.with_borrow(|host| host.polling) {
            return Err(http::Error::Denied("a poll sends nothing itself; give the request back".to_owned()));
        }
        answer_http(request)
    }

    pub(super) fn answer_http(request: http::Request) -> Result<http::Response, http::Error> {
        let (queued, answer) = HOST.with_borrow_mut(|host| {
            host.record.requests.push(request.clone());
            (host.http_answers.pop_front(), host.http.clone())
        });
        // The borrow has ended, so that the answering function may log or look at the clock itself.
        match (queued, answer) {
            (Some(answer), _) => answer,
            (None, Some(answer)) => answer.borrow_mut()(&request),
            (None, None) => {
                Err(http::Error::Denied(format!("the test has no answer for {} {}", request.method, request.url)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{clock, config, kv, secrets};

    /// Knows one request at a time.
    struct One;

    impl Connector for One {
        fn receive(request: Request) -> Result<Received, Rejection> {
            if request.body.is_empty() {
                return Err(Rejection::new(400, "empty", "write something"));
            }
            Ok(Received { consumed: request.body.len() as u64, ..Received::default() })
        }
    }

    /// Forgets the last answer of several.
    struct Forgetful;

    impl Connector for Forgetful {
        fn receive(request: Request) -> Result<Received, Rejection> {
            One::receive(request)
        }

        fn receive_all(requests: Vec<Request>) -> Vec<Result<Received, Rejection>> {
            let all = requests.len();
            requests.into_iter().take(all.max(2) - 1).map(Self::receive).collect()
        }
    }

    #[test]
    fn requests_that_come_together_are_answered_in_their_order_each_by_itself() {
        let requests = ["a", "", "ccc"].map(|body| Request::post("/", body));
        let (answers, _) = Host::new().receive_all::<One>(&requests);
        let consumed = answers.iter().map(|answer| answer.as_ref().ok().map(|received| received.consumed));
        assert_eq!(consumed.collect::<Vec<_>>(), [Some(1), None, Some(3)]);
        let forgotten = std::panic::catch_unwind(|| Host::new().receive_all::<Forgetful>(&requests));
        assert!(forgotten.is_err());
    }

    #[test]
    fn lines_below_the_level_are_not_kept() {
        let (kept, record) = Host::new().log_level(log::Level::Warn).run(|| {
            log::info("nobody reads it");
            log::warn("look");
            [log::Level::Info, log::Level::Error].map(log::is_kept)
        });
        assert_eq!((kept, record.logs), ([false, true], vec![(log::Level::Warn, "look".to_owned())]));
    }

    #[test]
    fn a_nested_host_gives_way_to_the_outer_one_even_after_a_panic() {
        Host::new().now(1).run(|| {
            Host::new().now(2).run(|| assert_eq!(clock::now(), 2));
            assert_eq!(clock::now(), 1);
            let outcome = std::panic::catch_unwind(|| Host::new().now(3).run(|| panic!("on purpose")));
            assert!(outcome.is_err());
            assert_eq!(clock::now(), 1);
        });
        assert_eq!(clock::now(), 0);
    }

    #[test]
    fn configuration_that_does_not_fit_is_a_permanent_failure() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "only read by the deserializer")]
        struct Settings {
            days: u32,
        }
        let failure = with_config(serde_json::json!({ "days": "many" }), config::get::<Settings>).unwrap_err();
        assert!(matches!(&failure, crate::Failure::Permanent(text) if text.contains("u32")), "{failure}");
    }

    #[test]
    fn state_is_kept_and_bounded() {
        let ((), record) = Host::new().kv("a", "1").kv_quota_bytes(6).run(|| {
            assert_eq!(kv::get("a"), Ok(Some(b"1".to_vec())));
            assert_eq!(kv::set("b", b"123"), Ok(()));
            assert_eq!(kv::set("b", b"1234"), Err(kv::Error::Quota("7 of 6 bytes".to_owned())));
            assert_eq!(kv::delete("a"), Ok(()));
            assert_eq!(kv::set("b", b"1234"), Ok(()));
        });
        assert_eq!(record.kv, BTreeMap::from([("b".to_owned(), b"1234".to_vec())]));
    }

    #[test]
    fn what_is_kept_for_a_time_ends_with_it() {
        let minute = Duration::from_secs(60);
        let ((), record) = Host::new().now(1_000).kv_until("old", "1", 1_001).kv("kept", "1").run(|| {
            assert_eq!(kv::compare_and_set_for("lock", None, b"a", minute), Ok(true));
            assert_eq!(kv::compare_and_set_for("lock", None, b"b", minute), Ok(false));
            assert_eq!(kv::compare_and_set("kept", Some(b"2"), b"3"), Ok(false));
            assert_eq!(kv::compare_and_set("kept", Some(b"1"), b"3"), Ok(true));
            assert_eq!(kv::get("old"), Ok(Some(b"1".to_vec())));
            advance_ms(60_000);
            assert_eq!((kv::get("old"), kv::get("lock")), (Ok(None), Ok(None)));
            assert_eq!(kv::set_for("lock", b"c", minute), Ok(()));
        });
        assert_eq!(record.kv.keys().collect::<Vec<_>>(), ["kept", "lock"]);
        assert_eq!(record.kv_expires_at, BTreeMap::from([("lock".to_owned(), 121_000)]));
    }

    #[test]
    fn keys_are_listed_in_parts() {
        let host = (0..300).fold(Host::new().kv("b", "1"), |host, number| host.kv(format!("a/{number:03}"), "1"));
        host.run(|| {
            let first = kv::list_keys("a/", None, u32::MAX).unwrap();
            assert_eq!((first.keys.len(), first.next.as_deref()), (256, Some("a/255")));
            assert_eq!(kv::list_keys("a/", Some("a/298"), 9).unwrap().keys, ["a/299"]);
            let all: Result<Vec<String>, kv::Error> = kv::keys("a/").collect();
            assert_eq!(all.map(|keys| keys.len()), Ok(300));
            assert_eq!(kv::keys("c").count(), 0);
        });
    }

    #[test]
    fn requests_are_recorded_and_answered_in_order() {
        let (answers, record) = Host::new()
            .secret("token")
            .http_answer(Err(http::Error::Timeout("10 s".to_owned())))
            .http(|request| Ok(http::Response::new(if request.url().ends_with("/b") { 201 } else { 404 })))
            .run(|| {
                let token = secrets::stand_in("token").unwrap();
                assert_eq!(secrets::stand_in("other"), None);
                let ask = |url: &str| http::Request::get(url).header("authorization", &token).send();
                [ask("https://x/a"), ask("https://x/b"), ask("https://x/c")]
                    .map(|answer| answer.map(|found| found.status))
            });
        assert_eq!(answers, [Err(http::Error::Timeout("10 s".to_owned())), Ok(201), Ok(404)]);
        assert_eq!(record.requests.len(), 3);
        assert_eq!(record.requests[0].headers()[0].1, "{{secret:token}}");
    }
}
