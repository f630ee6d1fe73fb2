//! The one place that moves blocking work off the async threads.

/// Run `work` on the blocking pool and wait for what it gives. A panic in it goes on in the caller.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is being dropped cancels blocking work, and then nobody waits for it.
            Err(_) => std::future::pending().await,
        },
    }
}
