//! Whether a message may leave, decided when it is claimed and not when it was made: audiences are deleted, channels removed,
//! profiles merged and consents withdrawn in between.
//!
//! Reading and deciding are apart. [`person_behind`] fetches what the decision needs, [`judge`] decides without I/O. What cannot
//! be read is refused, because a refusal that the gate overlooks cannot be taken back.

pub(crate) mod beforehand;
pub(crate) mod grounds;
pub(super) mod parted;
mod retracted;
pub(crate) mod standing;
pub(super) mod superseded;

use std::collections::BTreeSet;

use kith_model::consent::fold::{self, ConsentRow, Contributor, Question};
use kith_model::delivery::DeliveryState;
use kith_model::id::{InstallationId, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Identifier, IdentityRules};
use kith_model::profile::IdentityHead;
use kith_model::time::Timestamp;
use kith_store::keys::PersonRow;
use kith_store::{Key, ReadError, Store, Value, row};

use crate::profiles::facts::{FactsRow, facts_key, get_one};
use crate::profiles::suppressions;
use crate::rows::DeliveryRow;
use crate::setup::{Installed, Setup};
use retracted::Retraction;

/// A profile whose rows change while they are read is read again at most this often.
const MAX_READS: usize = 4;

/// A person as the gate sees one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Person {
    /// The name of the profile now, after merges.
    pub profile: ProfileId,
    /// All identifiers of the profile, the one that names it first.
    pub identifiers: Vec<Identifier>,
    /// Other spellings, addresses that came with one of the users and are not of this profile, what stands for one of the identifiers
    /// where a rule hashes them, and addresses that no record that counts has any more.
    pub parted: Vec<Identifier>,
    /// What each contributor said, what was said under the addresses that are parted, and what other users of an address said.
    pub consents: Vec<Contributor>,
    /// Why nothing may be sent to one of the identifiers, whoever they belong to.
    pub suppressed: Option<String>,
    /// What is known where events of the person were taken back.
    pub retraction: Option<Retraction>,
}

/// What was found under a profile's id.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ProfileLookup {
    Person(Person),
    /// No profile has that id any more.
    Nobody,
    /// It was merged or parted at each look; to be asked again later.
    Unsteady,
    Unreadable(String),
}

/// What becomes of a claimed message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// It may be sent to these identifiers; its receipts go to `person`.
    Pass {
        recipient: Vec<Identifier>,
        person: Identifier,
    },
    Refuse {
        reason: String,
    },
    /// Not decided; it stays pending.
    Later,
    /// Its next attempt is due later than its place in the outbox says.
    Early {
        due_at: Timestamp,
    },
    /// It is no longer pending: there is nothing to send.
    Settled,
    /// An attempt had begun when the process ended.
    Interrupted,
}

/// Decide about one message of `channel`.
pub(super) fn judge(
    setup: &Setup,
    channel: &Installed,
    row: &DeliveryRow,
    found: &ProfileLookup,
    now: Timestamp,
) -> Verdict {
    not_due(row, now).unwrap_or_else(|| decide(setup, channel, row, found))
}

/// What becomes of a message that is not due at `now`. Nothing else of a verdict changes with the time alone.
pub(super) fn not_due(row: &DeliveryRow, now: Timestamp) -> Option<Verdict> {
    match row.state {
        DeliveryState::Pending { due_at, .. } => (due_at > now).then_some(Verdict::Early { due_at }),
        DeliveryState::Sending { .. } => Some(Verdict::Interrupted),
        _ => Some(Verdict::Settled),
    }
}

/// Decide about a message that is due.
fn decide(setup: &Setup, channel: &Installed, row: &DeliveryRow, found: &ProfileLookup) -> Verdict {
    let audience = setup.audiences.iter().find(|audience| audience.id == row.audience);
    let Some(audience) = audience else { return refuse("its audience was deleted") };
    let sends = [&audience.on_enter, &audience.on_exit];
    if !sends.into_iter().flatten().any(|action| action.channel == channel.id) {
        return refuse("its audience no longer sends through this channel");
    }
    // Whoever saved the audience was told; since then there may be another version of the plugin, or another grant.
    if let Some(reason) = channel.purposes.refusal(channel.name.as_str(), &row.purpose) {
        return Verdict::Refuse { reason };
    }
    let person = match found {
        ProfileLookup::Person(person) => person,
        ProfileLookup::Nobody => return refuse("the person does not exist any more"),
        ProfileLookup::Unsteady => return Verdict::Later,
        ProfileLookup::Unreadable(problem) => return refuse(&format!("the person cannot be read: {problem}")),
    };
    if let Some(verdict) = person.retraction.as_ref().and_then(|retraction| retraction.verdict(row)) {
        return verdict;
    }
    let is_allowed = |identifier: &&Identifier| match &channel.recipients {
        None => true,
        Some(kinds) => kinds.contains(&identifier.kind),
    };
    let recipient: Vec<Identifier> = person.identifiers.iter().filter(is_allowed).cloned().collect();
    let kinds: BTreeSet<&str> = recipient.iter().map(|identifier| identifier.kind.as_str()).collect();
    let question = Question {
        purpose: &row.purpose,
        channel: fold::Channel { name: channel.name.as_str(), kinds: &kinds },
        basis: row.basis,
    };
    let refusal = || fold::refusal(&person.consents, &question);
    if let Some(reason) = person.suppressed.clone().or_else(|| fold::objection(&person.consents)).or_else(refusal) {
        return Verdict::Refuse { reason };
    }
    match person.identifiers.first() {
        Some(first) if !recipient.is_empty() => Verdict::Pass { recipient, person: first.clone() },
        _ => refuse(&nobody_to_send_to(channel)),
    }
}

/// Why a channel is given none of a person's identifiers, and who can mend that.
fn nobody_to_send_to(channel: &Installed) -> String {
    match channel.recipients.as_deref() {
        None => "the person has no identifier".to_owned(),
        Some([]) => format!(
            "the channel is given no type of identifier, so that it can send to nobody: its manifest declares no \
             `[[capabilities.recipients]]`, or none of them is granted; `kith plugin show {}` says which",
            channel.name
        ),
        Some(kinds) => format!("the person has no identifier that the channel may be given ({})", kinds.join(", ")),
    }
}

fn refuse(reason: &str) -> Verdict {
    Verdict::Refuse { reason: reason.to_owned() }
}

/// Who is behind a profile now.
///
/// Its rows are several, and accept may merge it between two reads; its members would then be found empty, and an empty person
/// has refused nothing. So the row that lists the members is read again after the members' own rows, and a person counts only if
/// it was the same both times.
pub(super) fn read_person(
    store: &dyn Store,
    by: (WorkspaceId, &IdentityRules),
    profile: ProfileId,
) -> Result<ProfileLookup, ReadError> {
    for _ in 0..MAX_READS {
        match read_once(store, by, profile)? {
            ProfileLookup::Unsteady => {}
            found => return Ok(found),
        }
    }
    Ok(ProfileLookup::Unsteady)
}

/// Who is behind a profile now, with all by which the gate decides about them.
pub(super) fn person_behind(
    store: &dyn Store,
    by: (WorkspaceId, &[u8; 32], &IdentityRules),
    profile: ProfileId,
) -> Result<ProfileLookup, ReadError> {
    let mut found = read_person(store, (by.0, by.2), profile)?;
    parted::note_parted(store, by, &mut found)?;
    superseded::leave_out(store, (by.0, by.2), &mut found)?;
    note_suppressed(store, by, &mut found)?;
    Ok(found)
}

/// One look at a profile.
fn read_once(
    store: &dyn Store,
    (workspace, rules): (WorkspaceId, &IdentityRules),
    profile: ProfileId,
) -> Result<ProfileLookup, ReadError> {
    let head_key = |identity: SourceIdentityId| Key::person(workspace, identity, PersonRow::Head);
    // Where a head is missing or unreadable its own id stands in; the decision below comes to the same row again.
    let root = match head(get_one(store, &head_key(profile.0))?.as_ref()) {
        Ok(Some(head)) => head.profile,
        _ => profile,
    };
    let before = get_one(store, &head_key(root.0))?;
    let members = head(before.as_ref()).ok().flatten().and_then(|head| head.root).map(|root| root.members);
    let members = members.unwrap_or_default().into_iter();
    let keys: Vec<Key> = members.flat_map(|member| [head_key(member), facts_key(workspace, member, 0)]).collect();
    let rows = store.get(&keys)?;
    if get_one(store, &head_key(root.0))? != before {
        return Ok(ProfileLookup::Unsteady);
    }
    Ok(person(root, before.as_ref(), &rows, rules))
}

/// Rows that are read of each member: its head, and the summary of its facts.
const MEMBER_ROWS: usize = 2;

/// Put a person together from the row that names the profile and [`MEMBER_ROWS`] for each member.
fn person(profile: ProfileId, root: Option<&Value>, rows: &[Option<Value>], rules: &IdentityRules) -> ProfileLookup {
    let members = match head(root) {
        Ok(None) => return ProfileLookup::Nobody,
        Err(error) => return ProfileLookup::Unreadable(error.to_string()),
        // The profile was merged between the two looks at its head.
        Ok(Some(head)) if head.root.is_none() => return ProfileLookup::Unsteady,
        Ok(Some(head)) => head.root.map(|root| root.members).unwrap_or_default(),
    };
    let (identifiers, parted, consents) = (Vec::new(), Vec::new(), Vec::new());
    let mut person = Person { profile, identifiers, parted, consents, suppressed: None, retraction: None };
    let mut background = Vec::new();
    for (identity, rows) in members.into_iter().zip(rows.chunks_exact(MEMBER_ROWS)) {
        let (kind, form) = match head(rows[0].as_ref()) {
            Ok(Some(head)) => {
                let named = (head.identifier.kind.clone(), rules.judge(&head.identifier).ok());
                // Of an address in several spellings the normal one is written to.
                let of = if head.is_in_background() { &mut background } else { &mut person.identifiers };
                of.push(head.identifier);
                named
            }
            Ok(None) => (String::new(), None),
            Err(error) => return ProfileLookup::Unreadable(error.to_string()),
        };
        person.consents.push(Contributor { identity, kind, form, row: consent(rows[1].as_ref()), beside: None });
    }
    if person.identifiers.is_empty() {
        person.identifiers = background;
    } else {
        // Nothing is sent to them, and what is suppressed of one is suppressed of the person.
        person.parted = background;
    }
    if person.identifiers.is_empty() { ProfileLookup::Nobody } else { ProfileLookup::Person(person) }
}

fn head(row: Option<&Value>) -> Result<Option<IdentityHead>, ReadError> {
    row.map(|row| row::decode(row)).transpose()
}

fn consent(row: Option<&Value>) -> ConsentRow {
    let Some(row) = row else { return ConsentRow::Absent };
    match row::decode::<FactsRow>(row) {
        Ok(row) => ConsentRow::Said(row.consents),
        Err(error) => ConsentRow::Unreadable(error.to_string()),
    }
}

/// Note whether one of the person's identifiers is suppressed.
pub(super) fn note_suppressed(
    store: &dyn Store,
    by: (WorkspaceId, &[u8; 32], &IdentityRules),
    found: &mut ProfileLookup,
) -> Result<(), ReadError> {
    if let ProfileLookup::Person(person) = found {
        let all: Vec<Identifier> = person.identifiers.iter().chain(&person.parted).cloned().collect();
        person.suppressed = suppressions::reason(store, by, &all)?;
    }
    Ok(())
}

/// Whose answers decide about a person's messages, as they are taken when one is claimed. Of who cannot be read it is that alone,
/// which refuses.
pub(crate) fn contributors(
    store: &dyn Store,
    by: (WorkspaceId, &[u8; 32], &IdentityRules),
    profile: ProfileId,
) -> Result<Vec<Contributor>, ReadError> {
    contributors_within(store, by, profile, parted::MAX_CONTRIBUTORS)
}

/// The same where as many as `most` may decide.
pub(crate) fn contributors_within(
    store: &dyn Store,
    by: (WorkspaceId, &[u8; 32], &IdentityRules),
    profile: ProfileId,
    most: usize,
) -> Result<Vec<Contributor>, ReadError> {
    let mut found = read_person(store, (by.0, by.2), profile)?;
    parted::note_within(store, by, &mut found, most)?;
    let unreadable = |problem: String| {
        let row = ConsentRow::Unreadable(problem);
        vec![Contributor { identity: profile.0, kind: String::new(), form: None, row, beside: None }]
    };
    Ok(match found {
        ProfileLookup::Person(person) => person.consents,
        ProfileLookup::Unreadable(problem) => unreadable(problem),
        ProfileLookup::Unsteady => unreadable("the person was merged or parted at each look; ask again".to_owned()),
        ProfileLookup::Nobody => Vec::new(),
    })
}

/// The channel's installation, if the workspace has it.
pub(super) fn installed(setup: &Setup, channel: InstallationId) -> Option<&Installed> {
    setup.installations.iter().find(|installed| installed.id == channel)
}

#[cfg(test)]
mod tests;
