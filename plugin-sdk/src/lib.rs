//! Write plugins for the customer-data kernel Kith.
//!
//! A plugin is a type that implements the trait of its kind — [`Connector`], [`TagModel`], [`Scorer`] or [`Channel`] — and one
//! [`export!`]. `kith plugin new` lays out a crate, `kith plugin build` makes the component, and `cargo test` runs the plugin's
//! unit tests natively: there the same functions are answered by the [`testing`] host.
//!
//! This crate is responsible for the guest side of the contract in `wit/0.2.0`: bindings, columns, host functions, panic reports. It leaves
//! all of a manifest but its columns, limits and the making of components to the host.
//!
//! One complete plugin:
//!
//! ```
//! use kith_plugin_sdk::{Failure, Table, TagModel, config, export};
//!
//! /// Says who spends much. The manifest declares the input `spent` and the output `spender`.
//! struct BigSpender;
//!
//! #[derive(serde::Deserialize)]
//! struct Settings {
//!     threshold: f64,
//! }
//!
//! impl TagModel for BigSpender {
//!     fn evaluate(_state: &[u8], rows: &Table) -> Result<Table, Failure> {
//!         let settings: Settings = config::get()?;
//!         let spent = rows.float64("spent")?;
//!         let spender = spent.iter().map(|spent| spent.map(|spent| spent >= settings.threshold));
//!         Ok(Table::new(rows.len()).with_boolean("spender", spender))
//!     }
//! }
//!
//! export!(BigSpender as tag_model);
//!
//! // The unit test: plain Rust, no WebAssembly.
//! use kith_plugin_sdk::testing;
//! let rows = Table::new(3).with_float64("spent", [Some(20.0), Some(500.0), None]);
//! let tags = testing::with_config(serde_json::json!({ "threshold": 100 }), || BigSpender::evaluate(&[], &rows)).unwrap();
//! let spender: Vec<_> = tags.boolean("spender").unwrap().iter().collect();
//! assert_eq!(spender, [Some(false), Some(true), None]);
//! ```
//!
//! With [`manifest!`] the columns are types, and a misspelt one does not compile; `kith plugin new` writes models so.
#![deny(missing_docs)]

// The macro names this crate as a plugin does.
#[cfg(test)]
extern crate self as kith_plugin_sdk;

pub mod clock;
pub mod config;
pub mod consent;
pub mod http;
/// Reading JSON as senders write it: [`json::read`], and the parts of a document without reading them.
pub use kith_json as json;
pub mod kv;
pub mod log;
pub mod mail;
pub mod secrets;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod time;
pub mod webhook;

mod channel;
mod connector;
mod dataset;
mod declared;
mod emitted;
mod event;
mod failure;
mod model;
mod poll;
mod table;

#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
use bindings::host as platform;
#[cfg(not(target_arch = "wasm32"))]
use testing::platform;

pub use channel::{Callback, Channel, Message, Outcome, Receipt, SentAnswer, SentMail, Step};
pub use connector::{Answer, Connector, Received, Rejected, Request};
pub use dataset::{Batch, Dataset};
pub use declared::{Declared, DeclaredOutput};
pub use emitted::{Emitted, emit};
pub use event::{Event, EventKind, Identifier, Timestamp};
pub use failure::{Failure, Problem, Rejection};
pub use model::{Fitted, Scorer, TagModel};
pub use poll::{Page, PollAnswer, PollFailure, PollRequest, Turn, Wanted};
pub use table::{
    BooleanColumn, ColumnError, ColumnType, Float64Column, Float64ListColumn, Int64Column, Int64ListColumn,
    RecordFields, Records, RecordsColumn, Table, TextColumn, TextList, TextListColumn,
};

/// What [`export!`] needs from the plugin's crate. Not part of the API.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::bindings::{Exported, channel, connector, scorer, tag_model};
}

/// The columns of a tag model or a scorer as types, made of the manifest: what is misspelt does not compile.
///
/// `manifest!()` reads `plugin.toml` beside `Cargo.toml`, `manifest!("FILE")` another file by its path from there; once in a module. It
/// declares, where it stands:
///
/// - `Inputs`, with a typed column for each input. `Inputs::read(table)?` takes them from the table that the kernel hands over,
///   `inputs.rows()` goes through `Row`s, `inputs.spent` is the whole column.
/// - `Row`, with an optional value for each input.
/// - for each input of records, `orders` for one, `OrdersRecord` with an optional value for each field, in lists as [`Records`], and
///   `OrdersFields` with a column for each.
/// - `Outputs`, with an optional value for each output, of one row. Those of all rows are collected into a [`Table`].
/// - for each output that declares `values` an enum, `LevelValue` of `level`, with `as_str` and `ALL`.
/// - `DECLARED`, for [`testing::Host::evaluate`] and [`testing::Host::score`].
///
/// A column whose name is a word of Rust is written raw, `row.r#type`; `self`, `super` and `crate` get an underscore behind them. A
/// value is named by its words, `at_risk` is `AtRisk`; where that is no name, by its place, `V3`. A mistake in the
/// columns, a key that no manifest has, and an `abi` that there is not are the compiler's, with the line in `plugin.toml`; whether the
/// manifest is right in everything else says `kith plugin check`.
///
/// A misspelt column:
///
/// ```compile_fail
/// kith_plugin_sdk::manifest!("src/declared/level.toml");
///
/// fn spent(row: Row<'_>) -> Option<f64> {
///     row.spend
/// }
/// # fn main() {}
/// ```
///
/// A misspelt field of records:
///
/// ```compile_fail
/// kith_plugin_sdk::manifest!("src/declared/level.toml");
///
/// fn spent(row: Row<'_>) -> Option<f64> {
///     Some(row.purchases?.iter().filter_map(|purchase| purchase.amuont).sum())
/// }
/// # fn main() {}
/// ```
pub use kith_plugin_sdk_macros::manifest;

/// Make a type the plugin of this crate: `export!(Shop as connector);`, with one of the kinds `connector`, `tag_model`, `scorer` and
/// `channel`. Once in a crate. Natively it only checks that the type implements the kind's trait.
#[macro_export]
macro_rules! export {
    ($plugin:ty as connector) => {
        $crate::__export!($plugin, Connector, connector);
    };
    ($plugin:ty as tag_model) => {
        $crate::__export!($plugin, TagModel, tag_model);
    };
    ($plugin:ty as scorer) => {
        $crate::__export!($plugin, Scorer, scorer);
    };
    ($plugin:ty as channel) => {
        $crate::__export!($plugin, Channel, channel);
    };
    ($plugin:ty as $kind:ident) => {
        compile_error!("a plugin is exported as `connector`, `tag_model`, `scorer` or `channel`");
    };
}

/// The common part of [`export!`]'s arms.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ty, $role:ident, $world:ident) => {
        const _: () = {
            const fn implements_the_role<T: $crate::$role>() {}
            implements_the_role::<$plugin>();
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::__private::Exported<$plugin>;
    $crate::__private::$world::export!(Exported with_types_in $crate::__private::$world);
        };
    };
}
