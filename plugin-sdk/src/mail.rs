//! Outgoing mail through the hosts that the manifest asks for and an admin granted.

use std::fmt;

use crate::{Failure, platform};

/// One mail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The sender's address.
    pub from: String,
    /// The receiver's address.
    pub to: String,
    /// The subject line.
    pub subject: String,
    /// The body as plain text.
    pub text: String,
    /// The body as HTML, if there is one.
    pub html: Option<String>,
    /// Further header lines.
    pub headers: Vec<(String, String)>,
}

/// Why a mail was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Not granted; trying again will not help.
    Denied(String),
    /// A 5xx answer, with its text.
    Rejected(String),
    /// A 4xx answer or no answer.
    Transient(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Denied(reason) => write!(f, "mail was denied: {reason}"),
            Error::Rejected(reason) => write!(f, "mail was rejected: {reason}"),
            Error::Transient(reason) => write!(f, "mail could not be handed over: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Denied(_) | Error::Rejected(_) => Failure::permanent(error.to_string()),
            Error::Transient(_) => Failure::transient(error.to_string()),
        }
    }
}

/// Hand one message to the mail host `server`, a name of the manifest's list.
pub fn send(server: &str, message: &Message) -> Result<(), Error> {
    platform::send_mail(server, message)
}
