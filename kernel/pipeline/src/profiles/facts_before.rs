//! Rows of facts, and how the versions before laid them out: the facts of version 3 had no place, and the consents of version 2 had
//! no evidence and were dated up to a day past their receipt.

use std::collections::BTreeMap;

use kith_model::consent::{Consent, Consents};
use kith_model::id::InstallationId;
use kith_model::profile::{Contribution, TraitValue};
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row, read_postcard};
use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;

use super::facts::{FactTotals, FactsRow};

impl Row for FactsRow {
    const WHAT: &'static str = "a part of an identity's facts";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 4;

    fn before(version: u8, body: &[u8]) -> Option<Result<FactsRow, String>> {
        match version {
            2 => Some(read_postcard::<Before<BareConsents>>(body).map(FactsRow::from)),
            3 => Some(read_postcard::<Before<Consents>>(body).map(FactsRow::from)),
            _ => None,
        }
    }
}

/// A row with the consents of a version.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct Before<C> {
    totals: FactTotals,
    is_split: bool,
    consents: C,
    facts: BTreeMap<String, WithoutPlace>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct WithoutPlace {
    json: String,
    time: Timestamp,
    received_at: Timestamp,
    source: InstallationId,
    message_id: String,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct BareConsents {
    all: Option<BareConsent>,
    purposes: BTreeMap<String, BareConsent>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct BareConsent {
    received_at: Timestamp,
    time: Timestamp,
    refused: Option<String>,
}

impl<C: Into<Consents>> From<Before<C>> for FactsRow {
    fn from(before: Before<C>) -> FactsRow {
        let Before { totals, is_split, consents, facts } = before;
        let traits = facts.into_iter().map(|(name, value)| (name, value.into())).collect();
        FactsRow { totals, is_split, consents: consents.into(), facts: Contribution { traits } }
    }
}

impl From<WithoutPlace> for TraitValue {
    fn from(before: WithoutPlace) -> TraitValue {
        let WithoutPlace { json, time, received_at, source, message_id } = before;
        TraitValue { json, time, received_at, source, message_id, place: 0 }
    }
}

impl From<BareConsents> for Consents {
    fn from(before: BareConsents) -> Consents {
        Consents {
            all: before.all.map(Consent::from),
            purposes: before.purposes.into_iter().map(|(key, consent)| (key, consent.into())).collect(),
            statements: 0,
        }
    }
}

impl From<BareConsent> for Consent {
    fn from(before: BareConsent) -> Consent {
        let BareConsent { received_at, time, refused } = before;
        // Nobody knows any more where it came from, nor whom it answered: what other identities refused holds.
        Consent {
            received_at,
            time: time.min(received_at),
            refused,
            source: InstallationId(0),
            message_id: String::new(),
            answers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kith_store::row;

    use super::*;

    fn read<C: Serialize>(version: u8, consents: C) -> FactsRow {
        let vip = WithoutPlace {
            json: "true".into(),
            time: Timestamp(3),
            received_at: Timestamp(4),
            source: InstallationId(2),
            message_id: "m1".into(),
        };
        let before = Before {
            totals: FactTotals { names: 1, bytes: 9 },
            is_split: false,
            consents,
            facts: [("vip".to_owned(), vip)].into(),
        };
        let mut bytes = vec![version];
        row::write_postcard(&before, &mut bytes);
        let read: FactsRow = row::decode(&bytes).unwrap();
        assert_eq!(read.totals.bytes, 9);
        let vip = &read.facts.traits["vip"];
        assert_eq!((vip.json.as_str(), vip.time, vip.message_id.as_str(), vip.place), ("true", Timestamp(3), "m1", 0));
        read
    }

    #[test]
    fn rows_of_the_versions_before_keep_their_facts_and_answers() {
        let bare = |received_at, time, refused: Option<&str>| BareConsent {
            received_at: Timestamp(received_at),
            time: Timestamp(time),
            refused: refused.map(str::to_owned),
        };
        let consents = BareConsents {
            all: Some(bare(5, 90_000_000, Some("false"))),
            purposes: [("news".to_owned(), bare(7, 6, None))].into(),
        };
        let row = read(2, consents);
        let all = row.consents.all.clone().unwrap();
        assert_eq!((all.received_at, all.time, all.refused.as_deref()), (Timestamp(5), Timestamp(5), Some("false")));
        let news = &row.consents.purposes["news"];
        assert_eq!((news.received_at, news.time, &news.refused), (Timestamp(7), Timestamp(6), &None));
        assert_eq!(read(3, row.consents.clone()).consents, row.consents);
    }
}
