//! Consents: what a source identity said about the purposes for which the person may be written to, and about profiling.
//!
//! They come in the trait `consent`, an object of key → `true` or anything else, which refuses. A key is a purpose, a purpose
//! for one channel (`news@email`, a subscription group), `*` for all purposes, or `*@email` for all purposes through a channel.
//! The trait itself is kept like every other one, the latest alone. What it said is kept here for each key by itself, with its
//! evidence, so that a key that is missing ends nothing and a refusal holds until that very key is allowed.
//!
//! What the identities of a person said together is [`fold`]'s part.

pub mod fold;
mod spelling;
mod taken_back;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::budget::table;
use crate::id::{InstallationId, SourceIdentityId};
use crate::time::Timestamp;

use spelling::is_settled;
pub use spelling::{is_plain, reading};

/// The trait that tells for what a person may be written to.
pub const CONSENT: &str = "consent";

/// The key of all purposes, as a refusal or its end: a global unsubscribe.
pub const EVERYTHING: &str = "*";

/// The purpose whose refusal is an objection to profiling: no audience, no tag model and no scorer looks at the person.
pub const PROFILING: &str = "profiling";

/// Between a purpose and the channel that it is answered for.
const AT: char = '@';

/// Whether a trait of this name tells of consents: in any case, since a refusal must not be overlooked for a letter.
pub fn is_consent(name: &str) -> bool {
    name.eq_ignore_ascii_case(CONSENT)
}

/// The longest name of a purpose, in bytes of its lower case.
pub const MAX_PURPOSE_BYTES: usize = table::PURPOSE_TEXT.default as usize;

/// The longest name of a channel or of a type of identifiers, in bytes.
const MAX_CHANNEL_BYTES: usize = 64;

/// Most keys of one identity.
const MAX_PURPOSES: usize = 64;

/// Of an answer that cannot be read, so many characters are kept.
const MAX_SAID_CHARS: usize = 64;

/// Answers of one statement that are told of; a text written in good faith has fewer. All of them count.
const MAX_HEARD: usize = 64;

/// Other identities that one agreement answers. What further ones refused stays refused.
pub const MAX_ANSWERED: usize = 32;

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

/// Whether a text of the trait answers [`PROFILING`].
pub fn speaks_of_profiling(json: &str) -> bool {
    serde_json::from_str(json).is_ok_and(|Entries(said)| said.iter().any(|(key, _)| reading(key) == PROFILING))
}

/// Whether a source may end refusals. Refusals are taken from everybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Giver {
    /// Its key is public, e.g. in the pages of a shop: whoever reads it could agree in anybody's name.
    #[default]
    RefusesOnly,
    /// An admin granted the source `consent: give`, or the sender has a key of the API.
    MayAgree,
}

/// Whether it is known when a statement was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dating {
    /// By the event's own time, or because it came as it was said.
    Stated,
    /// A record of history that has no time of its own, such as a row of an export: it tells what a system holds today, and not
    /// since when. So what it agrees to is older than every refusal.
    Unknown,
}

/// The moment that stands for an unknown one, before everything that was ever said.
pub const UNKNOWN_TIME: Timestamp = Timestamp(0);

/// What an event says of consents, with its evidence.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// The JSON text of the trait.
    pub json: &'a str,
    /// The earlier of the event's own time and of its receipt, so that no clock that is ahead decides.
    pub time: Timestamp,
    /// When it counts as received: of history that a source which may agree imports the same as `time`, so that it takes the
    /// place among the others that it has there.
    pub received_at: Timestamp,
    pub source: InstallationId,
    pub message_id: &'a str,
    pub giver: Giver,
    pub dating: Dating,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// When the kernel received it; see [`Statement::received_at`].
    pub received_at: Timestamp,
    /// The time of the event that gave it, not past its receipt; of a refusal, the latest time of what it took the place of,
    /// if that is later.
    pub time: Timestamp,
    /// `None` allows. Otherwise what was said in its place, as JSON text cut to 64 characters; `false`, or anything that is
    /// no `true`.
    pub refused: Option<String>,
    /// The source that it came from.
    pub source: InstallationId,
    /// The event that gave it.
    pub message_id: String,
    /// Of an agreement: the other identities that were one person with this one when it was given and had refused. What they
    /// refused ends by it; what anybody refuses who is merged later does not.
    pub answers: Vec<SourceIdentityId>,
}

/// The newest refusal of all purposes by one key. It outlives its end, because whoever takes back a refusal of everything has
/// not agreed again to what was agreed to before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EverythingRefused {
    /// When the newest was received.
    pub received_at: Timestamp,
    /// The latest time that any of them has.
    pub time: Timestamp,
    /// The source of the newest.
    pub source: InstallationId,
    /// The event of the newest.
    pub message_id: String,
}

/// Everything that one identity said about consents: the answer that counts for each key.
///
/// A refusal counts against all that was received before it. An agreement counts only if it is dated after all that was
/// received before it: history that is imported, or comes late, allows nothing that was refused since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consents {
    /// About all purposes: `*`, or a `consent` that is no object, which refuses.
    pub all: Option<Consent>,
    /// By the key as it reads, in lower case.
    #[serde(deserialize_with = "stored")]
    pub purposes: BTreeMap<String, Consent>,
    /// The newest refusal of each key for all purposes (`*`, `*@email`), whether it stands or has ended. What was agreed to
    /// before it stays ended.
    pub everything_refused: BTreeMap<String, EverythingRefused>,
    /// How many statements there were, whether they counted or not.
    pub statements: u32,
}

/// What became of one answer of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Counted,
    /// It agrees, and its source may only refuse.
    SourceMayNotAgree,
    /// It is dated before something that was received before it, or is not newer.
    NotNewer,
    /// The identity has answered as many keys as it can. A refusal counts against everything instead.
    NoRoom,
    /// No message can have a purpose or a channel of so long a name.
    NameTooLong,
    /// It agrees, and its key is written in letters that only read as what it names.
    NotPlain,
}

/// One answer of a statement with what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerOutcome {
    /// The key as it reads, in lower case.
    pub key: String,
    /// `None` where it allows.
    pub refused: Option<String>,
    pub outcome: Outcome,
}

impl Consent {
    /// The greater one is the newer: it was received later, then it is the later by its own time, then it refuses. Receipt
    /// comes first, since a refusal must hold against an older agreement that comes late.
    fn rank(&self) -> (Timestamp, Timestamp, &Option<String>, &str) {
        (self.received_at, self.time, &self.refused, &self.message_id)
    }

    /// Whether it counts where `held` was said too.
    pub fn counts_against(&self, held: &Consent) -> bool {
        self.rank() > held.rank() && (self.refused.is_some() || self.time > held.time)
    }

    /// Let another answer take this one's place, if it counts.
    fn take(&mut self, given: Consent) -> Outcome {
        if !given.counts_against(self) {
            return Outcome::NotNewer;
        }
        *self = Consent { time: given.time.max(self.time), ..given };
        Outcome::Counted
    }
}

impl EverythingRefused {
    /// Whether it ended this agreement: the same rule by which an agreement counts against a refusal, so that neither the order
    /// of statements nor that of refusals matters.
    pub fn ended(&self, agreement: &Consent) -> bool {
        agreement.received_at < self.received_at || agreement.time <= self.time
    }

    /// The newest of both, whichever comes first.
    fn join(&mut self, other: EverythingRefused) {
        let time = self.time.max(other.time);
        let place = |one: &EverythingRefused| (one.received_at, one.message_id.clone(), one.source);
        if place(&other) > place(self) {
            *self = other;
        }
        self.time = time;
    }
}

impl Consents {
    /// Take what an event said; what became of each answer. What finds no room and allows is left out; what finds none and
    /// refuses counts against all purposes.
    pub fn record(&mut self, statement: &Statement<'_>) -> Vec<AnswerOutcome> {
        self.statements = self.statements.saturating_add(1);
        let Ok(Entries(said)) = serde_json::from_str(statement.json) else {
            let refused = Some(cut(statement.json));
            let outcome = self.take_all(statement.answer(refused.clone()));
            return vec![AnswerOutcome { key: EVERYTHING.to_owned(), refused, outcome }];
        };
        let mut heard = Vec::new();
        for (key, answered) in said {
            let refused = (answered.get() != "true").then(|| cut(answered.get()));
            let is_agreed_otherwise = refused.is_none() && !is_plain(&key);
            let key = reading(&key);
            let outcome = match is_agreed_otherwise {
                true => Outcome::NotPlain,
                false => self.record_one(&key, statement.answer(refused.clone()), statement.giver),
            };
            if heard.len() < MAX_HEARD {
                let key = key.chars().take(MAX_PURPOSE_BYTES + MAX_CHANNEL_BYTES).collect();
                heard.push(AnswerOutcome { key, refused, outcome });
            }
        }
        heard
    }

    fn record_one(&mut self, key: &str, given: Consent, giver: Giver) -> Outcome {
        let (purpose, channel) = parts(key);
        if purpose.len() > MAX_PURPOSE_BYTES || channel.is_some_and(|channel| channel.len() > MAX_CHANNEL_BYTES) {
            return Outcome::NameTooLong;
        }
        if given.refused.is_none() && giver == Giver::RefusesOnly {
            return Outcome::SourceMayNotAgree;
        }
        if key == EVERYTHING {
            return self.take_all(given);
        }
        let has_room = self.purposes.len() < MAX_PURPOSES || self.purposes.contains_key(key);
        if is_of_everything(key) && has_room {
            self.note_refused(key, &given);
        }
        match self.purposes.get_mut(key) {
            // A text that names a key twice refuses it if either does, which is the greater answer.
            Some(held) => held.take(given),
            None if has_room => {
                self.purposes.insert(key.to_owned(), given);
                Outcome::Counted
            }
            None => {
                if given.refused.is_some() {
                    self.take_all(given);
                }
                Outcome::NoRoom
            }
        }
    }

    /// Note a refusal of all purposes, also one that comes late and counts no more.
    fn note_refused(&mut self, key: &str, given: &Consent) {
        if given.refused.is_none() {
            return;
        }
        let refused = EverythingRefused {
            received_at: given.received_at,
            time: given.time,
            source: given.source,
            message_id: given.message_id.clone(),
        };
        match self.everything_refused.get_mut(key) {
            Some(held) => held.join(refused),
            None => {
                self.everything_refused.insert(key.to_owned(), refused);
            }
        }
    }

    fn take_all(&mut self, given: Consent) -> Outcome {
        self.note_refused(EVERYTHING, &given);
        match &mut self.all {
            Some(held) => held.take(given),
            None => {
                self.all = Some(given);
                Outcome::Counted
            }
        }
    }

    /// All answers with their keys, that to everything first.
    pub fn answers(&self) -> impl Iterator<Item = (&str, &Consent)> {
        let all = self.all.iter().map(|consent| (EVERYTHING, consent));
        all.chain(self.purposes.iter().map(|(key, consent)| (key.as_str(), consent)))
    }

    /// The agreement that counts for a key, to note whom it answers.
    pub fn agreement_mut(&mut self, key: &str) -> Option<&mut Consent> {
        let held = if key == EVERYTHING { self.all.as_mut() } else { self.purposes.get_mut(key) };
        held.filter(|consent| consent.refused.is_none())
    }

    /// Whether a later agreement to `key` would answer something that is refused here.
    pub fn refuses_what_is_answered_by(&self, key: &str) -> bool {
        self.answers().any(|(held, consent)| consent.refused.is_some() && covers(key, held))
    }

    /// About what it takes, in bytes.
    pub fn size_bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 128;
        let said = |consent: &Consent| {
            let texts = consent.refused.as_ref().map_or(0, String::len) + consent.message_id.len();
            ENTRY_BYTES + texts + size_of::<SourceIdentityId>() * consent.answers.len()
        };
        let refused =
            |(key, refused): (&String, &EverythingRefused)| ENTRY_BYTES + key.len() + refused.message_id.len();
        let answers: usize = self.answers().map(|(key, consent)| key.len() + said(consent)).sum();
        answers + self.everything_refused.iter().map(refused).sum::<usize>()
    }
}

impl Statement<'_> {
    fn answer(&self, refused: Option<String>) -> Consent {
        // A refusal of an unknown time counts from its receipt, since the newest refusal is the safe one; an agreement that did
        // would end each refusal that came between two exports of a system which has not heard of it.
        let is_undated = self.dating == Dating::Unknown && refused.is_none();
        let received_at = if is_undated { UNKNOWN_TIME } else { self.received_at };
        Consent {
            received_at,
            time: self.time.min(received_at),
            refused,
            source: self.source,
            message_id: self.message_id.to_owned(),
            answers: Vec::new(),
        }
    }
}

/// The purpose and the channel of a key in lower case.
fn parts(key: &str) -> (&str, Option<&str>) {
    key.split_once(AT).map_or((key, None), |(purpose, channel)| (purpose, Some(channel)))
}

/// Whether a key is about all purposes, through every channel or one.
pub fn is_of_everything(key: &str) -> bool {
    parts(key).0 == EVERYTHING
}

/// Whether an agreement to `agreed` says something about a refusal of `refused`: it is the same key or a more definite one. So
/// an agreement to a purpose ends a refusal of everything for that purpose, and none of the purpose through one channel.
fn covers(agreed: &str, refused: &str) -> bool {
    let ((agreed, agreed_at), (refused, refused_at)) = (parts(agreed), parts(refused));
    (refused == EVERYTHING || refused == agreed) && (refused_at.is_none() || refused_at == agreed_at)
}

/// Answers by what their keys read as: an earlier release kept them by case and blanks alone. What was refused in other letters is
/// refused, and what was agreed to in them counts no more.
pub fn by_reading(mut answers: BTreeMap<String, Consent>) -> BTreeMap<String, Consent> {
    let others: Vec<String> = answers.keys().filter(|key| !is_settled(key) && reading(key) != **key).cloned().collect();
    for key in others {
        let Some(answer) = answers.remove(&key) else { continue };
        if answer.refused.is_none() && !is_plain(&key) {
            continue;
        }
        let key = reading(&key);
        match answers.get_mut(&key) {
            Some(held) => {
                held.take(answer);
            }
            None => {
                answers.insert(key, answer);
            }
        }
    }
    answers
}

fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Consent>, D::Error> {
    BTreeMap::deserialize(deserializer).map(by_reading)
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
mod tests;
