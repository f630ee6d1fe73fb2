//! How a plugin says that it cannot do what it was asked. Leaves what the kernel makes of it (retry, dead letter) to the kernel.

use std::fmt;

/// Why a call could not be carried out. The words go to the log and to the admin: name the thing and say what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// This input can never work.
    BadInput(String),
    /// Trying again later may help.
    Transient(String),
    /// Trying again will not help until somebody changes something.
    Permanent(String),
    /// Tag models and scorers: the fitted state is not of a form that this version reads. The kernel asks no more until the
    /// installation has been fitted again.
    UnreadableState(String),
}

impl Failure {
    /// This input can never work.
    pub fn bad_input(reason: impl Into<String>) -> Failure {
        Failure::BadInput(reason.into())
    }

    /// Trying again later may help.
    pub fn transient(reason: impl Into<String>) -> Failure {
        Failure::Transient(reason.into())
    }

    /// Trying again will not help until somebody changes something.
    pub fn permanent(reason: impl Into<String>) -> Failure {
        Failure::Permanent(reason.into())
    }

    /// The fitted state is not of a form that this version reads: nothing works before another fit.
    pub fn unreadable_state(reason: impl Into<String>) -> Failure {
        Failure::UnreadableState(reason.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::BadInput(reason) => write!(f, "bad input: {reason}"),
            Failure::Transient(reason) => write!(f, "transient failure: {reason}"),
            Failure::Permanent(reason) => write!(f, "permanent failure: {reason}"),
            Failure::UnreadableState(reason) => write!(f, "the fitted state cannot be read: {reason}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Something in a configuration that a plugin could not work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: the keys from the top, e.g. `time.zone`; empty for the whole.
    pub key: String,
    /// What is wrong and what to write, for a person.
    pub message: String,
}

impl Problem {
    /// A problem at a key of the configuration.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { key: key.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// The whole request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status: 400 for a request that can never work, 404, 413 for one that is too large, …
    pub status: u16,
    /// Stable, e.g. `invalid-json`.
    pub code: String,
    /// What is wrong and what to do, for a person.
    pub message: String,
}

impl Rejection {
    /// A refusal with an HTTP status, a stable code and words for a person.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Rejection {
        Rejection { status, code: code.into(), message: message.into() }
    }
}

/// A plugin that cannot even begin (its configuration does not read) answers 500 with the failure's words.
impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Rejection {
        let (status, code) = match &failure {
            Failure::BadInput(_) => (400, "bad-input"),
            Failure::Transient(_) => (503, "unavailable"),
            Failure::Permanent(_) | Failure::UnreadableState(_) => (500, "plugin-failure"),
        };
        Rejection::new(status, code, failure.to_string())
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.message)
    }
}

impl std::error::Error for Rejection {}
