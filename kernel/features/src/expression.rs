//! A checked and compiled expression.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use kith_model::time::Timestamp;

use crate::budget::{MAX_STEPS, worst_case};
use crate::compile::compile;
use crate::error::ExpressionError;
use crate::eval::{PartId, PartValues, Scope, parts_of};
use crate::facts::Facts;
use crate::leaf::Leaf;
use crate::required::{self, RequiredIdentifier};
use crate::syntax::{self, ParsedExpression};
use crate::tree::{FeatureName, LeafId, Node, Text};
use crate::value::Value;
use crate::zone::Zone;

/// What an expression reads: its dependencies and, for a plugin's input, what the plugin gets to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    pub traits: BTreeSet<String>,
    pub tags: BTreeSet<String>,
    pub scores: BTreeSet<String>,
    /// Types of identifiers.
    pub identifiers: BTreeSet<String>,
    /// Whether it reads `profile.created_at`.
    pub created_at: bool,
    /// Whether it reads `now`, so that its value may change without an event or a new fact.
    pub uses_now: bool,
    /// Whether it uses `now` other than by comparing times with it, as `now - traits.t` alone does. Its value then
    /// changes all the time; it is re-evaluated when something else changes and at each midnight of the workspace.
    pub drifts: bool,
    /// Its aggregates over events, in ascending order.
    pub leaves: Vec<LeafId>,
}

/// An expression over a profile: parsed, checked and compiled. Cheap to clone.
#[derive(Clone)]
pub struct Expression(Arc<Inner>);

struct Inner {
    text: String,
    written: Node,
    compiled: Node,
    leaves: BTreeMap<LeafId, Arc<Leaf>>,
    parts: Vec<PartId>,
    reads: Reads,
    zone: Zone,
    /// What is refused of a condition that somebody defines, and taken of one that is defined already.
    mistakes: Vec<ExpressionError>,
}

impl Expression {
    /// Whether it can be a condition that somebody defines now: something that is never true or false holds for nobody, and
    /// nor does a part of it that cannot mean what it reads like.
    ///
    /// # Errors
    /// [`ExpressionError`] with the place and what to write.
    pub fn check_condition(&self) -> Result<(), ExpressionError> {
        match self.0.mistakes.first() {
            Some(mistake) => Err(mistake.clone()),
            None => Ok(()),
        }
    }

    /// Parse, check and compile.
    ///
    /// # Errors
    /// [`ExpressionError`] with the place and the reason, for what is no expression and for what cannot be kept up to
    /// date by itself.
    pub fn parse(text: &str) -> Result<Expression, ExpressionError> {
        Expression::parse_in(text, "")
    }

    /// [`Expression::parse`] in a context on which the states of leaves depend beside their text: the name of the zone
    /// whose days they count. In another context the same text has leaves of other ids, so that no state of the old
    /// zone is read as one of the new.
    ///
    /// # Errors
    /// As [`Expression::parse`].
    pub fn parse_in(text: &str, context: &str) -> Result<Expression, ExpressionError> {
        // A name that is no zone is that of a test.
        let zone = Zone::parse(context).unwrap_or_default();
        let ParsedExpression { node: written, mistakes } = syntax::parse(text, &zone)?;
        let compiled = compile(&written, context);
        let parts = compiled.leaves.values().flat_map(|leaf| leaf.parts()).chain([&compiled.tree]);
        let steps = parts.map(|part| worst_case(part).0).max().unwrap_or_default();
        if steps > MAX_STEPS {
            kith_model::budget::table::EXPRESSION_STEPS.count();
            let message =
                format!("it may take {steps} steps for one person, at most {MAX_STEPS} are allowed: loop less");
            return Err(ExpressionError::at(text, 1, 1, message));
        }
        let mut reads = Reads { drifts: compiled.drifts, ..Reads::default() };
        note_reads(&compiled.tree, &mut reads);
        reads.leaves = compiled.leaves.keys().copied().collect();
        Ok(Expression(Arc::new(Inner {
            text: text.to_owned(),
            written,
            parts: parts_of(&compiled.tree, context),
            compiled: compiled.tree,
            leaves: compiled.leaves,
            reads,
            zone,
            mistakes,
        })))
    }

    /// Identifiers of which a person has at least one wherever the condition is true or unknown: of
    /// `'a@example.com' in profile.identifiers.email && …` that address. Whoever knows who has an identifier need look at
    /// nobody else. `None` where the condition may hold without any.
    pub fn required_identifiers(&self) -> Option<Vec<RequiredIdentifier>> {
        required::identifiers(&self.0.compiled)
    }

    /// The text that it was parsed from.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// What it reads.
    pub fn reads(&self) -> &Reads {
        &self.0.reads
    }

    /// The trait that it is, where it is one and nothing more.
    pub fn bare_trait(&self) -> Option<&str> {
        match self.compiled() {
            Node::Feature(FeatureName::Trait(name)) => Some(name),
            _ => None,
        }
    }

    /// Its aggregates over events.
    pub fn leaves(&self) -> impl Iterator<Item = &Arc<Leaf>> {
        self.0.leaves.values()
    }

    /// Its value, given the profile's facts and the values of its leaves at `now`; unknown where
    /// [`Expression::evaluate_within`] has none.
    pub fn evaluate(&self, facts: &dyn Facts, leaf_value: &dyn Fn(LeafId) -> Value, now: Timestamp) -> Value {
        self.evaluate_within(facts, leaf_value, now).unwrap_or(Value::Unknown)
    }

    /// Its value; `None` where one evaluation's budget ends before it is known.
    pub fn evaluate_within(
        &self,
        facts: &dyn Facts,
        leaf_value: &dyn Fn(LeafId) -> Value,
        now: Timestamp,
    ) -> Option<Value> {
        let scope = Scope::new(facts, leaf_value, now, &self.0.zone);
        let value = scope.evaluate(&self.0.compiled);
        (!scope.budget.is_exhausted()).then_some(value)
    }

    /// [`Expression::evaluate_within`] of one of several conditions, of which what they have in common is evaluated once. The values
    /// are of the same person at the same moment.
    pub fn evaluate_sharing(
        &self,
        facts: &dyn Facts,
        leaf_value: &dyn Fn(LeafId) -> Value,
        now: Timestamp,
        values: &PartValues<'_>,
    ) -> Option<Value> {
        if values.is_idle() {
            return self.evaluate_within(facts, leaf_value, now);
        }
        let scope = Scope::new(facts, leaf_value, now, &self.0.zone);
        let value = scope.evaluate_parts(&self.0.compiled, &self.0.parts, values);
        (!scope.budget.is_exhausted()).then_some(value)
    }

    /// What stands between its `&&` and `||`, in the order in which it is written.
    pub(crate) fn parts(&self) -> &[PartId] {
        &self.0.parts
    }

    /// The earliest later moment at which the value may change though no event comes, no fact changes and every leaf
    /// keeps its value; leaves have their own [`Leaf::next_change_at`]. `None` when it never does.
    ///
    /// Comparisons of times with `now` are followed to the millisecond. An expression that [`Reads::drifts`] changes all
    /// the time; for it the answer is the next midnight at the latest.
    pub fn next_change_at(
        &self,
        facts: &dyn Facts,
        leaf_value: &dyn Fn(LeafId) -> Value,
        now: Timestamp,
        zone: &Zone,
    ) -> Option<Timestamp> {
        if !self.0.reads.uses_now {
            return None;
        }
        let scope = Scope::new(facts, leaf_value, now, &self.0.zone);
        scope.evaluate(&self.0.compiled);
        let midnight = self.0.reads.drifts.then(|| zone.start_of_day(zone.day(now).saturating_add(1)));
        [scope.next_change_at.get(), midnight].into_iter().flatten().min()
    }

    /// The zone whose days its dates and windows are.
    pub(crate) fn zone(&self) -> &Zone {
        &self.0.zone
    }

    /// The tree as written.
    pub(crate) fn written(&self) -> &Node {
        &self.0.written
    }

    /// The compiled tree.
    pub(crate) fn compiled(&self) -> &Node {
        &self.0.compiled
    }

    /// The text of a part of the compiled tree.
    pub(crate) fn text_of(&self, node: &Node) -> String {
        let leaf = |id: LeafId| self.0.leaves.get(&id).map(|leaf| leaf.text().to_owned());
        Text { node, leaf: &leaf }.to_string()
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Expression, ExpressionError> {
        Expression::parse(text)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({})", self.0.text)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

fn note_reads(node: &Node, reads: &mut Reads) {
    let note = |names: &mut BTreeSet<String>, name: &str| {
        names.insert(name.to_owned());
    };
    match node {
        Node::Now => reads.uses_now = true,
        Node::Feature(FeatureName::Trait(name)) => note(&mut reads.traits, name),
        Node::Feature(FeatureName::Tag(name)) => note(&mut reads.tags, name),
        Node::Feature(FeatureName::Score(name)) => note(&mut reads.scores, name),
        Node::Feature(FeatureName::Identifiers(kind)) => note(&mut reads.identifiers, kind),
        Node::Feature(FeatureName::CreatedAt) => reads.created_at = true,
        _ => {}
    }
    node.children().into_iter().for_each(|child| note_reads(child, reads));
}
