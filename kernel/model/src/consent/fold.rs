//! What the identities of one person said together. The strictest counts: a refusal of any of them holds until it is answered,
//! and is each identity's own again where a merge is undone.

mod explained;

use std::collections::BTreeSet;

use super::{Consent, Consents, EVERYTHING, EverythingRefused, PROFILING, covers, is_of_everything, parts, reading};
use crate::audience::ConsentBasis;
use crate::id::SourceIdentityId;
use crate::identity::Identifier;

pub use explained::{Explained, Why};

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
    /// The normal form of its identifier, by which its spellings are one subject; absent where there is none.
    pub form: Option<Identifier>,
    pub row: ConsentRow,
    /// Absent of the person's own.
    pub beside: Option<Bystander>,
}

/// An identity that is not the person's, and can only forbid: nothing that it agreed to allows anything here.
#[derive(Debug, Clone, PartialEq)]
pub enum Bystander {
    /// An address that came with the person's user.
    Address,
    /// Another user, who came with an address of this type that is the person's. What they refused holds for the mailbox.
    User { address: String },
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
        !is_of_everything(key) && self.is_about(key)
    }
}

/// One answer of a person's identity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer<'a> {
    pub identity: SourceIdentityId,
    /// The type of the identity's identifier.
    pub kind: &'a str,
    /// As [`Contributor::form`].
    pub form: Option<&'a Identifier>,
    pub key: &'a str,
    pub consent: &'a Consent,
    pub beside: Option<&'a Bystander>,
}

impl Answer<'_> {
    /// Whether this agreement ends that refusal: it is newer, says something about it, and is of the same identity or was given
    /// by the person while both were one. What another user of the same address refused ends by what the person's own user
    /// agrees to afterwards, too: it is about the mailbox, and of that the newest word of its users counts. An identifier is one
    /// subject in whatever spelling it is written. Who is not of the person answers for nobody here, also not for whom he once
    /// was one with.
    fn ends(&self, refusal: &Answer<'_>) -> bool {
        let is_of_mailbox = || matches!(refusal.beside, Some(Bystander::User { .. })) && self.kind == refusal.kind;
        self.consent.refused.is_none()
            && covers(self.key, refusal.key)
            && self.consent.counts_against(refusal.consent)
            && (self.identity == refusal.identity
                || (self.form.is_some() && self.form == refusal.form)
                || (self.beside.is_none() && (self.consent.answers.contains(&refusal.identity) || is_of_mailbox())))
    }

    fn reason(&self, purpose: &str) -> String {
        let under = match self.kind {
            "" => String::new(),
            kind => match self.beside {
                None | Some(Bystander::Address) => format!(", under its {kind} since {}", self.consent.received_at),
                Some(Bystander::User { address }) => {
                    let since = self.consent.received_at;
                    format!(", by another {kind} with the same {address} since {since}")
                }
            },
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
    let key = reading(question.purpose);
    let asked = Question { purpose: &key, ..*question };
    let answers = answers(person);
    let reaches = |answer: &Answer<'_>| match answer.beside {
        None | Some(Bystander::Address) => true,
        Some(Bystander::User { address }) => question.channel.kinds.contains(address.as_str()),
    };
    let heard: Vec<Answer<'_>> = answers.into_iter().filter(reaches).collect();
    if let Some(refused) = unanswered(&heard, |key| asked.is_refused_by(key), |key| asked.is_about(key)) {
        return Some(refused.reason(question.purpose));
    }
    if question.basis == ConsentBasis::NotRefused {
        return None;
    }
    let agreed = heard.iter().filter(|answer| {
        answer.beside.is_none() && answer.consent.refused.is_none() && asked.is_allowed_by(answer.key)
    });
    let mut ended = None;
    for agreement in agreed {
        match ender(person, agreement, |key| asked.is_refused_by(key)) {
            None => return None,
            some => ended = some,
        }
    }
    let purpose = question.purpose;
    Some(match ended {
        None if was_spoken_of(person) => format!(
            "consent for `{purpose}` was not given: nothing that was said agrees to it. `kith consent show` says why, e.g. because \
             it came through a source that may not agree (`kith plugin change SOURCE --grant-consent give`)"
        ),
        None => format!("consent for `{purpose}` was not given"),
        Some(Ender { refused, .. }) => format!(
            "consent for `{purpose}` was given before everything was refused at {}, and not again since",
            refused.received_at
        ),
    })
}

/// Whether an identity of the person said anything of consents, counted or not: an agreement through a source that may not give one
/// leaves nothing but this number.
fn was_spoken_of(person: &[Contributor]) -> bool {
    let said =
        |contributor: &Contributor| matches!(&contributor.row, ConsentRow::Said(consents) if consents.statements > 0);
    person.iter().any(|contributor| contributor.beside.is_none() && said(contributor))
}

/// A refusal of everything that ended an agreement, whether it stands or has ended itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ender<'a> {
    pub identity: SourceIdentityId,
    pub key: &'a str,
    pub refused: &'a EverythingRefused,
}

/// Of the refusals of everything with these keys, one that this agreement is not newer than: it counts no more, also where
/// somebody has taken the refusal back.
fn ender<'a>(person: &'a [Contributor], agreement: &Answer<'_>, has: impl Fn(&str) -> bool) -> Option<Ender<'a>> {
    let own = person.iter().filter(|contributor| !matches!(contributor.beside, Some(Bystander::User { .. })));
    let refused = own.flat_map(|contributor| {
        let said = match &contributor.row {
            ConsentRow::Said(consents) => Some(consents),
            ConsentRow::Absent | ConsentRow::Unreadable(_) => None,
        };
        let refused = said.into_iter().flat_map(|consents| &consents.everything_refused);
        refused.map(|(key, refused)| Ender { identity: contributor.identity, key, refused })
    });
    let ending = refused.filter(|ender| has(ender.key) && ender.refused.ended(agreement.consent));
    ending.max_by_key(|ender| (ender.refused.received_at, ender.identity))
}

/// Why nothing may be computed of the person, if so. Only a refusal of [`PROFILING`] by its name is one: who wants no messages
/// has not objected to being counted.
pub fn objection(person: &[Contributor]) -> Option<String> {
    let is_profiling = |key: &str| key == PROFILING;
    let own = || -> Vec<Answer<'_>> { answers(person).into_iter().filter(|answer| !is_of_another(answer)).collect() };
    let stands = || unanswered(&own(), is_profiling, is_profiling).map(|refused| refused.reason(PROFILING));
    unreadable(person).or_else(stands)
}

/// What one identity said of profiling.
#[derive(Debug, Clone)]
pub struct ProfilingAnswer<'a> {
    pub identity: SourceIdentityId,
    /// As [`Contributor::form`].
    pub form: Option<Identifier>,
    pub consent: &'a Consent,
}

/// The same of the answers about profiling alone, by identity.
pub fn objects(answers: &[ProfilingAnswer<'_>]) -> bool {
    let answers = answers.iter().map(|ProfilingAnswer { identity, form, consent }| Answer {
        identity: *identity,
        kind: "",
        form: form.as_ref(),
        key: PROFILING,
        consent,
        beside: None,
    });
    unanswered(&answers.collect::<Vec<_>>(), |_| true, |_| true).is_some()
}

fn is_of_another(answer: &Answer<'_>) -> bool {
    matches!(answer.beside, Some(Bystander::User { .. }))
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
            form: contributor.form.as_ref(),
            key,
            consent,
            beside: contributor.beside.as_ref(),
        })
    })
    .collect()
}

/// The first refusal that no agreement ends: one that is about what is asked, or to the refusal's very key, which takes it back
/// whatever else is asked.
fn unanswered<'a, 'b>(
    answers: &'b [Answer<'a>],
    refuses: impl Fn(&str) -> bool,
    is_about: impl Fn(&str) -> bool,
) -> Option<&'b Answer<'a>> {
    let mut refusals = answers.iter().filter(|answer| answer.consent.refused.is_some() && refuses(answer.key));
    refusals.find(|refused| {
        let may_end = |answer: &Answer<'_>| is_about(answer.key) || answer.key == refused.key;
        !answers.iter().any(|answer| may_end(answer) && answer.ends(refused))
    })
}

#[cfg(test)]
mod tests;
