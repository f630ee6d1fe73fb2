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
//! `first`, `last`, `distinct` on lists; `contains`, `startsWith`, `endsWith`, `matches`, `lower`, `upper`, `size` on texts; `year`,
//! `month`, `day`, `weekday`, `hour` on times; `has(…)`,
//! `in`, `int(x)`, `double(x)`, `string(x)`, `timestamp('2026-11-21')`, `duration('7d')`; `c ? a : b`, `&&`, `||`, `!`,
//! comparisons and arithmetic; `{'a': …, 'b': …}` as what `map` makes of an item. Beyond CEL: `/` never truncates (`7 / 2` is 3.5, whatever JSON wrote the numbers like), a
//! text that names a moment compares and calculates with times, and nothing fails while it is evaluated.
//!
//! # Null and unknown
//!
//! Null is the value of what is not there. Unknown is the value of what is pending: a tag or a score whose model has not
//! run yet on what the profile is now. Nothing else is unknown, no list holds an unknown item, and nobody can write it.
//!
//! A condition holds or does not hold: comparisons, `in`, `has`, the tests of texts, `&&`, `||` and `!` give true or false and
//! never null, and `!c` holds exactly where `c` does not. What is absent compares with nothing, is no item of a list and is in
//! none but `[null]`; where a list is asked for it is the empty one, and what is no list is a list of itself alone. A text that
//! is written exactly as JSON writes a number compares, calculates and is added up as that number wherever the other side is a
//! number; two texts compare letter by letter.
//!
//! Operators and functions are strict in unknown, because any value may yet come; only `&&`, `||`, `? :` and the macros
//! over lists answer where no value that may come could change the answer. One table for every operator, read by a test:
//!
//! | written | where x is null | where x is unknown |
//! | --- | --- | --- |
//! | `x == 1`, `1 == x`, `x == ''`, `'' == x` | `false` | `unknown` |
//! | `x == null` | `true` | `unknown` |
//! | `x != 1`, `x != ''` | `true` | `unknown` |
//! | `x < 1`, `x <= 1`, `x > 1`, `x >= 1`, `1 < x` | `false` | `unknown` |
//! | `!(x == 1)`, `!(x < 1)`, `!(x >= 1)`, `!(1 in x)`, `!(x in [1])`, `!has(x)`, `!x.contains('a')` | `true` | `unknown` |
//! | `x + 1`, `x - 1`, `x * 2`, `x / 2`, `x % 2`, `now - x`, `-x`, `x + 'a'` | `null` | `unknown` |
//! | `has(x)`, `has(x + 1)` | `false` | `unknown` |
//! | `x in [1]`, `x in []` | `false` | `unknown` |
//! | `x in [null]` | `true` | `unknown` |
//! | `1 in x` | `false` | `unknown` |
//! | `x.y`, `x[0]`, `[1, 2][x]` | `null` | `unknown` |
//! | `[1, x]` | `[1, null]` | `unknown` |
//! | `!x` | `true` | `unknown` |
//! | `x && true`, `true && x` | `false` | `unknown` |
//! | `x && false`, `false && x` | `false` | `false` |
//! | `x \|\| false`, `false \|\| x` | `false` | `unknown` |
//! | `x \|\| true`, `true \|\| x` | `true` | `true` |
//! | `x ? 1 : 2` | `2` | `unknown` |
//! | `x ? 1 : 1`, `false ? x : 1` | `1` | `1` |
//! | `true ? x : 1` | `null` | `unknown` |
//! | `[1].exists(i, x)`, `[1].all(i, x)`, `[1].exists_one(i, x)` | `false` | `unknown` |
//! | `[1, 2].exists(i, i == 2 \|\| x)` | `true` | `true` |
//! | `[1, 2].all(i, i == 2 && x)`, `[1, 2, 3].exists_one(i, i > 1 \|\| x)` | `false` | `false` |
//! | `[1].filter(i, x)`, `[1].map(i, x, i)` | `[]` | `unknown` |
//! | `[1].map(i, x)` | `[null]` | `unknown` |
//! | `[1].map(i, {'a': x})` | `[{'a': null}]` | `unknown` |
//! | `x.exists(i, true)`, `x.exists_one(i, true)` | `false` | `unknown` |
//! | `x.all(i, false)` | `true` | `unknown` |
//! | `x.filter(i, true)`, `x.map(i, i)`, `x.distinct()` | `[]` | `unknown` |
//! | `x.size()`, `x.sum()` | `0` | `unknown` |
//! | `x.min()`, `x.max()`, `x.avg()`, `x.first()`, `x.last()` | `null` | `unknown` |
//! | `x.contains('a')`, `x.startsWith('a')`, `x.endsWith('a')`, `'a'.contains(x)`, `x.matches('a')` | `false` | `unknown` |
//! | `x.lower()`, `x.upper()` | `null` | `unknown` |
//! | `int(x)`, `double(x)`, `string(x)`, `timestamp(x)`, `duration(x)` | `null` | `unknown` |
//! | `year(x)`, `month(x)`, `day(x)`, `weekday(x)`, `hour(x)`, `x.month()` | `null` | `unknown` |
//!
//! A condition (of an audience, a macro, `? :`) that is null or no boolean does not hold. One that is unknown does not hold
//! either, and does not fail to hold: membership moves only between true and false.
//!
//! # What gives null, and what is false
//!
//! | case | result |
//! | --- | --- |
//! | a trait, tag, score, property, field or item that is not there | null |
//! | `null == null` | true |
//! | a comparison of kinds that do not go together (`1 < 'a'`, `1 == 'a'`), but for `!=` | false |
//! | arithmetic or a function of kinds that do not go together (`1 + 'a'`) | null |
//! | an operand of `&&`, `\|\|`, `!` that is no boolean | does not hold |
//! | division by zero, overflow of whole numbers, a float beyond range | null |
//! | items that are null, in `sum`, `min`, `max`, `avg`, `distinct` | left out; `size`, `first`, `last` take them as items |
//! | items that are neither numbers nor texts that are, in `sum` and `avg` | left out |
//! | texts that are numbers, in `sum`, `avg`, `min`, `max` | count as the numbers |
//! | numbers where a text is asked for (`contains`, `lower`, `matches`) | as they are written |
//! | a date where a time is asked for | its midnight in the workspace's zone |
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

mod asks;
mod budget;
mod compile;
mod error;
mod eval;
mod event;
mod explain;
mod expression;
mod facts;
mod functions;
pub mod index;
mod kinds;
mod leaf;
mod leaf_set;
pub mod naive;
mod pattern;
mod program;
mod reach;
mod reference;
mod required;
mod sees;
mod sum;
mod syntax;
mod tree;
mod value;
mod window;
mod zone;

pub use asks::{Ask, Comparand};
pub use budget::{MAX_PRODUCED_BYTES, MAX_STEPS};
pub use error::ExpressionError;
pub use eval::{PartValues, SharedParts};
pub use event::EventFacts;
pub use explain::{Part, Truth};
pub use expression::{Expression, Reads};
pub use facts::{Facts, NoFacts};
pub use kinds::Kinds;
pub use leaf::{Leaf, LeafGroups, LeafState, LeafStates, MAX_STATE_BYTES, SealedChunk, UnreadableState};
pub use leaf_set::LeafSet;
pub use program::Program;
pub use reach::Reach;
pub use reference::reference;
pub use required::RequiredIdentifier;
pub use sees::Sees;
pub use syntax::{MAX_EXPRESSION_BYTES, MAX_OPERATORS};
pub use tree::{FeatureName, LeafId};
pub use value::{Duration, Misfit, Value};
pub use window::{MAX_WINDOW_DAYS, Window};
pub use zone::{UnknownZone, Zone};

/// Which meaning expressions have. It changes with what any operator or function gives of the same values, and with whom the
/// budget of an evaluation ends for, so that everybody is looked at once more and nobody stays what an older meaning made of him.
pub const MEANING: u32 = 2;

#[cfg(test)]
mod tests;
