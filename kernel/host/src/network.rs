//! Responsible for the threads that requests of plugins are sent on. They are the host's own: the peers that plugins talk to
//! decide how much work their answers are, and that work, TLS most of all, must not delay whoever the process serves.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::egress::MAX_LOOK_UPS;

/// Threads that send and read: they wait, and compute no more than TLS asks for.
const THREADS: usize = 2;

/// A runtime for requests and their connections.
pub(crate) struct Network {
    /// Present until it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Network {
    pub(crate) fn start() -> io::Result<Network> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(MAX_LOOK_UPS)
            .thread_name("kith-network")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Network { runtime: Some(runtime), handle })
    }

    /// Starts tasks there, and lends its clock and its sockets to a thread that waits.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Network {
    /// The last plugin may be dropped on an async thread, where a runtime must not wait for its tasks.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_dropped_on_an_async_thread_and_on_one_of_its_own() {
        let network = Network::start().unwrap();
        let handle = network.handle().clone();
        let elsewhere = Builder::new_current_thread().build().unwrap();
        elsewhere.block_on(async move { drop(network) });
        let left = elsewhere.block_on(handle.spawn(std::future::pending::<()>()));
        assert!(left.unwrap_err().is_cancelled(), "what comes later is told so");
        let network = Network::start().unwrap();
        let own = network.handle().clone();
        let dropping = own.spawn(async move { drop(network) });
        elsewhere.block_on(dropping).unwrap();
    }

    #[test]
    fn its_threads_are_its_own() {
        let network = Network::start().unwrap();
        let name = || std::thread::current().name().map(str::to_owned);
        let waiting = Builder::new_current_thread().build().unwrap();
        let ran_on = waiting.block_on(network.handle().spawn(async move { name() })).unwrap();
        assert_eq!(ran_on.as_deref(), Some("kith-network"));
    }
}
