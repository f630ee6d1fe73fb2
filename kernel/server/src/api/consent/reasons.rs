//! Why an answer of a person counts or not, and what would end it, in words.

use kith_model::consent::fold::{Answer, Bystander, Why};
use kith_model::consent::{EVERYTHING, PROFILING};
use kith_model::id::{InstallationId, SourceIdentityId};
use kith_pipeline::ConsentView;

use super::{AnswerBody, consent_body};
use crate::api::view::{IdentifierView, time};
use crate::catalogue::WorkspaceTables;

/// Agreements that are told beside one refusal.
const MAX_TOLD: usize = 16;

/// What an answer is told with.
pub(super) struct AnswerContext<'a> {
    pub tables: &'a WorkspaceTables,
    pub view: &'a ConsentView,
}

impl AnswerContext<'_> {
    pub(super) fn answer(&self, answer: &Answer<'_>, why: &Why<'_>) -> AnswerBody {
        let identifier = self.view.identifiers.get(&answer.identity).map(IdentifierView::from);
        let in_force = matches!(why, Why::Holds | Why::HoldsBut(_));
        let (why, until) = match answer.consent.refused {
            Some(_) => (self.why_refused(answer, why), self.until_agreed(answer, why)),
            None => (self.why_agreed(answer, why), self.until_refused(answer, why)),
        };
        let answer = consent_body(self.tables, answer.identity, answer.key, answer.consent);
        AnswerBody { answer, identifier, in_force, why, until }
    }

    fn why_refused(&self, answer: &Answer<'_>, why: &Why<'_>) -> String {
        let whose = match answer.beside {
            None => String::new(),
            Some(Bystander::Address) => "it is of an address that came with this person; ".to_owned(),
            Some(Bystander::User { address }) => format!("it is of another user with this person's {address}; "),
        };
        let key = answer.key;
        match why {
            Why::EndedBy(agreement) => format!("{whose}ended by {}", self.told(agreement)),
            Why::HoldsBut(agreements) => {
                // Hundreds of identities may have agreed to a part each.
                let ended = agreements.iter().take(MAX_TOLD).map(|agreement| self.told(agreement));
                let ended = ended.collect::<Vec<_>>().join(", ");
                match agreements.len().saturating_sub(MAX_TOLD) {
                    0 => format!("{whose}holds, but for {ended}"),
                    more => format!("{whose}holds, but for {ended} and {more} more"),
                }
            }
            _ => format!("{whose}nothing newer agrees to `{key}`"),
        }
    }

    fn until_agreed(&self, answer: &Answer<'_>, why: &Why<'_>) -> String {
        let key = answer.key;
        if matches!(why, Why::EndedBy(_)) {
            return format!("back with a refusal of `{key}`");
        }
        let part = match (key, key.split_once('@')) {
            (EVERYTHING, _) => ", or to a purpose by its name for that purpose".to_owned(),
            (_, Some((EVERYTHING, channel))) => format!(", or to `PURPOSE@{channel}` for that purpose"),
            (PROFILING, _) | (_, Some(_)) => String::new(),
            (_, None) => format!(", or to `{key}@CHANNEL` for that channel"),
        };
        let under = match answer.beside {
            None => format!("under {}, or under this person's user id", self.name(answer.identity)),
            Some(Bystander::Address) => format!("under {}", self.name(answer.identity)),
            Some(Bystander::User { .. }) => {
                format!("under {} or under this person's user id", self.name(answer.identity))
            }
        };
        let after = time(answer.consent.time.max(answer.consent.received_at));
        format!("an agreement to `{key}`{part}, {under}, after {after}, from a source that may agree")
    }

    fn why_agreed(&self, answer: &Answer<'_>, why: &Why<'_>) -> String {
        match why {
            Why::OverruledBy(refusal) => format!("overruled by {}", self.told(refusal)),
            Why::EndedByEverything(ender) => format!(
                "ended when `{}` was refused{} at {} ({}), also where that was taken back",
                ender.key,
                self.under(answer, ender.identity),
                time(ender.refused.received_at),
                self.evidence(&ender.refused.message_id, ender.refused.source),
            ),
            Why::AgreesToNothing => "ends refusals of everything, and agrees to no purpose by its name".to_owned(),
            _ => "nothing newer refuses it".to_owned(),
        }
    }

    fn until_refused(&self, answer: &Answer<'_>, why: &Why<'_>) -> String {
        let key = answer.key;
        match why {
            Why::OverruledBy(_) => format!("back with an agreement to `{key}` that ends that refusal"),
            Why::EndedByEverything(_) => format!("back with an agreement to `{key}` that is newer"),
            Why::AgreesToNothing => format!("a refusal of `{key}`"),
            _ if matches!(key, EVERYTHING | PROFILING) => format!("a refusal of `{key}`, from any source"),
            _ => format!("a refusal of `{key}` or of `{EVERYTHING}`, from any source"),
        }
    }

    /// An answer with its evidence.
    fn told(&self, answer: &Answer<'_>) -> String {
        let what = if answer.consent.refused.is_none() { "agreement to" } else { "refusal of" };
        format!(
            "the {what} `{}` under {} at {} ({})",
            answer.key,
            self.name(answer.identity),
            time(answer.consent.received_at),
            self.evidence(&answer.consent.message_id, answer.consent.source),
        )
    }

    fn evidence(&self, message_id: &str, source: InstallationId) -> String {
        // Of rows of earlier releases nobody knows it any more.
        match message_id {
            "" => "its event is not known".to_owned(),
            _ => format!("event {message_id} of {}", self.tables.installation_name(source)),
        }
    }

    fn under(&self, answer: &Answer<'_>, identity: SourceIdentityId) -> String {
        if answer.identity == identity { String::new() } else { format!(" under {}", self.name(identity)) }
    }

    fn name(&self, identity: SourceIdentityId) -> String {
        self.view.identifiers.get(&identity).map_or_else(|| identity.to_string(), ToString::to_string)
    }
}
