//! Expressions over a profile: one language for plugin inputs, audience conditions, journey branches and rule tags.
//!
//! This crate parses, checks, compiles and evaluates them, keeps their aggregates over events up to date event by event,
//! and counts conditions over all profiles with bitmaps. It does no I/O: profiles, events and the time come in as
//! arguments, states and values go out.
//!
//! # The language
//!
//! CEL's syntax over these names:
//!
//! | written | is |
//! | --- | --- |
//! | `traits.city`, `traits['last visit']`, `tags.x`, `scores.x` | a value of the profile |
//! | `profile.created_at`, `profile.identifiers.email` | a time; a list of texts |
//! | `now` | the present moment |
//! | `events('Order Completed')`, `events('Order Completed', '90d')`, `events('*')` | the profile's events of that name (of every name), earliest first; [`Window`] tells what a window holds |
//!
//! In `list.filter(e, …)`, `.map(e, …)`, `.exists(e, …)`, `.all(e, …)` and `.exists_one(e, …)` over events, `e` has `name`,
//! `kind`, `time`, `source`, and every other field of its properties. There are `size`, `sum`, `min`, `max`, `avg`,
//! `first`, `last`, `distinct` on lists; `contains`, `startsWith`, `endsWith`, `lower`, `upper`, `size` on texts; `has(…)`,
//! `in`, `int(x)`, `double(x)`, `string(x)`, `timestamp('2026-11-21')`, `duration('7d')`; `c ? a : b`, `&&`, `||`, `!`,
//! comparisons and arithmetic. Beyond CEL: `/` never truncates (`7 / 2` is 3.5, whatever JSON wrote the numbers like), a
//! text that names a moment compares and calculates with times, and nothing fails while it is evaluated.
//!
//! # Null
//!
//! | case | result |
//! | --- | --- |
//! | a trait, tag, score, property, field or item that is not there | null |
//! | `null == null`; `null == x`; `null != x` | true; false; true |
//! | any other comparison, arithmetic or function of null, or of kinds that do not go together (`1 < 'a'`) | null |
//! | `==` between kinds that do not go together | false |
//! | `has(x)` | whether x is not null |
//! | `null in list`; `x in null` | whether the list holds null; null |
//! | `true && null`, `false \|\| null`, `!null` | null; any operand that is no boolean counts as null |
//! | `false && null`; `true \|\| null` | false; true |
//! | a condition (of an audience, a macro, `? :`) that is null or no boolean | does not hold |
//! | division by zero, overflow of whole numbers, a float beyond range | null |
//! | items that are null, in `sum`, `min`, `max`, `avg`, `distinct` | left out; `size`, `first`, `last` take them as items |
//! | items that are no numbers, in `sum` and `avg` | left out |
//! | `sum` of nothing; `min`, `max`, `avg`, `first`, `last` of nothing | 0; null |
//!
//! Sums are exact and rounded once, so they do not depend on the order of events. `min`, `max` and `distinct` of mixed
//! kinds follow one order: booleans, numbers, texts, times, durations, lists, maps.

mod compile;
mod error;
mod eval;
mod event;
mod explain;
mod expression;
mod facts;
pub mod index;
mod leaf;
pub mod naive;
mod program;
mod sum;
mod syntax;
mod tree;
mod value;
mod window;
mod zone;

pub use error::ExpressionError;
pub use event::EventFacts;
pub use explain::Part;
pub use expression::{Expression, Reads};
pub use facts::Facts;
pub use leaf::{Leaf, LeafState};
pub use program::Program;
pub use syntax::{MAX_EXPRESSION_BYTES, MAX_OPERATORS};
pub use tree::{FeatureName, LeafId};
pub use value::{Duration, Value};
pub use window::{MAX_WINDOW_DAYS, Window};
pub use zone::{UnknownZone, Zone};

#[cfg(test)]
mod tests;
