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
