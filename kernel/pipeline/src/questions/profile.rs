//! One person: who they are, and what is known and computed of them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use kith_model::consent::{Consent, Consents};
use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{ANONYMOUS_ID, Identifier, PREVIOUS_ID, USER_ID};
use kith_model::profile::{FoldedTrait, IdentityHead, Score, Tag, TraitValue};
use kith_store::{Key, ReadError, Store, row};
use xxhash_rust::xxh3::xxh3_64;

use super::page::{PAGE_BYTES, Window};
use super::{QueryError, identity, workspace};
use crate::Kernel;
use crate::accept::rules::SourceRules;
use crate::profiles::evaluation::output_value;
use crate::profiles::facts::{get_one, read_facts_row, read_head, whole_contribution};
use crate::profiles::person;
use crate::rows::derived::{Derived, Output, OutputKind, OutputValue, Track};
use crate::shared::{KernelState, Workspace};
use crate::turns::Patience;
use crate::views::ProfileView;

/// The profile that an identifier belongs to now: as it is spelled, in its normal form, or as the old id of an alias of whose
/// owner nothing else is known.
pub(crate) fn find(
    shared: &KernelState,
    id: WorkspaceId,
    identifier: &Identifier,
) -> Result<Option<ProfileId>, QueryError> {
    let workspace = workspace(shared, id)?;
    let setup = Arc::clone(&workspace.compiled.load().setup);
    let mut forms = vec![identifier.trimmed()];
    forms.extend(setup.identity_rules.judge(identifier).ok().filter(|normal| *normal != forms[0]));
    if matches!(identifier.kind.as_str(), USER_ID | ANONYMOUS_ID) {
        let value = forms[forms.len() - 1].value.clone();
        forms.push(Identifier::new(PREVIOUS_ID, value));
    }
    // Where values are hashed by rule, a person is found by the value all the same.
    let rules = SourceRules::every(&setup.record_rules, &setup.realm_key);
    let hashes = rules.filter(|rules| rules.hashes_identifiers(&identifier.kind));
    forms.extend(hashes.and_then(|rules| rules.hashed_identifier(identifier, &setup.identity_rules)));
    for form in forms {
        if let Some(found) = holder(shared, id, &form)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The profile that has an identifier in just this spelling, by its identity's own name.
pub(super) fn holder(
    shared: &KernelState,
    id: WorkspaceId,
    identifier: &Identifier,
) -> Result<Option<ProfileId>, QueryError> {
    let realm_key = workspace(shared, id)?.compiled.load().setup.realm_key;
    let digest = kith_store::keys::alias_digest(&realm_key, identifier);
    let alias = get_one(shared.store.as_ref(), &Key::alias(id, &digest))?;
    let identity: Option<SourceIdentityId> = alias.map(|alias| row::decode(&alias)).transpose()?;
    Ok(identity.map(ProfileId))
}

/// A profile's source identities, the one that names it first.
pub(super) type Members = Vec<(SourceIdentityId, IdentityHead)>;

/// The identities of the profile that an identity belongs to, as accept has tied them: what is known of somebody at once, before
/// anything is computed. The one that names the profile comes first.
pub(crate) fn member_ids(
    shared: &KernelState,
    workspace: WorkspaceId,
    id: ProfileId,
) -> Result<Option<(ProfileId, Vec<SourceIdentityId>)>, ReadError> {
    let store = shared.store.as_ref();
    let Some(head) = read_head(store, workspace, id.0)? else { return Ok(None) };
    let id = head.profile;
    let root = if head.root.is_some() { Some(head) } else { read_head(store, workspace, id.0)? };
    Ok(root.and_then(|head| head.root).map(|root| (id, root.members)))
}

/// [`member_ids`] with who each of them is.
pub(super) fn members(
    shared: &KernelState,
    workspace: WorkspaceId,
    id: ProfileId,
) -> Result<Option<(ProfileId, Members)>, ReadError> {
    let Some((id, ids)) = member_ids(shared, workspace, id)? else { return Ok(None) };
    Ok(Some((id, with_heads(shared, workspace, ids)?)))
}

fn with_heads(shared: &KernelState, workspace: WorkspaceId, ids: Vec<SourceIdentityId>) -> Result<Members, ReadError> {
    let mut members = Vec::with_capacity(ids.len());
    for member in ids {
        if let Some(head) = read_head(shared.store.as_ref(), workspace, member)? {
            members.push((member, head));
        }
    }
    Ok(members)
}

/// Whom somebody asks for.
#[derive(Debug, Clone, Copy)]
pub enum Whom<'a> {
    /// By the profile's id, or by the id of one that was merged into it.
    Id(ProfileId),
    /// By an identifier of theirs.
    Identifier(&'a Identifier),
}

/// What came of reading a person.
#[derive(Debug, Clone)]
pub enum PersonRead {
    Whole(Box<ProfileView>),
    /// It is of more identities than were to be read.
    Large,
}

/// Members of which what was not followed is looked for; a profile may have hundreds of devices.
const MAX_MEMBERS_SEARCHED: usize = 64;

/// Where the parts of a profile begin that have no end of their own; at their beginnings where it is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileStart {
    /// The name of a trait.
    pub traits: Option<String>,
    /// The name of a tag.
    pub tags: Option<String>,
    /// The name of a score.
    pub scores: Option<String>,
    /// One of the person's identities.
    pub consents: Option<SourceIdentityId>,
}

/// What of a part of a profile had no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// `traits`, `tags`, `scores` or `consents`.
    pub part: &'static str,
    /// How many.
    pub count: u64,
    /// The first of them, where [`ProfileStart`] goes on.
    pub from: String,
}

/// What one part of a profile has in an answer, about: several of them are a page together.
const PART_BYTES: usize = PAGE_BYTES / 4;

/// What an entry of a part takes in an answer beside its name and its value, about.
const ENTRY_BYTES: usize = 256;

impl Kernel {
    /// The id that a profile has now, which may have been merged into another. Blocks, like all questions about one.
    pub fn profile_named(&self, workspace: WorkspaceId, id: ProfileId) -> Result<Option<ProfileId>, QueryError> {
        super::workspace(&self.shared, workspace)?;
        Ok(member_ids(&self.shared, workspace, id)?.map(|(profile, _)| profile))
    }

    /// What is known of the profile that an identifier belongs to.
    pub fn profile_by_identifier(
        &self,
        workspace: WorkspaceId,
        identifier: &Identifier,
    ) -> Result<Option<ProfileView>, QueryError> {
        match find(&self.shared, workspace, identifier)? {
            Some(id) => self.profile(workspace, id),
            None => Ok(None),
        }
    }

    /// What is known of a profile by its id, or by the id of one that was merged into it.
    pub fn profile(&self, workspace: WorkspaceId, id: ProfileId) -> Result<Option<ProfileView>, QueryError> {
        let whole = (&ProfileStart::default(), usize::MAX);
        Ok(match self.profile_within(workspace, Whom::Id(id), whole, &Patience::default())? {
            Some(PersonRead::Whole(view)) => Some(*view),
            Some(PersonRead::Large) | None => None,
        })
    }

    /// The same, with parts that begin elsewhere than at their beginnings, and only of one that has no more identities than `most`.
    /// It is given up when whoever asks goes.
    pub fn profile_within(
        &self,
        workspace: WorkspaceId,
        whom: Whom<'_>,
        (start, most): (&ProfileStart, usize),
        patience: &Patience,
    ) -> Result<Option<PersonRead>, QueryError> {
        let id = match whom {
            Whom::Id(id) => Some(id),
            Whom::Identifier(identifier) => find(&self.shared, workspace, identifier)?,
        };
        id.map_or(Ok(None), |id| profile(&self.shared, (workspace, id), start, most, patience))
    }
}

/// What is known of a profile, of each part as much as has room.
fn profile(
    shared: &KernelState,
    (id, profile): (WorkspaceId, ProfileId),
    start: &ProfileStart,
    most: usize,
    patience: &Patience,
) -> Result<Option<PersonRead>, QueryError> {
    let workspace = workspace(shared, id)?;
    let Some((profile, ids)) = member_ids(shared, id, profile)? else { return Ok(None) };
    if ids.len() > most {
        return Ok(Some(PersonRead::Large));
    }
    let members = with_heads(shared, id, ids)?;
    let store = shared.store.as_ref();
    let mut facts = FactWindows::new(start);
    for (member, _) in &members {
        patience.go_on()?;
        facts.read(store, id, *member)?;
    }
    let derived = get_one(store, &Key::derived(id, profile.0))?;
    let derived: Derived = derived.map_or(Ok(Derived::default()), |row| row::decode(&row))?;
    let (tags, scores) = outputs(&workspace, &derived);
    let mut left_out = Vec::new();
    let (traits, consents) = facts.shown(&mut left_out);
    let tags = shown_outputs("tags", tags, start.tags.as_ref(), |tag| tag.json.len(), &mut left_out);
    let scores = shown_outputs("scores", scores, start.scores.as_ref(), |_| 0, &mut left_out);
    let ids: Vec<SourceIdentityId> = members.iter().take(MAX_MEMBERS_SEARCHED).map(|(member, _)| *member).collect();
    let plan = workspace.compiled.load_full();
    let memberships = derived.memberships.into_iter().filter(|(id, _)| plan.plan.audience(*id).is_some());
    let (not_followed, has_more_not_followed) = identity::not_followed_of(shared, id, &ids)?;
    let view = ProfileView {
        id: profile,
        created_at: members.iter().map(|(_, head)| head.created_at).min().unwrap_or_default(),
        consents,
        not_followed,
        // Members that are not looked through may have more.
        has_more_not_followed: has_more_not_followed || members.len() > ids.len(),
        traits,
        members: shown(members),
        tags,
        scores,
        audiences: memberships.collect(),
        as_of: workspace.as_of(store, &workspace.projection.read()).position,
        left_out,
    };
    Ok(Some(PersonRead::Whole(Box::new(view))))
}

/// What the members of a profile have said, read one by one: of a person of hundreds of identities the facts have hundreds of
/// MB, and no more is held than an answer shows.
struct FactWindows {
    traits: Window<String, FoldedTrait>,
    /// The names of the traits from the window's beginning on, by their hashes.
    names: HashSet<u64>,
    consents: Window<SourceIdentityId, Consents>,
    /// The answers from the window's beginning on.
    answers: u64,
}

impl FactWindows {
    fn new(start: &ProfileStart) -> FactWindows {
        FactWindows {
            traits: Window::new(start.traits.clone(), PART_BYTES),
            names: HashSet::new(),
            consents: Window::new(start.consents, PART_BYTES),
            answers: 0,
        }
    }

    fn read(&mut self, store: &dyn Store, id: WorkspaceId, member: SourceIdentityId) -> Result<(), ReadError> {
        let mut summary = read_facts_row(store, id, member, 0)?.unwrap_or_default();
        let consents = std::mem::take(&mut summary.consents);
        let answers = consents.answers().count();
        if answers > 0 && !self.consents.is_behind(&member) {
            self.answers += answers as u64;
            let bytes = consents.answers().map(|(key, answer)| answer_bytes(key, answer)).sum();
            self.consents.put(member, consents, bytes);
        }
        for (name, value) in whole_contribution(store, id, member, summary)?.traits {
            self.fold(member, name, value);
        }
        Ok(())
    }

    /// Take a fact, by the rule of [`fold_traits`](kith_model::profile::fold_traits).
    fn fold(&mut self, identity: SourceIdentityId, name: String, value: TraitValue) {
        if self.traits.is_behind(&name) {
            return;
        }
        self.names.insert(xxh3_64(name.as_bytes()));
        let rank = (value.rank(&name), identity);
        let wins = self.traits.get(&name).is_none_or(|held| rank > (held.value.rank(&name), held.identity));
        if wins && self.traits.admits(&name) {
            let bytes = name.len() + value.json.len() + value.message_id.len() + ENTRY_BYTES;
            self.traits.put(name, FoldedTrait { value, identity }, bytes);
        }
    }

    /// What is shown of both, with what is not.
    fn shown(self, left_out: &mut Vec<LeftOut>) -> (BTreeMap<String, FoldedTrait>, Vec<(SourceIdentityId, Consents)>) {
        let (traits, next) = self.traits.into_parts();
        let count = (self.names.len() - traits.len()) as u64;
        left_out.extend(next.map(|from| LeftOut { part: "traits", count, from }));
        let (consents, next) = self.consents.into_parts();
        let shown: usize = consents.values().map(|consents| consents.answers().count()).sum();
        let count = self.answers - shown as u64;
        left_out.extend(next.map(|from| LeftOut { part: "consents", count, from: from.to_string() }));
        (traits, consents.into_iter().collect())
    }
}

/// What an answer about consent takes where it is told, about.
fn answer_bytes(key: &str, answer: &Consent) -> usize {
    const IDENTITY_BYTES: usize = 40;
    let said = answer.refused.as_ref().map_or(0, String::len);
    key.len() + said + answer.message_id.len() + IDENTITY_BYTES * answer.answers.len() + 2 * ENTRY_BYTES
}

/// The outputs of models that have room, from a name on, and what of them has none.
fn shown_outputs<T>(
    part: &'static str,
    outputs: BTreeMap<String, T>,
    from: Option<&String>,
    bytes: impl Fn(&T) -> usize,
    left_out: &mut Vec<LeftOut>,
) -> BTreeMap<String, T> {
    let (mut window, mut count) = (Window::new(from.cloned(), PART_BYTES), 0);
    for (name, output) in outputs {
        if !window.is_behind(&name) {
            count += 1;
            let bytes = name.len() + bytes(&output) + 2 * ENTRY_BYTES;
            window.put(name, output, bytes);
        }
    }
    let (shown, next) = window.into_parts();
    left_out.extend(next.map(|from| LeftOut { part, count: count - shown.len() as u64, from }));
    shown
}

/// The identifiers of a person, each as it came. The old id of an alias is one only where nobody is known to have it.
fn shown(members: Members) -> Vec<(SourceIdentityId, Identifier)> {
    let is_alone = members.iter().all(|(_, head)| head.identifier.is_previous());
    let shown = members.into_iter().filter(|(_, head)| is_alone || !head.identifier.is_previous());
    shown.map(|(identity, head)| (identity, head.identifier)).collect()
}

/// The values of installations that are there, with the names and the origin that their model version gives.
pub(crate) fn outputs(workspace: &Workspace, derived: &Derived) -> (BTreeMap<String, Tag>, BTreeMap<String, Score>) {
    let (mut tags, mut scores) = (BTreeMap::new(), BTreeMap::new());
    let compiled = workspace.compiled.load();
    let projection = workspace.projection.read();
    let there = derived.outputs.iter().filter(|((id, track), output)| {
        *track == Track::Live && compiled.setup.installation(*id).is_some() && !output.values.is_empty()
    });
    for (_, output) in there {
        let Some(version) = projection.versions.get(output.version as usize) else { continue };
        let provenance = version.provenance(output);
        for (name, value) in version.outputs.iter().zip(&output.values) {
            match (version.kind, value) {
                (_, OutputValue::Null) => {}
                (OutputKind::Scores, value) => {
                    if let Some(value) = number(value) {
                        scores.insert(name.clone(), Score { value, provenance: provenance.clone() });
                    }
                }
                (OutputKind::Tags, value) => {
                    let json = output_value(value).to_json().to_string();
                    tags.insert(name.clone(), Tag { json, weight: None, provenance: provenance.clone() });
                }
            }
        }
    }
    (tags, scores)
}

/// How many values that are there an output has.
pub(crate) fn values_of(output: &Output) -> usize {
    output.values.iter().filter(|value| **value != OutputValue::Null).count()
}

#[allow(clippy::cast_precision_loss, reason = "scores are floating point numbers")]
fn number(value: &OutputValue) -> Option<f64> {
    match value {
        OutputValue::Float(value) => Some(*value),
        OutputValue::Int(value) => Some(*value as f64),
        OutputValue::Bool(value) => Some(f64::from(u8::from(*value))),
        OutputValue::Null | OutputValue::Text(_) => None,
    }
}

/// The profile that an identity belongs to as it is computed.
pub(crate) fn computed(
    shared: &KernelState,
    workspace: WorkspaceId,
    id: ProfileId,
) -> Result<Option<ProfileId>, ReadError> {
    person::current(shared.store.as_ref(), workspace, id.0)
}

#[cfg(test)]
mod tests {
    use kith_model::id::InstallationId;
    use kith_model::profile::{Contribution, fold_traits};
    use kith_model::time::Timestamp;

    use super::*;

    fn contribution(identity: u8, seed: usize) -> (SourceIdentityId, Contribution) {
        let mut contribution = Contribution::default();
        for name in 0..60_usize {
            let number = (name * 31 + usize::from(identity) * 17) * (seed + 3) % 97;
            // Some names are of all identities, some of few.
            if number.is_multiple_of(3) {
                continue;
            }
            let value = TraitValue {
                json: format!("\"{}\"", "x".repeat(number << 10)),
                time: Timestamp(i64::try_from(number % 7).unwrap()),
                received_at: Timestamp(1),
                source: InstallationId(1),
                message_id: format!("m{number}"),
                place: 0,
            };
            contribution.record(&format!("trait {name:02}"), value);
        }
        (SourceIdentityId([identity; 16]), contribution)
    }

    /// Regression: a person with tens of MB of facts was answered with tens of MB. Answers one after the other have each fact
    /// once, as it is folded of all identities, and say how many are left out; none is much longer than its part.
    #[test]
    fn the_facts_of_a_person_come_in_parts_that_leave_nothing_out() {
        for seed in 0..20 {
            let said: Vec<(SourceIdentityId, Contribution)> =
                (1..12).map(|identity| contribution(identity, seed)).collect();
            let folded = fold_traits(said.iter().map(|(identity, facts)| (*identity, facts)));
            let (mut found, mut start, mut answers) = (BTreeMap::new(), ProfileStart::default(), 0);
            loop {
                let mut windows = FactWindows::new(&start);
                for (identity, facts) in &said {
                    facts.traits.iter().for_each(|(name, value)| windows.fold(*identity, name.clone(), value.clone()));
                }
                let mut left_out = Vec::new();
                let (traits, _) = windows.shown(&mut left_out);
                let bytes: usize = traits.values().map(|folded| folded.value.json.len()).sum();
                assert!(bytes <= PART_BYTES, "{bytes}");
                found.extend(traits);
                answers += 1;
                let Some(next) = left_out.pop() else { break };
                assert_eq!((next.part, next.count), ("traits", (folded.len() - found.len()) as u64));
                start.traits = Some(next.from);
            }
            assert_eq!(found, folded);
            assert!(answers > 1, "they are too many for one answer");
        }
    }
}
