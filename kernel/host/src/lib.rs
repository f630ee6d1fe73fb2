//! The plugin host: manifests, packages, and running plugins in WebAssembly.
//!
//! This is the only crate that knows wasmtime. It reads manifests ([`parse_manifest`]), makes and inspects packages
//! ([`assemble`], [`inspect`]), and turns an inspected component plus an installation's [`Binding`] into the model's role
//! traits ([`Host`], [`Plugin`]). When a plugin runs, on which events, and what its results change is others' work.
//!
//! Every call runs in a fresh instance, or one that the calls before it in the same pass of a model left, on the caller's thread,
//! within limits that are always on. A guest that breaks one,
//! traps, or returns what its manifest does not declare ends in a typed [`PluginFault`](kith_model::plugin::PluginFault);
//! nothing that a guest does ends the process.

mod abi;
mod bindings;
mod cache;
mod call;
mod compile;
#[cfg(test)]
mod contract_tests;
mod convert;
mod egress;
mod engine;
mod exports;
#[cfg(test)]
mod guests;
mod hidden;
mod host;
#[cfg(test)]
mod hostile_tests;
mod imports;
mod key_value;
mod link;
mod manifest;
mod network;
mod observed;
mod package;
#[cfg(test)]
mod peers;
mod policy;
mod roles;
mod signing;
mod state;
mod text;
mod verify;

pub use abi::{Abi, AbiStatus, AbiWorld};
pub use compile::{CONFINES, ChildPriority, CompileError, CompileMode, CompiledCode, compile_child_main, confine};
pub use hidden::SHORTEST_HIDDEN;
pub use host::{Host, HostConfig, HostError, KERNEL_VERSION, LoadError, Plugin};
pub use key_value::{
    Expected, KeptKey, KeyPage, KeyQuery, KeyValue, KeyValueError, MemoryKeyValue, Setting, has_expired,
};
pub use manifest::{
    ConfigError, ConfigMistake, LIMIT_NAMES, MAX_MANIFEST_BYTES, ManifestError, ManifestMistake, Parted, PlannedSchema,
    dotted, filled_in_write_only, joined, manifest_schema, mistake_in, parse_kept_manifest, parse_manifest, parted,
    validate_config, validate_unshown_config, would_show, write_only, writes,
};
pub use observed::{LineLevel, LinePage, LineSpace, Observed, SeenFault, SeenLine, Usage};
pub use package::{
    ABI_SECTION, Anatomy, AnatomyPart, AnatomySection, Carried, Inspection, MANIFEST_SECTION, MemoryPages,
    PackageError, anatomy, assemble, inspect, inspect_within, look_within, pack,
};
pub use policy::{
    EffectiveLimit, GrantedHost, HostPort, HttpRule, InvalidGrant, InvalidHost, ItemKind, LABEL_ITEM, LimitSource,
    Limits, Policy, PolicyItem, SeenSensitive, Side, effective_policy, policy_items,
};
pub use roles::{Asking, BindError, Binding, CheckError, ConfigProblem};
pub use signing::check_secret;
