//! Expressions over a profile: one language for plugin inputs, audience conditions, journey branches and rule tags.
//!
//! This crate parses, checks, compiles and evaluates them, keeps their aggregates over events up to date event by event
//! ([`Leaf`], [`LeafStates`]), finds the aggregates that an event feeds ([`Program`]) and the expressions that a change may
//! concern ([`Reach`]), and counts conditions over all profiles with bitmaps ([`index::Index`]). It does no I/O: profiles,
//! events and the time come in as arguments, states and values go out.
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
//! `kind`, `time` and `source`, the objects `properties`, `traits` and `context`, and by its bare name every property that
//! is called otherwise: a property `name` is `e.properties.name`. `events('*')` leaves out the events in which the kernel
//! tells of its own work (`Message …`); by name they are there. There are `size`, `sum`, `min`, `max`, `avg`,
//! `first`, `last`, `distinct` on lists; `contains`, `startsWith`, `endsWith`, `lower`, `upper`, `size` on texts; `has(…)`,
//! `in`, `int(x)`, `double(x)`, `string(x)`, `timestamp('2026-11-21')`, `duration('7d')`; `c ? a : b`, `&&`, `||`, `!`,
//! comparisons and arithmetic. Beyond CEL: `/` never truncates (`7 / 2` is 3.5, whatever JSON wrote the numbers like), a
//! text that names a moment compares and calculates with times, and nothing fails while it is evaluated.
//!
//! # Null and unknown
//!
//! Null is the value of what is not there. Unknown is the value of what is pending: a tag or a score whose model has not
//! run yet on what the profile is now. Nothing else is unknown, no list holds an unknown item, and nobody can write it.
//! Operators and functions are strict in unknown, because any value may yet come; only `&&`, `||`, `? :` and the macros
//! over lists answer where no value that may come could change the answer. One table for every operator, read by a test:
//!
//! | written | where x is null | where x is unknown |
//! | --- | --- | --- |
//! | `x == 1`, `1 == x` | `false` | `unknown` |
//! | `x == null` | `true` | `unknown` |
//! | `x != 1` | `true` | `unknown` |
//! | `x < 1`, `x <= 1`, `x > 1`, `x >= 1`, `1 < x` | `null` | `unknown` |
//! | `x + 1`, `x - 1`, `x * 2`, `x / 2`, `x % 2`, `now - x`, `-x` | `null` | `unknown` |
//! | `has(x)` | `false` | `unknown` |
//! | `x in [1]`, `x in []` | `false` | `unknown` |
//! | `x in [null]` | `true` | `unknown` |
//! | `1 in x` | `null` | `unknown` |
//! | `x.y`, `x[0]`, `[1, 2][x]` | `null` | `unknown` |
//! | `[1, x]` | `[1, null]` | `unknown` |
//! | `!x` | `null` | `unknown` |
//! | `x && true`, `true && x`, `x && null`, `null && x`, `x && 1` | `null` | `unknown` |
//! | `x && false`, `false && x` | `false` | `false` |
//! | `x \|\| false`, `false \|\| x`, `x \|\| null`, `null \|\| x`, `x \|\| 1` | `null` | `unknown` |
//! | `x \|\| true`, `true \|\| x` | `true` | `true` |
//! | `x ? 1 : 2` | `2` | `unknown` |
//! | `x ? 1 : 1`, `false ? x : 1` | `1` | `1` |
//! | `true ? x : 1` | `null` | `unknown` |
//! | `[1].exists(i, x)`, `[1].all(i, x)`, `[1].exists_one(i, x)` | `false` | `unknown` |
//! | `[1, 2].exists(i, i == 2 \|\| x)` | `true` | `true` |
//! | `[1, 2].all(i, i == 2 && x)`, `[1, 2, 3].exists_one(i, i > 1 \|\| x)` | `false` | `false` |
//! | `[1].filter(i, x)`, `[1].map(i, x, i)` | `[]` | `unknown` |
//! | `[1].map(i, x)` | `[null]` | `unknown` |
//! | `x.exists(i, true)`, `x.all(i, true)`, `x.exists_one(i, true)`, `x.filter(i, true)`, `x.map(i, i)` | `null` | `unknown` |
//! | `x.size()`, `x.sum()`, `x.min()`, `x.max()`, `x.avg()`, `x.first()`, `x.last()`, `x.distinct()` | `null` | `unknown` |
//! | `x.contains('a')`, `x.startsWith('a')`, `x.endsWith('a')`, `'a'.contains(x)`, `x.lower()`, `x.upper()` | `null` | `unknown` |
//! | `int(x)`, `double(x)`, `string(x)`, `timestamp(x)`, `duration(x)` | `null` | `unknown` |
//!
//! A condition (of an audience, a macro, `? :`) that is null or no boolean does not hold. One that is unknown does not hold
//! either, and does not fail to hold: membership moves only between true and false.
//!
//! # What else gives null
//!
//! | case | result |
//! | --- | --- |
//! | a trait, tag, score, property, field or item that is not there | null |
//! | `null == null` | true |
//! | an order, arithmetic or function of kinds that do not go together (`1 < 'a'`) | null |
//! | `==` between kinds that do not go together | false |
//! | an operand of `&&`, `\|\|`, `!` that is no boolean | counts as null |
//! | division by zero, overflow of whole numbers, a float beyond range | null |
//! | items that are null, in `sum`, `min`, `max`, `avg`, `distinct` | left out; `size`, `first`, `last` take them as items |
//! | items that are no numbers, in `sum` and `avg` | left out |
//! | `sum` of nothing; `min`, `max`, `avg`, `first`, `last` of nothing | 0; null |
//!
//! Sums are exact and rounded once, so they do not depend on the order of events. `min`, `max` and `distinct` of mixed
//! kinds follow one order: booleans, numbers, texts, times, durations, lists, maps.
//!
//! # What an evaluation may cost
//!
//! One evaluation takes at most [`MAX_STEPS`] steps and makes at most [`MAX_PRODUCED_BYTES`] bytes of texts and lists. An
//! expression that would take more of whatever it meets is refused when it is parsed. One that takes more of somebody is
//! unknown for that person, and [`Expression::evaluate_within`] says so; in an aggregate's filter, or in what it takes of an event,
//! it is null.

mod budget;
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
mod reach;
mod sum;
mod syntax;
mod tree;
mod value;
mod window;
mod zone;

pub use budget::{MAX_PRODUCED_BYTES, MAX_STEPS};
pub use error::ExpressionError;
pub use event::EventFacts;
pub use explain::{Part, Truth};
pub use expression::{Expression, Reads};
pub use facts::Facts;
pub use leaf::{Leaf, LeafGroups, LeafState, LeafStates, MAX_STATE_BYTES, SealedChunk, UnreadableState};
pub use program::Program;
pub use reach::Reach;
pub use syntax::{MAX_EXPRESSION_BYTES, MAX_OPERATORS};
pub use tree::{FeatureName, LeafId};
pub use value::{Duration, Value};
pub use window::{MAX_WINDOW_DAYS, Window};
pub use zone::{UnknownZone, Zone};

#[cfg(test)]
mod tests;
