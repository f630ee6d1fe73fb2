//! Secrets that the plugin may use but never sees.

use crate::platform;

/// A stand-in for the secret `name`. The host puts the secret's value in its place inside the headers and the body of an outgoing
/// request to a host that both the manifest and the grant name for this secret. `None` when no such secret is set.
pub fn stand_in(name: &str) -> Option<String> {
    platform::stand_in(name)
}
