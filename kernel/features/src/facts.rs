//! What an expression sees of a profile.

use kith_model::time::Timestamp;

use crate::value::Value;

/// The folded facts of one profile. What it does not have is [`Value::Null`].
pub trait Facts {
    /// `traits.NAME`
    fn trait_value(&self, name: &str) -> Value;

    /// `tags.NAME`
    fn tag_value(&self, name: &str) -> Value;

    /// `scores.NAME`
    fn score_value(&self, name: &str) -> Value;

    /// `profile.created_at`
    fn created_at(&self) -> Option<Timestamp>;

    /// `profile.identifiers.KIND`: a list of texts, null where there is none of that type.
    fn identifiers(&self, kind: &str) -> Value {
        let _ = kind;
        Value::Null
    }
}

/// Facts of nobody, or of somebody of whom nothing is known: every value is null.
#[derive(Debug, Clone, Copy)]
pub struct NoFacts;

impl Facts for NoFacts {
    fn trait_value(&self, _: &str) -> Value {
        Value::Null
    }

    fn tag_value(&self, _: &str) -> Value {
        Value::Null
    }

    fn score_value(&self, _: &str) -> Value {
        Value::Null
    }

    fn created_at(&self) -> Option<Timestamp> {
        None
    }
}
