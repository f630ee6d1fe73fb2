//! Responsible for what a host's name resolves to. Answers are kept for some seconds, because thousands of messages to one
//! host would otherwise ask the system as often; whether an address may be reached is judged for each request.
//!
//! The system's resolver blocks, for ten seconds where a name's server is silent, and cannot be told to stop. So a look-up has
//! a thread to its end, whether or not anybody still waits for it; a name has one look-up at a time, and an installation has a
//! few. Names that no server answers for then cost whoever made them up, and nobody else.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_model::sending::SendFailure;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::client::within;
use super::request::Target;

/// Look-ups of all installations together, each on a thread.
pub(crate) const MAX_LOOK_UPS: usize = 64;
/// Look-ups of one installation.
const MAX_LOOK_UPS_EACH: usize = 4;
/// A request waits so long for a look-up to begin, and so long for its answer.
const MAX_RESOLVE: Duration = Duration::from_secs(3);
/// Shorter than any usual time to live, so that a name that moves is followed soon.
const KEEP: Duration = Duration::from_secs(5);
/// Names that are kept at once.
const MAX_KEPT: usize = 1_024;

/// What a name resolves to; empty where it does not.
pub(super) type Addresses = Arc<[IpAddr]>;

/// What is known of a name.
#[derive(Clone)]
pub(super) enum Name {
    /// Its look-up has a thread.
    UnderWay(watch::Receiver<Option<Addresses>>),
    Kept {
        addresses: Addresses,
        at: Instant,
    },
}

impl Name {
    fn is_of_use(&self) -> bool {
        match self {
            // Its sender is gone only where the look-up panicked.
            Name::UnderWay(answer) => answer.has_changed().is_ok(),
            Name::Kept { at, .. } => at.elapsed() < KEEP,
        }
    }
}

/// The look-ups that one installation may have under way.
pub(crate) struct Share(Arc<Semaphore>);

impl Default for Share {
    fn default() -> Share {
        Share(Arc::new(Semaphore::new(MAX_LOOK_UPS_EACH)))
    }
}

/// Lets a look-up have a thread.
struct Permits {
    _own: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

/// Asks the system.
type Ask = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Resolves names, and remembers the answers for a short while.
pub(super) struct Resolver {
    names: Arc<Mutex<HashMap<String, Name>>>,
    ask: Arc<Ask>,
    threads: Arc<Semaphore>,
    /// Told whenever a look-up begins: others may want to know the same.
    begun: Notify,
    max_wait: Duration,
}

impl Default for Resolver {
    fn default() -> Resolver {
        let ask = |name: &str| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect());
        Resolver::new(Arc::new(ask), MAX_RESOLVE)
    }
}

impl Resolver {
    fn new(ask: Arc<Ask>, max_wait: Duration) -> Resolver {
        let threads = Arc::new(Semaphore::new(MAX_LOOK_UPS));
        Resolver { names: Arc::default(), ask, threads, begun: Notify::new(), max_wait }
    }

    /// What is known of the target's host, or a look-up of it as soon as `share` has one free, for which at most `patience` is
    /// waited.
    pub(super) async fn name(&self, target: &Target, share: &Share, patience: Duration) -> Result<Name, SendFailure> {
        let name = target.bare_host();
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Name::Kept { addresses: Arc::new([address]), at: Instant::now() });
        }
        let busy = |_| SendFailure::Busy("too many names are being resolved".into());
        timeout(patience.min(self.max_wait), self.look_up(name, share)).await.map_err(busy)
    }

    /// The addresses of the target's host, not yet judged.
    pub(super) async fn addresses(&self, target: &Target, name: Name) -> Result<Vec<SocketAddr>, SendFailure> {
        let addresses = match name {
            Name::Kept { addresses, .. } => addresses,
            Name::UnderWay(mut answer) => {
                let answer = async { answer.wait_for(Option::is_some).await.ok()?.clone() };
                let lost = || SendFailure::Connection("the look-up of the host was given up".into());
                within(self.max_wait, "resolving the host", answer).await?.ok_or_else(lost)?
            }
        };
        if addresses.is_empty() {
            return Err(SendFailure::Connection("the host does not resolve".into()));
        }
        Ok(addresses.iter().map(|address| SocketAddr::new(*address, target.port)).collect())
    }

    async fn look_up(&self, name: &str, share: &Share) -> Name {
        let mut permits = pin!(async {
            let own = Arc::clone(&share.0).acquire_owned().await.ok();
            Permits { _own: own, _all: Arc::clone(&self.threads).acquire_owned().await.ok() }
        });
        loop {
            // Registered before the look, so that a look-up that begins in between is not missed.
            let begun = self.begun.notified();
            if let Some(known) = self.known(name) {
                return known;
            }
            tokio::select! {
                permits = &mut permits => return self.begin(name, permits),
                () = begun => {}
            }
        }
    }

    fn known(&self, name: &str) -> Option<Name> {
        self.names.lock().get(name).filter(|known| known.is_of_use()).cloned()
    }

    /// Begin a look-up, unless somebody has meanwhile.
    fn begin(&self, name: &str, permits: Permits) -> Name {
        let mut names = self.names.lock();
        if let Some(known) = names.get(name).filter(|known| known.is_of_use()) {
            return known.clone();
        }
        make_room(&mut names);
        let (answer, answered) = watch::channel(None);
        let under_way = Name::UnderWay(answered);
        names.insert(name.to_owned(), under_way.clone());
        drop(names);
        let (names, ask, name) = (Arc::clone(&self.names), Arc::clone(&self.ask), name.to_owned());
        #[allow(clippy::disallowed_methods, reason = "the permits bound it, and the runtime is the host's own")]
        tokio::task::spawn_blocking(move || {
            let _permits = permits;
            let addresses: Addresses = ask(&name).unwrap_or_default().into();
            names.lock().insert(name, Name::Kept { addresses: Arc::clone(&addresses), at: Instant::now() });
            answer.send_replace(Some(addresses));
        });
        self.begun.notify_waiters();
        under_way
    }
}

/// Make room for another name: of what is of no use any more, else of the oldest answer.
fn make_room(names: &mut HashMap<String, Name>) {
    if names.len() < MAX_KEPT {
        return;
    }
    names.retain(|_, known| known.is_of_use());
    if names.len() < MAX_KEPT {
        return;
    }
    let kept = names.iter().filter_map(|(name, known)| match known {
        Name::Kept { at, .. } => Some((*at, name)),
        Name::UnderWay(_) => None,
    });
    if let Some(oldest) = kept.min().map(|(_, name)| name.clone()) {
        names.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Condvar;
    use tokio::runtime::{Builder, Runtime};

    use super::super::request::parse_target;
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    async fn resolve(resolver: &Resolver, name: &str, share: &Share) -> Result<Vec<SocketAddr>, SendFailure> {
        let target = parse_target(&format!("http://{name}:80/")).unwrap();
        let name = resolver.name(&target, share, LONG).await?;
        resolver.addresses(&target, name).await
    }

    /// A system of whose names those that begin with `dead` have a silent server until they are let go, and then do not resolve.
    #[derive(Default)]
    struct System {
        asked: AtomicUsize,
        is_let_go: Mutex<bool>,
        let_go: Condvar,
    }

    impl System {
        fn resolver(self: &Arc<Self>) -> Arc<Resolver> {
            let system = Arc::clone(self);
            let ask = move |name: &str| {
                system.asked.fetch_add(1, Ordering::SeqCst);
                if !name.starts_with("dead") {
                    return Ok(vec![IpAddr::from([192, 0, 2, 1])]);
                }
                let mut is_let_go = system.is_let_go.lock();
                system.let_go.wait_while(&mut is_let_go, |is_let_go| !*is_let_go);
                Err(io::Error::other("no such name"))
            };
            Arc::new(Resolver::new(Arc::new(ask), LONG))
        }

        fn let_go(&self) {
            *self.is_let_go.lock() = true;
            self.let_go.notify_all();
        }
    }

    /// Sixteen names whose server was silent once held every thread, and each other request of the process failed, its
    /// host's circuit open.
    #[test]
    fn names_that_nobody_answers_for_cost_their_installation_alone() {
        let system = Arc::new(System::default());
        let resolver = system.resolver();
        let (one, other) = (Arc::new(Share::default()), Share::default());
        runtime().block_on(async {
            let ask = |name: String| {
                let (resolver, share) = (Arc::clone(&resolver), Arc::clone(&one));
                tokio::spawn(async move { resolve(&resolver, &name, &share).await })
            };
            let dead: Vec<_> = (0..2 * MAX_LOOK_UPS).map(|number| ask(format!("dead-{number}"))).collect();
            while system.asked.load(Ordering::SeqCst) < MAX_LOOK_UPS_EACH {
                tokio::task::yield_now().await;
            }
            let alive = ask("alive".into());
            assert!(resolve(&resolver, "other", &other).await.is_ok());
            assert!(!alive.is_finished(), "it waits for its own installation");
            // What another one knows needs no look-up.
            assert!(resolve(&resolver, "other", &one).await.is_ok());
            assert!(resolve(&resolver, "alive", &other).await.is_ok());
            assert!(alive.await.unwrap().is_ok(), "somebody has asked for it");
            assert_eq!(system.asked.load(Ordering::SeqCst), MAX_LOOK_UPS_EACH + 2);
            system.let_go();
            for dead in dead {
                assert!(matches!(dead.await.unwrap(), Err(SendFailure::Connection(_))));
            }
        });
    }

    #[test]
    fn a_look_up_that_cannot_begin_says_nothing_about_the_host() {
        let resolver = Resolver::new(Arc::new(|_: &str| Ok(vec![])), Duration::ZERO);
        let nothing = Share(Arc::new(Semaphore::new(0)));
        let asked = runtime().block_on(async { resolve(&resolver, "host", &nothing).await });
        assert!(matches!(asked, Err(SendFailure::Busy(_))), "{asked:?}");
    }

    #[test]
    fn a_name_is_asked_for_once_and_that_it_does_not_resolve_is_kept() {
        let system = Arc::new(System::default());
        let resolver = system.resolver();
        let share = Arc::new(Share::default());
        runtime().block_on(async {
            let ask = |_| {
                let (resolver, share) = (Arc::clone(&resolver), Arc::clone(&share));
                tokio::spawn(async move { resolve(&resolver, "dead", &share).await })
            };
            let asking: Vec<_> = (0..20).map(ask).collect();
            system.let_go();
            for asked in asking {
                assert_eq!(asked.await.unwrap(), Err(SendFailure::Connection("the host does not resolve".into())));
            }
            assert!(ask(20).await.unwrap().is_err());
            assert_eq!(system.asked.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn names_are_kept_up_to_a_number_and_the_oldest_goes_first() {
        let resolver = Resolver::new(Arc::new(|_: &str| Ok(vec![])), LONG);
        let share = Share::default();
        runtime().block_on(async {
            for number in 0..=MAX_KEPT {
                assert!(resolve(&resolver, &format!("host-{number}"), &share).await.is_err());
            }
        });
        assert!(resolver.names.lock().len() <= MAX_KEPT);
        assert!(resolver.names.lock().contains_key(&format!("host-{MAX_KEPT}")));
    }
}
