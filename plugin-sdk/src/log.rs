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

/// Whether lines of this level are kept. One that is not goes nowhere and costs nothing but its making, which whoever asks before can
/// spare: `if log::is_kept(Level::Debug) { log::debug(described(&rows)) }`.
pub fn is_kept(level: Level) -> bool {
    level >= platform::least_level()
}

fn write(level: Level, text: &str) {
    if is_kept(level) {
        platform::log(level, text);
    }
}

/// Write a line for the plugin's author.
pub fn debug(text: impl AsRef<str>) {
    write(Level::Debug, text.as_ref());
}

/// Write a line about a change worth knowing.
pub fn info(text: impl AsRef<str>) {
    write(Level::Info, text.as_ref());
}

/// Write a line about something unexpected but handled.
pub fn warn(text: impl AsRef<str>) {
    write(Level::Warn, text.as_ref());
}

/// Write a line about something that somebody has to look at.
pub fn error(text: impl AsRef<str>) {
    platform::log(Level::Error, text.as_ref());
}
