//! Profiles: facts kept per contributor and folded by deterministic rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{InstallationId, Position, ProfileId, SourceIdentityId};
use crate::identity::Identifier;
use crate::time::Timestamp;

/// One fact as one contributor gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraitValue {
    /// The value as JSON text.
    pub json: String,
    /// The time of the event that gave it.
    pub time: Timestamp,
    pub source: InstallationId,
    /// The event that gave it.
    pub message_id: String,
}

impl TraitValue {
    /// Newer is later by event time; at the same time the greater message id, so that the order of arrival never matters.
    fn rank(&self) -> (Timestamp, &str) {
        (self.time, &self.message_id)
    }
}

/// The facts of one source identity: trait name → its newest value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    pub traits: BTreeMap<String, TraitValue>,
}

impl Contribution {
    /// Take a value unless a newer one is here.
    pub fn record(&mut self, name: &str, value: TraitValue) {
        match self.traits.get_mut(name) {
            Some(held) if held.rank() > value.rank() => {}
            Some(held) => *held = value,
            None => {
                self.traits.insert(name.to_owned(), value);
            }
        }
    }
}

/// A folded trait with the contributor it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedTrait {
    pub value: TraitValue,
    pub identity: SourceIdentityId,
}

/// Fold the contributions of a profile's source identities into one value for each trait: the last writer wins by
/// event time, then by message id, then by identity, whatever the order of `contributions`.
pub fn fold_traits<'a>(
    contributions: impl IntoIterator<Item = (SourceIdentityId, &'a Contribution)>,
) -> BTreeMap<String, FoldedTrait> {
    let mut folded: BTreeMap<String, FoldedTrait> = BTreeMap::new();
    for (identity, contribution) in contributions {
        for (name, value) in &contribution.traits {
            let rank = (value.rank(), identity);
            let wins = folded.get(name).is_none_or(|held| rank > (held.value.rank(), held.identity));
            if wins {
                folded.insert(name.clone(), FoldedTrait { value: value.clone(), identity });
            }
        }
    }
    folded
}

/// Which computation set a value: enough to explain it, to repeat it and to find all that a version wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    pub installation: InstallationId,
    /// SHA-256 of the plugin's component, in hexadecimal.
    pub digest: String,
    /// The fitted state's version; 0 where none was fitted.
    pub fit: u32,
    /// The log position of the newest event that the computation had seen for this profile.
    pub cause: Position,
    pub computed_at: Timestamp,
}

/// A labelled value on a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    /// The value as JSON text: a string, a number or a boolean.
    pub json: String,
    /// In 0..=1 where the model gives one.
    pub weight: Option<f64>,
    pub provenance: Provenance,
}

/// A number on a profile, made by a scorer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub value: f64,
    pub provenance: Provenance,
}

/// Who a source identity is: the identifier it stands for and the profile it belongs to now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityHead {
    pub identifier: Identifier,
    pub created_at: Timestamp,
    /// Dense number of the identity in its workspace, never reused. That of the identity which names a profile is the
    /// profile's bit in audience bitmaps.
    pub ordinal: u32,
    pub profile: ProfileId,
    /// Present on the identity that names its profile.
    pub root: Option<ProfileRoot>,
}

/// The profile that an identity names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRoot {
    /// Sorted; the first is the identity itself, the oldest.
    pub members: Vec<SourceIdentityId>,
    /// Whether evidence that touches a member was vetoed: only then can new evidence change more than it joins.
    pub contested: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str, time: i64, message_id: &str) -> TraitValue {
        TraitValue {
            json: json.into(),
            time: Timestamp(time),
            source: InstallationId(1),
            message_id: message_id.into(),
        }
    }

    #[test]
    fn the_later_value_wins_whatever_the_order() {
        let (a, b) = (SourceIdentityId([1; 16]), SourceIdentityId([2; 16]));
        let mut one = Contribution::default();
        one.record("city", value("\"Rome\"", 5, "m1"));
        one.record("city", value("\"Oslo\"", 4, "m3"));
        let mut two = Contribution::default();
        two.record("city", value("\"Bern\"", 5, "m2"));
        let forth = fold_traits([(a, &one), (b, &two)]);
        let back = fold_traits([(b, &two), (a, &one)]);
        assert_eq!(forth, back);
        assert_eq!(forth["city"].value.json, "\"Bern\"");
        assert_eq!(forth["city"].identity, b);
    }
}
