//! Profiles: facts kept per contributor and folded by deterministic rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::consent::CONSENT;
use crate::id::{InstallationId, Position, ProfileId, SourceIdentityId};
use crate::identity::{EdgeRank, Identifier, IdentityRules};
use crate::time::{DAY_MS, Timestamp};

/// One fact as one contributor gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraitValue {
    /// The value as JSON text.
    pub json: String,
    /// The time of the event that gave it, not past its receipt.
    pub time: Timestamp,
    /// When the kernel received that event, by its own clock.
    pub received_at: Timestamp,
    pub source: InstallationId,
    /// The event that gave it.
    pub message_id: String,
    /// Where that event stood in what brought it, as [`Event::place`](crate::event::Event::place).
    pub place: u64,
}

/// How far a sender's clock may be ahead of the kernel's and still order evidence.
const MAX_AHEAD_MS: i64 = DAY_MS;

/// The time by which a piece of evidence of an event is ordered: the event's own, at most a day past its receipt.
pub fn believed(time: Timestamp, received_at: Timestamp) -> Timestamp {
    time.min(received_at.plus_ms(MAX_AHEAD_MS))
}

impl TraitValue {
    /// Newer is later by event time; at the same time what was received later, of one file or request what stands further
    /// behind, then the greater message id.
    /// The trait `consent` is ordered by receipt, as the [`Consents`](crate::consent::Consents) are that it told of.
    pub fn rank(&self, name: &str) -> (Timestamp, Timestamp, u64, &str) {
        match name {
            CONSENT => (self.received_at, self.time, self.place, &self.message_id),
            _ => (self.time, self.received_at, self.place, &self.message_id),
        }
    }
}

/// The facts of one source identity: trait name → its newest value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    pub traits: BTreeMap<String, TraitValue>,
}

impl Contribution {
    /// Take a value unless a newer one is here; the value that it replaces.
    pub fn record(&mut self, name: &str, value: TraitValue) -> Option<TraitValue> {
        match self.traits.get_mut(name) {
            Some(held) if held.rank(name) > value.rank(name) => None,
            Some(held) => Some(std::mem::replace(held, value)),
            None => self.traits.insert(name.to_owned(), value),
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
/// event time, then by receipt, place, message id and identity, whatever the order of `contributions`.
pub fn fold_traits<'a>(
    contributions: impl IntoIterator<Item = (SourceIdentityId, &'a Contribution)>,
) -> BTreeMap<String, FoldedTrait> {
    let mut folded: BTreeMap<String, FoldedTrait> = BTreeMap::new();
    for (identity, contribution) in contributions {
        for (name, value) in &contribution.traits {
            let rank = (value.rank(name), identity);
            let wins = folded.get(name).is_none_or(|held| rank > (held.value.rank(name), held.identity));
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
    /// How much evidence ties it to identities of each type; what is not listed has none.
    pub evidence: Vec<EvidenceCount>,
}

impl IdentityHead {
    /// Whether it ties nobody, because it came with more identities of a limited type than the rules allow.
    pub fn is_shared(&self, rules: &IdentityRules) -> bool {
        rules.is_shared(&self.identifier.kind, &self.evidence)
    }

    /// Take over how much evidence there is of a kind.
    pub fn count_evidence(&mut self, count: EvidenceCount) {
        match self.evidence.iter_mut().find(|known| known.kind == count.kind) {
            Some(known) => *known = count,
            None => self.evidence.push(count),
        }
    }

    /// Whether it is another spelling of an identifier of the same person.
    pub fn is_spelling(&self) -> bool {
        IdentityRules::is_spelling(self.evidence.iter().filter(|held| held.count > 0).map(|held| held.kind.as_deref()))
    }

    /// Whether another identifier of the same person is shown in its place: it is a spelling, or the old id of an alias without
    /// its type.
    pub fn is_in_background(&self) -> bool {
        self.is_spelling() || self.identifier.is_previous()
    }

    /// Whether it stands behind another, which counts in its place.
    pub fn is_behind(&self) -> bool {
        IdentityRules::is_behind(self.evidence.iter().filter(|held| held.count > 0).map(|held| held.kind.as_deref()))
    }
}

/// How much evidence one identity has under one [`EvidenceBound`](crate::identity::EvidenceBound).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceCount {
    /// The type of the other ends, or the name of a rule's own evidence; `None` for all types without a limit together.
    pub kind: Option<String>,
    pub count: u32,
    /// The rank of the last of it.
    pub last: EdgeRank,
    /// Whether more came than the bound lets it keep, which was reported then.
    pub is_surplus_reported: bool,
}

/// The profile that an identity names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRoot {
    /// Sorted; the first is the identity itself, the oldest.
    pub members: Vec<SourceIdentityId>,
    /// Whether evidence that touches a member was vetoed: only then can new evidence change more than it joins.
    pub contested: bool,
    /// The rank of the last evidence that touches a member, vetoed evidence included, or a later one. New evidence that ranks
    /// after it changes no decision that was made before.
    pub latest: Option<EdgeRank>,
    /// How many values of each identifier type the limits count; see [`Component::kinds`](crate::identity::Component).
    pub kinds: BTreeMap<String, u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str, time: i64, message_id: &str) -> TraitValue {
        TraitValue {
            json: json.into(),
            time: Timestamp(time),
            received_at: Timestamp(0),
            source: InstallationId(1),
            message_id: message_id.into(),
            place: 0,
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

    #[test]
    fn at_one_time_what_stands_further_behind_wins() {
        let behind = TraitValue { place: 7, ..value("\"Rome\"", 5, "m1") };
        let before = TraitValue { place: 6, ..value("\"Oslo\"", 5, "m9") };
        for both in [[&behind, &before], [&before, &behind]] {
            let mut facts = Contribution::default();
            for value in both {
                facts.record("city", value.clone());
            }
            assert_eq!(facts.traits["city"], behind);
        }
    }

    #[test]
    fn the_consent_that_was_received_last_is_shown() {
        let received = |json: &str, time, received_at| TraitValue {
            received_at: Timestamp(received_at),
            ..value(json, time, "m")
        };
        let mut forth = Contribution::default();
        forth.record(CONSENT, received("true", 900, 1));
        forth.record(CONSENT, received("false", 5, 6));
        let mut back = Contribution::default();
        back.record(CONSENT, received("false", 5, 6));
        back.record(CONSENT, received("true", 900, 1));
        assert_eq!(forth, back);
        assert_eq!(forth.traits[CONSENT].json, "false");
    }

    #[test]
    fn a_time_is_believed_up_to_a_day_ahead() {
        let received_at = Timestamp(1_000);
        assert_eq!(believed(Timestamp(5_000), received_at), Timestamp(5_000));
        assert_eq!(believed(Timestamp(i64::MAX), received_at), Timestamp(1_000 + DAY_MS));
    }
}
