//! Responsible for the versions of the contract that this host speaks.

use std::fmt;

/// A version of the contract in `/wit`, named without its patch number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Abi {
    /// Frozen; a channel sends its requests itself.
    V0_1,
    /// Open; a channel is two pure calls.
    V0_2,
}

impl Abi {
    /// Every version that this host loads, oldest first.
    pub const ALL: [Abi; 2] = [Abi::V0_1, Abi::V0_2];
    /// The version that new plugins are written for.
    pub const CURRENT: Abi = Abi::V0_2;

    /// As a manifest writes it, e.g. `0.2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Abi::V0_1 => "0.1",
            Abi::V0_2 => "0.2",
        }
    }

    /// The version that is written so.
    pub(crate) fn parse(text: &str) -> Option<Abi> {
        Abi::ALL.into_iter().find(|abi| abi.as_str() == text)
    }

    /// All versions, for a message.
    pub(crate) fn listed() -> String {
        Abi::ALL.map(Abi::as_str).join(" and ")
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
