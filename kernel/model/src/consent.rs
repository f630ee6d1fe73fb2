//! Consents: what a contributor said about the purposes for which the person may be written to.
//!
//! They come in the trait `consent`, an object of purpose → `true`. The trait itself is kept like every other one: the latest
//! alone. What it said is kept here for each purpose by itself, so that a refusal holds until that very purpose is allowed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::budget::table;
use crate::time::Timestamp;

/// The trait that tells for what a person may be written to.
pub const CONSENT: &str = "consent";

/// Whether a trait of this name tells of consents: in any case, since a refusal must not be overlooked for a letter.
pub fn is_consent(name: &str) -> bool {
    name.eq_ignore_ascii_case(CONSENT)
}

/// The longest name of a purpose, in bytes of its lower case.
pub const MAX_PURPOSE_BYTES: usize = table::PURPOSE_TEXT.default as usize;

/// Most purposes of one contributor.
const MAX_PURPOSES: usize = 64;

/// Of an answer that cannot be read, so many characters are kept.
const MAX_SAID_CHARS: usize = 64;

/// What a `consent` refuses, as the JSON text of one that says no more than that; `None` where it refuses nothing.
pub fn refusal(json: &str) -> Option<String> {
    // The answers of a text of this length are not worth keeping apart; no such text is written in good faith.
    const MAX_BYTES: usize = 64 << 10;
    let refused = match serde_json::from_str(json) {
        Ok(Entries(said)) => {
            let refused = said.into_iter().filter(|(_, answered)| answered.get() != "true");
            let parts: Vec<String> =
                refused.map(|(purpose, answered)| format!("{}:{answered}", serde_json::Value::from(purpose))).collect();
            if parts.is_empty() {
                return None;
            }
            format!("{{{}}}", parts.join(","))
        }
        Err(_) => json.to_owned(),
    };
    Some(if refused.len() > MAX_BYTES { "false".to_owned() } else { refused })
}

/// One answer. The greater one is the newer: it was received later, then it is the later by its own time, then it refuses.
/// Receipt comes first, since a refusal must hold against an older agreement of a phone whose clock is ahead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Consent {
    /// When the kernel received it, by its own clock.
    pub received_at: Timestamp,
    /// The time of the event that gave it, by [`believed`](crate::profile::believed); of a refusal, the latest time of what it
    /// took the place of, if that is later.
    pub time: Timestamp,
    /// `None` allows. Otherwise what was said in its place, as JSON text cut to 64 characters; `false`, or anything that is
    /// no `true`.
    pub refused: Option<String>,
}

/// Everything that one contributor said about consents: the answer that counts for each purpose.
///
/// A refusal counts against all that was received before it. An agreement counts only if it is dated after all that was
/// received before it: history that is imported, or comes late, allows nothing that was refused since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consents {
    /// A refusal of all purposes: a `consent` that is no object.
    pub all: Option<Consent>,
    /// By the purpose in lower case.
    pub purposes: BTreeMap<String, Consent>,
}

impl Consent {
    /// Whether it counts where `held` was said too.
    pub fn counts_against(&self, held: &Consent) -> bool {
        self > held && (self.refused.is_some() || self.time > held.time)
    }

    /// Let another answer take this one's place, if it counts.
    fn take(&mut self, given: Consent) {
        if given.counts_against(self) {
            *self = Consent { time: given.time.max(self.time), ..given };
        }
    }
}

impl Consents {
    /// Take what an event said, as the JSON text of the trait; whether all of it found room. What finds none and allows is
    /// left out; what finds none and refuses counts against all purposes.
    pub fn record(&mut self, json: &str, time: Timestamp, received_at: Timestamp) -> bool {
        let answer = |refused| Consent { received_at, time, refused };
        let Ok(Entries(said)) = serde_json::from_str(json) else {
            self.refuse_all(answer(Some(cut(json))));
            return true;
        };
        let mut had_room = true;
        for (purpose, answered) in said {
            let purpose = folded(&purpose);
            if purpose.len() > MAX_PURPOSE_BYTES {
                // No message can be of such a purpose.
                had_room = false;
                continue;
            }
            let given = answer((answered.get() != "true").then(|| cut(answered.get())));
            let has_room = self.purposes.len() < MAX_PURPOSES;
            match self.purposes.get_mut(&purpose) {
                // A text that names a purpose twice refuses it if either does, which is the greater answer.
                Some(held) => held.take(given),
                None if has_room => drop(self.purposes.insert(purpose, given)),
                None => {
                    had_room = false;
                    if given.refused.is_some() {
                        self.refuse_all(given);
                    }
                }
            }
        }
        had_room
    }

    fn refuse_all(&mut self, given: Consent) {
        match &mut self.all {
            Some(held) => held.take(given),
            None => self.all = Some(given),
        }
    }

    /// The answer that counts for a purpose, if there is one.
    pub fn of(&self, purpose: &str) -> Option<&Consent> {
        match (self.purposes.get(&folded(purpose)), &self.all) {
            (Some(own), Some(all)) if own.counts_against(all) => Some(own),
            (Some(own), None) => Some(own),
            (_, all) => all.as_ref(),
        }
    }

    /// About what it takes, in bytes.
    pub fn size_bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 64;
        let said = |consent: &Consent| ENTRY_BYTES + consent.refused.as_ref().map_or(0, String::len);
        let purposes = self.purposes.iter().map(|(purpose, consent)| purpose.len() + said(consent));
        purposes.sum::<usize>() + self.all.as_ref().map_or(0, said)
    }
}

/// A purpose as it is compared: writers differ in case, and leave blanks.
fn folded(purpose: &str) -> String {
    purpose.trim().to_lowercase()
}

fn cut(json: &str) -> String {
    json.chars().take(MAX_SAID_CHARS).collect()
}

/// The entries of a JSON object in their order, repeated names included: a map would keep the last alone.
#[derive(Debug)]
pub struct Entries<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries<'a>, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some((Name(name), said)) = map.next_entry()? {
                    entries.push((name, said));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A name that borrows from the text unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(said: &[(&str, i64)]) -> Consents {
        let mut consents = Consents::default();
        for (json, at) in said {
            assert!(consents.record(json, Timestamp(*at), Timestamp(*at)));
        }
        consents
    }

    fn is_allowed(consents: &Consents, purpose: &str) -> Option<bool> {
        consents.of(purpose).map(|consent| consent.refused.is_none())
    }

    #[test]
    fn a_refusal_holds_until_its_own_purpose_is_allowed() {
        let consents = recorded(&[(r#"{"news":false}"#, 1), (r#"{"ads":true}"#, 2), (r#"{"ads":false}"#, 3)]);
        assert_eq!((is_allowed(&consents, "news"), is_allowed(&consents, "ads")), (Some(false), Some(false)));
        let later = recorded(&[(r#"{"news":false,"ads":true}"#, 1), (r#"{"News":true}"#, 2)]);
        assert_eq!((is_allowed(&later, "NEWS"), is_allowed(&later, "ads")), (Some(true), Some(true)));
        assert_eq!(is_allowed(&later, "other"), None);
    }

    #[test]
    fn a_refusal_of_everything_holds_until_a_purpose_is_allowed_by_name() {
        for everything in ["false", "null", r#""no""#, "true", "[]", "{not json", ""] {
            let consents = recorded(&[(r#"{"ads":true}"#, 1), (everything, 2), (r#"{"news":true}"#, 3)]);
            let all = ["news", "ads", "other"].map(|purpose| is_allowed(&consents, purpose));
            assert_eq!(all, [Some(true), Some(false), Some(false)], "{everything}");
        }
    }

    #[test]
    fn an_agreement_that_is_older_than_a_refusal_allows_nothing_when_it_comes_late() {
        let record = |said: &[(&str, i64, i64)]| {
            let mut consents = Consents::default();
            said.iter().for_each(|(json, time, received_at)| {
                consents.record(json, Timestamp(*time), Timestamp(*received_at));
            });
            is_allowed(&consents, "news")
        };
        let (yes, no) = (r#"{"news":true}"#, r#"{"news":false}"#);
        assert_eq!(record(&[(no, 20, 1), (yes, 10, 2)]), Some(false));
        assert_eq!(record(&[("false", 20, 1), (yes, 10, 2)]), Some(false));
        assert_eq!(record(&[(no, 20, 1), (no, 5, 2), (yes, 10, 3)]), Some(false));
        assert_eq!(record(&[(no, 20, 1), (yes, 20, 2)]), Some(false));
        assert_eq!(record(&[(no, 20, 1), (yes, 21, 2)]), Some(true));
        // What allowed goes on allowing, whatever old agreement follows.
        assert_eq!(record(&[("false", 20, 1), (yes, 30, 2), (yes, 10, 3)]), Some(true));
        // A refusal that comes late counts: nobody knows what was said last.
        assert_eq!(record(&[(yes, 30, 1), (no, 20, 2)]), Some(false));
    }

    #[test]
    fn a_text_that_names_a_purpose_twice_refuses_it() {
        for json in [
            r#"{"news":false,"news":true}"#,
            r#"{"news":true,"NEWS":0}"#,
            r#"{"n\u0065ws":false,"news":true}"#,
            r#"{" news\t":false,"news":true}"#,
        ] {
            assert_eq!(is_allowed(&recorded(&[(json, 1)]), "news"), Some(false), "{json}");
        }
    }

    #[test]
    fn what_a_text_refuses_is_read_out_of_it() {
        for (json, refused) in [
            (r#"{"news":true}"#, None),
            ("{}", None),
            (r#"{"news":true,"ads":false,"a\"b":"no"}"#, Some(r#"{"ads":false,"a\"b":"no"}"#)),
            (r#"{"news":true,"news":false}"#, Some(r#"{"news":false}"#)),
            ("false", Some("false")),
            ("\"no\"", Some("\"no\"")),
        ] {
            assert_eq!(refusal(json).as_deref(), refused, "{json}");
        }
        let long = format!(r#"{{"news":"{}"}}"#, "x".repeat(70_000));
        assert_eq!(refusal(&long).as_deref(), Some("false"));
    }

    #[test]
    fn what_finds_no_room_allows_nothing() {
        let mut consents = Consents::default();
        for number in 0..MAX_PURPOSES {
            assert!(consents.record(&format!(r#"{{"p{number}":true}}"#), Timestamp(1), Timestamp(1)));
        }
        assert!(!consents.record(r#"{"more":true}"#, Timestamp(2), Timestamp(2)));
        assert_eq!((is_allowed(&consents, "more"), is_allowed(&consents, "p1")), (None, Some(true)));
        assert!(!consents.record(r#"{"more":false}"#, Timestamp(3), Timestamp(3)));
        assert_eq!((is_allowed(&consents, "more"), is_allowed(&consents, "p1")), (Some(false), Some(false)));
        assert!(consents.record(r#"{"p1":true}"#, Timestamp(4), Timestamp(4)));
        assert_eq!(is_allowed(&consents, "p1"), Some(true));
        let long = format!(r#"{{"{}":{{"a":"{}"}}}}"#, "p".repeat(MAX_PURPOSE_BYTES + 1), "x".repeat(10_000));
        assert!(!consents.record(&long, Timestamp(5), Timestamp(5)));
        assert!(consents.record(&format!("\"{}\"", "é".repeat(10_000)), Timestamp(6), Timestamp(6)));
        assert!(consents.size_bytes() < 8 << 10);
    }

    proptest! {
        /// Answers arrive in the order of receipt; those of one request have one time of receipt and any order.
        #[test]
        fn the_order_within_a_request_never_matters(
            said in prop::collection::vec((0usize..10, 0i64..4, 0i64..3), 3..7),
            seed in any::<u64>(),
        ) {
            const TEXTS: [&str; 10] = [
                "false", "{}", r#"{"a":true}"#, r#"{"a":false}"#, r#"{"A":"no"}"#, r#"{"b":true}"#, r#"{"b":false}"#,
                r#"{"a":true,"b":false}"#, r#"{"a":true,"a":false}"#, "\"no\"",
            ];
            let record = |order: &[(usize, i64, i64)]| {
                let mut consents = Consents::default();
                for (text, time, received_at) in order {
                    consents.record(TEXTS[*text], Timestamp(*time), Timestamp(*received_at));
                }
                ["a", "b", "c"].map(|purpose| is_allowed(&consents, purpose))
            };
            let mut one = said.clone();
            one.sort_by_key(|(_, _, received_at)| *received_at);
            let mut other = said;
            other.sort_by_key(|(text, time, received_at)| {
                (*received_at, seed.wrapping_mul((*text as u64 + 1) * 31 + (*time as u64) * 7 + 1).rotate_left(29))
            });
            prop_assert_eq!(record(&one), record(&other));
            // The naive answer: some agreement is newer than every refusal, of the purpose or of everything, and dated after
            // all that was received before it.
            let answers: Vec<(bool, i64, i64)> = one.iter().filter_map(|(text, time, received_at)| {
                let allows = match TEXTS[*text] {
                    r#"{"a":true}"# | r#"{"a":true,"b":false}"# => true,
                    "{}" | r#"{"b":true}"# | r#"{"b":false}"# => return None,
                    _ => false,
                };
                Some((allows, *received_at, *time))
            }).collect();
            let beats = |yes: &(bool, i64, i64)| answers.iter().all(|other| {
                (other.0 || (yes.1, yes.2) > (other.1, other.2)) && (other.1 >= yes.1 || yes.2 > other.2)
            });
            let naive = answers.iter().any(|answer| answer.0 && beats(answer));
            prop_assert_eq!(record(&one)[0] == Some(true), naive);
        }
    }
}
