//! Lines for the operator's log. Bounded: see the installation's limits.

use crate::platform;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// A change worth knowing.
    Info,
    /// Unexpected but handled.
    Warn,
    /// Somebody has to look.
    Error,
}

/// Write a line for the plugin's author.
pub fn debug(text: impl AsRef<str>) {
    platform::log(Level::Debug, text.as_ref());
}

/// Write a line about a change worth knowing.
pub fn info(text: impl AsRef<str>) {
    platform::log(Level::Info, text.as_ref());
}

/// Write a line about something unexpected but handled.
pub fn warn(text: impl AsRef<str>) {
    platform::log(Level::Warn, text.as_ref());
}

/// Write a line about something that somebody has to look at.
pub fn error(text: impl AsRef<str>) {
    platform::log(Level::Error, text.as_ref());
}
