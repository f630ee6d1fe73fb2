//! Responsible for the versions of the contract that this host speaks, and for what is promised of each.

use std::fmt;

use kith_model::plugin::PluginKind;

use crate::package::world::{KINDS, is_optional, sources, world_of};

/// A version of the contract in `/wit`, named without its patch number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Abi {
    /// Frozen; a channel sends its requests itself.
    V0_1,
    /// Frozen; a channel is two pure calls.
    V0_2,
}

/// Whether a version of the contract still changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbiStatus {
    /// Its folder under `/wit` never changes again.
    Frozen,
    /// It may change until it is frozen, and plugins that were built for it are built again.
    Open,
}

impl AbiStatus {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            AbiStatus::Frozen => "frozen",
            AbiStatus::Open => "open",
        }
    }
}

/// The world of a kind of plugins in a version of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbiWorld {
    pub kind: PluginKind,
    /// The interfaces of the host that it may import, by their full names.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// Those of its exports that a component may go without.
    pub optional: Vec<String>,
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

    /// Its package in `/wit`.
    pub fn package(self) -> &'static str {
        match self {
            Abi::V0_1 => "kith:plugin@0.1.0",
            Abi::V0_2 => "kith:plugin@0.2.0",
        }
    }

    /// Whether it still changes.
    pub fn status(self) -> AbiStatus {
        match self {
            Abi::V0_1 | Abi::V0_2 => AbiStatus::Frozen,
        }
    }

    /// The first kernel that loads it.
    pub fn since(self) -> &'static str {
        match self {
            Abi::V0_1 | Abi::V0_2 => "0.1.0",
        }
    }

    /// How long it is loaded, in words.
    pub fn support(self) -> &'static str {
        match self {
            Abi::V0_1 => {
                "loaded through an adapter by every kernel 0.x; a release that stops loading it says so in its changelog, and the \
                 release before it does too"
            }
            Abi::V0_2 => {
                "loaded by every kernel 0.x; a release that stops loading it says so in its changelog, and the release before it \
                 does too"
            }
        }
    }

    /// The files of its folder under `/wit`, each by its name, of which tools for other languages make bindings.
    pub fn files(self) -> [(&'static str, &'static str); 4] {
        sources(self)
    }

    /// What each kind of plugins imports and exports in it.
    pub fn worlds(self) -> Vec<AbiWorld> {
        let world = |kind: PluginKind| {
            let world = world_of(self, kind);
            let exports: Vec<String> = world.exports.keys().cloned().collect();
            let optional = exports.iter().filter(|name| is_optional(name)).cloned().collect();
            AbiWorld { kind, imports: world.imports.iter().cloned().collect(), exports, optional }
        };
        KINDS.map(world).to_vec()
    }

    /// The version that is written so.
    pub fn parse(text: &str) -> Option<Abi> {
        Abi::ALL.into_iter().find(|abi| abi.as_str() == text)
    }

    /// All versions, for a message.
    pub fn listed() -> String {
        Abi::ALL.map(Abi::as_str).join(" and ")
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_a_world_of_its_own_for_each_kind() {
        for abi in Abi::ALL {
            let (_, version) = abi.package().split_once('@').unwrap();
            assert!(version.starts_with(abi.as_str()), "{version}");
            for (name, text) in abi.files() {
                assert!(text.starts_with(&format!("package {};", abi.package())), "{name} of {abi}");
            }
            let worlds = abi.worlds();
            assert_eq!(worlds.len(), 4);
            for world in worlds {
                let ends = |name: &String| name.ends_with(version);
                assert!(world.imports.iter().chain(&world.exports).all(ends), "{world:?}");
                assert!(world.optional.len() < world.exports.len(), "{world:?}");
            }
        }
        assert_eq!(Abi::CURRENT, Abi::ALL[1], "the newest");
    }
}
