//! What the identities of one person said together. The strictest counts: a refusal of any of them holds until it is answered,
//! and is each identity's own again where a merge is undone.

use std::collections::BTreeSet;

use super::{Consent, Consents, EVERYTHING, PROFILING, covers, parts};
use crate::audience::ConsentBasis;
use crate::id::SourceIdentityId;

/// What an identity said, if anything.
#[derive(Debug, Clone, PartialEq)]
pub enum ConsentRow {
    Absent,
    Said(Consents),
    /// The row is there and cannot be read.
    Unreadable(String),
}

/// One identity of a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Contributor {
    pub identity: SourceIdentityId,
    /// The type of its identifier; empty where that is not known.
    pub kind: String,
    pub row: ConsentRow,
}

/// A channel, as keys of consents name it.
#[derive(Debug, Clone, Copy)]
pub struct Channel<'a> {
    /// Of the installation.
    pub name: &'a str,
    /// The types of identifiers that it is given of this person.
    pub kinds: &'a BTreeSet<&'a str>,
}

/// A message that is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub purpose: &'a str,
    pub channel: Channel<'a>,
    pub basis: ConsentBasis,
}

impl Channel<'_> {
    /// Whether a refusal for `word` is one of this channel: its own name, or a type of identifiers that it is given.
    fn is_refused_as(&self, word: &str) -> bool {
        word == self.name || self.kinds.contains(word)
    }

    /// Whether an agreement for `word` is one to this channel. One to e-mail is none to a channel that is given phone numbers
    /// as well.
    fn is_allowed_as(&self, word: &str) -> bool {
        word == self.name || (self.kinds.len() == 1 && self.kinds.contains(word))
    }
}

impl Question<'_> {
    fn is_refused_by(&self, key: &str) -> bool {
        let (purpose, channel) = parts(key);
        (purpose == EVERYTHING || purpose == self.purpose)
            && channel.is_none_or(|word| self.channel.is_refused_as(word))
    }

    fn is_about(&self, key: &str) -> bool {
        let (purpose, channel) = parts(key);
        (purpose == EVERYTHING || purpose == self.purpose)
            && channel.is_none_or(|word| self.channel.is_allowed_as(word))
    }

    fn is_allowed_by(&self, key: &str) -> bool {
        // Who takes back a refusal of everything has not agreed to anything.
        parts(key).0 != EVERYTHING && self.is_about(key)
    }
}

/// One answer of a person's identity.
struct Answer<'a> {
    identity: SourceIdentityId,
    kind: &'a str,
    key: &'a str,
    consent: &'a Consent,
}

impl Answer<'_> {
    /// Whether this agreement ends that refusal: it is newer, says something about it, and is of the same identity or was given
    /// by the person while both were one.
    fn ends(&self, refusal: &Answer<'_>) -> bool {
        self.consent.refused.is_none()
            && covers(self.key, refusal.key)
            && self.consent.counts_against(refusal.consent)
            && (self.identity == refusal.identity || self.consent.answers.contains(&refusal.identity))
    }

    fn reason(&self, purpose: &str) -> String {
        let under = match self.kind {
            "" => String::new(),
            kind => format!(", under its {kind} since {}", self.consent.received_at),
        };
        match (self.consent.refused.as_deref(), self.key) {
            (Some("false") | None, EVERYTHING) => {
                format!("consent for everything is refused, `{purpose}` included{under}")
            }
            (Some("false") | None, key) => format!("consent for `{key}` is refused{under}"),
            (Some(said), EVERYTHING) => {
                format!("`consent` is {said}, no object of purposes, which counts as a refusal{under}")
            }
            (Some(said), key) => format!("consent for `{key}` is {said}, not `true`, which counts as a refusal{under}"),
        }
    }
}

/// Why the person may not be written to, if so.
pub fn refusal(person: &[Contributor], question: &Question<'_>) -> Option<String> {
    if let Some(problem) = unreadable(person) {
        return Some(problem);
    }
    let answers = answers(person);
    if let Some(refused) = unanswered(&answers, |key| question.is_refused_by(key), |key| question.is_about(key)) {
        return Some(refused.reason(question.purpose));
    }
    let is_allowed = |answer: &Answer<'_>| answer.consent.refused.is_none() && question.is_allowed_by(answer.key);
    match question.basis {
        ConsentBasis::OptIn if !answers.iter().any(is_allowed) => {
            Some(format!("consent for `{}` was not given", question.purpose))
        }
        ConsentBasis::OptIn | ConsentBasis::NotRefused => None,
    }
}

/// Why nothing may be computed of the person, if so. Only a refusal of [`PROFILING`] by its name is one: who wants no messages
/// has not objected to being counted.
pub fn objection(person: &[Contributor]) -> Option<String> {
    let is_profiling = |key: &str| key == PROFILING;
    let stands = || unanswered(&answers(person), is_profiling, is_profiling).map(|refused| refused.reason(PROFILING));
    unreadable(person).or_else(stands)
}

/// The same of the answers about profiling alone, by identity.
pub fn objects<'a>(answers: impl Iterator<Item = (SourceIdentityId, &'a Consent)>) -> bool {
    let answer = |(identity, consent)| Answer { identity, kind: "", key: PROFILING, consent };
    unanswered(&answers.map(answer).collect::<Vec<_>>(), |_| true, |_| true).is_some()
}

fn unreadable(person: &[Contributor]) -> Option<String> {
    person.iter().find_map(|contributor| match &contributor.row {
        ConsentRow::Unreadable(problem) => {
            Some(format!("the consents cannot be read, which counts as a refusal: {problem}"))
        }
        ConsentRow::Absent | ConsentRow::Said(_) => None,
    })
}

fn answers(person: &[Contributor]) -> Vec<Answer<'_>> {
    let said = person.iter().filter_map(|contributor| match &contributor.row {
        ConsentRow::Said(consents) => Some((contributor, consents)),
        ConsentRow::Absent | ConsentRow::Unreadable(_) => None,
    });
    said.flat_map(|(contributor, consents)| {
        consents.answers().map(|(key, consent)| Answer {
            identity: contributor.identity,
            kind: contributor.kind.as_str(),
            key,
            consent,
        })
    })
    .collect()
}

/// The first refusal that no agreement ends.
fn unanswered<'a, 'b>(
    answers: &'b [Answer<'a>],
    refuses: impl Fn(&str) -> bool,
    is_about: impl Fn(&str) -> bool,
) -> Option<&'b Answer<'a>> {
    let mut refusals = answers.iter().filter(|answer| answer.consent.refused.is_some() && refuses(answer.key));
    refusals.find(|refused| !answers.iter().any(|answer| is_about(answer.key) && answer.ends(refused)))
}

#[cfg(test)]
mod tests;
