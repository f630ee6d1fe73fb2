//! Rows of facts, and how the versions before laid them out: the consents of version 4 did not keep refusals of everything that had
//! ended, the facts of version 3 had no place, and the consents of version 2 had no evidence and were dated up to a day past
//! their receipt.

use std::collections::BTreeMap;

use kith_model::consent::{Consent, Consents, EVERYTHING, EverythingRefused, by_reading, is_of_everything};
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
    const VERSION: u8 = 5;

    fn before(version: u8, body: &[u8]) -> Option<Result<FactsRow, String>> {
        match version {
            2 => Some(read_postcard::<FactsRowBefore<BareConsents, WithoutPlace>>(body).map(FactsRow::from)),
            3 => Some(read_postcard::<FactsRowBefore<ForgetfulConsents, WithoutPlace>>(body).map(FactsRow::from)),
            4 => Some(read_postcard::<FactsRowBefore<ForgetfulConsents, TraitValue>>(body).map(FactsRow::from)),
            _ => None,
        }
    }
}

/// A row with the consents and the facts of a version.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct FactsRowBefore<C, F> {
    totals: FactTotals,
    is_split: bool,
    consents: C,
    facts: BTreeMap<String, F>,
}

/// Consents that forgot a refusal of everything when it ended.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct ForgetfulConsents {
    all: Option<Consent>,
    purposes: BTreeMap<String, Consent>,
    statements: u32,
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

impl<C: Into<Consents>, F: Into<TraitValue>> From<FactsRowBefore<C, F>> for FactsRow {
    fn from(before: FactsRowBefore<C, F>) -> FactsRow {
        let FactsRowBefore { totals, is_split, consents, facts } = before;
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

impl From<BareConsents> for ForgetfulConsents {
    fn from(before: BareConsents) -> ForgetfulConsents {
        ForgetfulConsents {
            all: before.all.map(Consent::from),
            purposes: before.purposes.into_iter().map(|(key, consent)| (key, consent.into())).collect(),
            statements: 0,
        }
    }
}

impl From<BareConsents> for Consents {
    fn from(before: BareConsents) -> Consents {
        ForgetfulConsents::from(before).into()
    }
}

impl From<ForgetfulConsents> for Consents {
    fn from(before: ForgetfulConsents) -> Consents {
        let ForgetfulConsents { all, purposes, statements } = before;
        let purposes = by_reading(purposes);
        let wide = all.iter().map(|consent| (EVERYTHING, consent));
        let wide = wide.chain(purposes.iter().map(|(key, consent)| (key.as_str(), consent)));
        let refused = wide.filter(|(key, _)| is_of_everything(key));
        let refused = refused.map(|(key, consent)| (key.to_owned(), refusal_behind(consent))).collect();
        Consents { everything_refused: refused, all, purposes, statements }
    }
}

/// The refusal behind an answer about everything: the answer itself, or the one that an agreement ended. Of that nobody knows any
/// more when it was said but that it was before its end, and what was agreed to before then must not be revived.
fn refusal_behind(consent: &Consent) -> EverythingRefused {
    let time = if consent.refused.is_some() { consent.time } else { Timestamp(consent.time.0.saturating_sub(1)) };
    let Consent { received_at, source, message_id, .. } = consent.clone();
    EverythingRefused { received_at, time, source, message_id }
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

    fn without_place() -> WithoutPlace {
        WithoutPlace {
            json: "true".into(),
            time: Timestamp(3),
            received_at: Timestamp(4),
            source: InstallationId(2),
            message_id: "m1".into(),
        }
    }

    fn read<C: Serialize, F: Serialize>(version: u8, consents: C, vip: F) -> FactsRow {
        let before = FactsRowBefore {
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
        let row = read(2, consents, without_place());
        let all = row.consents.all.clone().unwrap();
        assert_eq!((all.received_at, all.time, all.refused.as_deref()), (Timestamp(5), Timestamp(5), Some("false")));
        let news = &row.consents.purposes["news"];
        assert_eq!((news.received_at, news.time, &news.refused), (Timestamp(7), Timestamp(6), &None));
        let forgetful = |row: &FactsRow| {
            let Consents { all, purposes, statements, .. } = row.consents.clone();
            ForgetfulConsents { all, purposes, statements }
        };
        assert_eq!(read(3, forgetful(&row), without_place()).consents, row.consents);
        assert_eq!(read(4, forgetful(&row), TraitValue::from(without_place())).consents, row.consents);
    }

    /// Fails closed: of a refusal that had ended the row did not say when it was, so that nothing before its end counts.
    #[test]
    fn what_was_agreed_to_before_an_end_that_a_row_knows_is_not_revived() {
        let answer = |at: i64, refused: Option<&str>| Consent {
            received_at: Timestamp(at),
            time: Timestamp(at),
            refused: refused.map(str::to_owned),
            source: InstallationId(2),
            message_id: format!("m{at}"),
            answers: Vec::new(),
        };
        for (all, at_once, before) in [(None, false, true), (Some("false"), true, true)] {
            let consents = ForgetfulConsents {
                all: Some(answer(50, all)),
                purposes: [("*@email".to_owned(), answer(40, all)), ("news".to_owned(), answer(30, None))].into(),
                statements: 3,
            };
            let row = read(4, consents, TraitValue::from(without_place()));
            let refused = &row.consents.everything_refused;
            assert_eq!(refused.keys().collect::<Vec<_>>(), ["*", "*@email"]);
            assert_eq!(
                (refused["*"].ended(&answer(50, None)), refused["*"].ended(&answer(49, None))),
                (at_once, before)
            );
            assert!(refused["*@email"].ended(&answer(30, None)) && !refused["*@email"].ended(&answer(41, None)));
        }
    }
}
