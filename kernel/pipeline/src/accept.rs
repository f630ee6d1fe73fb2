//! The first stage: drafts in, a durable commit out.
//!
//! One thread takes what requests submit, checks it, drops doubles, ties it to source identities and profiles, and commits a
//! whole group with one sync; only then are the requests answered. It is the only writer of identities, facts and events.
//! Everything computed from them is the next stage's work.

pub(crate) mod dedupe;
mod never_seen;
pub(crate) mod people;
pub(crate) mod validate;

use std::collections::HashMap;
use std::sync::Arc;

use kith_model::change::Change;
use kith_model::event::{DraftEvent, Event, EventOrigin, RejectedRecord};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::identity::{Evidence, IdentityRules};
use kith_model::time::{Clock, Timestamp};
use kith_store::{CommitError, Key, Operation, ReadError, Store, Unit};
use tokio::sync::{mpsc, oneshot};

use crate::rows::{self, Aside};
use crate::views::{Acceptance, Verdict};
use dedupe::{Seen, SeenMessages};
use people::People;

/// A commit takes at most this many events: enough to share one sync among many requests, few enough that none waits long.
const MAX_GROUP_EVENTS: usize = 4096;

/// Submissions that may wait for the accept thread; past it requests are told to come back.
pub(crate) const MAX_WAITING: usize = 512;

/// How many rejections an answer lists; all are counted and kept.
pub const MAX_REPORTED_REJECTIONS: usize = 100;

/// Events of one request, or of one piece of a file.
pub(crate) struct Submission {
    pub workspace: WorkspaceId,
    pub source: InstallationId,
    pub received_at: Timestamp,
    pub origin: EventOrigin,
    pub events: Vec<DraftEvent>,
    /// What the connector could not read.
    pub rejected: Vec<RejectedRecord>,
    /// Further operations of the same commit, e.g. the state of a delivery with its receipt.
    pub with: Vec<Operation>,
    pub reply: oneshot::Sender<Result<Acceptance, Arc<CommitError>>>,
}

/// What the accept thread is asked to do.
pub(crate) enum Request {
    Submit(Submission),
    /// A workspace's rules, at the start or changed.
    Rules(WorkspaceId, IdentityRules),
    Stop,
}

struct Workspace {
    people: People,
    seen: SeenMessages,
    rules: IdentityRules,
}

/// The accept thread's state.
pub(crate) struct Acceptor {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    workspaces: HashMap<WorkspaceId, Workspace>,
    /// Makes the ids of messages that came without one differ.
    unnamed: u64,
}

/// Accept until told to stop. The receiver's end of the channel lives on this thread alone.
pub(crate) fn run(store: Arc<dyn Store>, clock: Arc<dyn Clock>, mut requests: mpsc::Receiver<Request>) {
    let mut acceptor = Acceptor { store, clock, workspaces: HashMap::new(), unnamed: 0 };
    let mut stopping = false;
    while !stopping {
        let Some(first) = requests.blocking_recv() else { break };
        let mut group = Vec::new();
        let mut events = 0;
        let mut next = Some(first);
        while let Some(request) = next.take() {
            match request {
                Request::Submit(submission) => {
                    events += submission.events.len();
                    group.push(submission);
                }
                Request::Rules(workspace, rules) => {
                    if let Some(known) = acceptor.workspaces.get_mut(&workspace) {
                        known.rules = rules;
                    } else {
                        acceptor.pending_rules(workspace, rules);
                    }
                }
                Request::Stop => stopping = true,
            }
            if events < MAX_GROUP_EVENTS {
                next = requests.try_recv().ok();
            }
        }
        acceptor.commit(group);
    }
}

/// One group under construction.
#[derive(Default)]
struct Group {
    operations: Vec<Operation>,
    acceptances: Vec<Acceptance>,
}

impl Acceptor {
    fn pending_rules(&mut self, id: WorkspaceId, rules: IdentityRules) {
        match Workspace::open(&self.store, id, rules, self.clock.now()) {
            Ok(workspace) => {
                self.workspaces.insert(id, workspace);
            }
            Err(error) => tracing::error!(workspace = id.0, %error, "a workspace's identities cannot be read"),
        }
    }

    /// Commit a group and answer everybody in it.
    fn commit(&mut self, submissions: Vec<Submission>) {
        if submissions.is_empty() {
            return;
        }
        let built = self.build(&submissions).map_err(CommitError::Read);
        let committed = built.and_then(|group| {
            let unit = Unit { operations: group.operations, ..Unit::default() };
            let committed = if unit.operations.is_empty() { self.store.head() } else { self.store.commit(unit)?.head };
            Ok((group.acceptances, committed))
        });
        match committed {
            Ok((acceptances, head)) => {
                self.workspaces.values_mut().for_each(|workspace| {
                    workspace.people.committed();
                    workspace.seen.committed();
                });
                for (submission, mut acceptance) in submissions.into_iter().zip(acceptances) {
                    metrics::counter!("kith_events_accepted_total").increment(acceptance.accepted);
                    metrics::counter!("kith_events_duplicate_total").increment(acceptance.duplicate);
                    metrics::counter!("kith_events_rejected_total").increment(acceptance.rejected_count);
                    acceptance.position = head;
                    // The request may be gone; its events are durable all the same.
                    let _ = submission.reply.send(Ok(acceptance));
                }
            }
            Err(error) => {
                tracing::error!(%error, "a group was not committed");
                self.workspaces.values_mut().for_each(|workspace| {
                    workspace.people.forget_pending();
                    workspace.seen.forget_pending();
                });
                let error = Arc::new(error);
                for submission in submissions {
                    let _ = submission.reply.send(Err(Arc::clone(&error)));
                }
            }
        }
    }

    /// What must be written for a group, and what each submission will be told.
    fn build(&mut self, submissions: &[Submission]) -> Result<Group, ReadError> {
        let mut group = Group::default();
        for submission in submissions {
            let id = submission.workspace;
            if !self.workspaces.contains_key(&id) {
                self.pending_rules(id, IdentityRules::default());
            }
            let Some(workspace) = self.workspaces.get_mut(&id) else {
                let problem = "its identities could not be read; the log has the reason".to_owned();
                return Err(ReadError::Corrupt { what: format!("workspace {}", id.0), problem });
            };
            let mut acceptance = Acceptance::default();
            group.operations.extend(submission.with.iter().cloned());
            for record in &submission.rejected {
                set_aside(submission, record.clone(), &mut acceptance, &mut group.operations);
            }
            for (index, draft) in submission.events.iter().enumerate() {
                self.unnamed += 1;
                let verdict = accept_one(workspace, submission, draft, self.unnamed, &mut group.operations)?;
                report(submission, draft, index, verdict, &mut acceptance, &mut group.operations);
            }
            group.acceptances.push(acceptance);
        }
        for (id, workspace) in &mut self.workspaces {
            workspace.people.write(*id, &mut group.operations);
            workspace.seen.write(&mut group.operations)?;
        }
        Ok(group)
    }
}

impl Workspace {
    fn open(
        store: &Arc<dyn Store>,
        id: WorkspaceId,
        rules: IdentityRules,
        now: Timestamp,
    ) -> Result<Workspace, ReadError> {
        let people = People::open(Arc::clone(store), id)?;
        let seen = SeenMessages::open(Arc::clone(store), id, now);
        Ok(Workspace { people, seen, rules })
    }
}

/// One draft: valid? new? whose? The rows that only it needs go to `operations`; shared ones are kept pending.
fn accept_one(
    workspace: &mut Workspace,
    submission: &Submission,
    draft: &DraftEvent,
    unnamed: u64,
    operations: &mut Vec<Operation>,
) -> Result<Verdict, ReadError> {
    let checked = match validate::check(draft, &workspace.rules) {
        Ok(checked) => checked,
        Err(rejected) => return Ok(Verdict::Rejected(rejected)),
    };
    let message_id = match &draft.message_id {
        Some(message_id) => {
            let digest = validate::digest(draft);
            match workspace.seen.look(submission, message_id, digest)? {
                Seen::Never => message_id.clone(),
                Seen::Same => return Ok(Verdict::Duplicate),
                Seen::Other => return Ok(Verdict::Conflict { message_id: message_id.clone() }),
            }
        }
        None => format!("kith-{}-{unnamed}", submission.received_at.0),
    };
    let time = event_time(draft, submission.received_at);
    let identity = workspace.people.identify(&checked.identifiers[0], submission.received_at)?;
    let evidence = match draft.kind {
        kith_model::event::EventKind::Alias => Evidence::Alias,
        _ => Evidence::SameEvent,
    };
    for other in &checked.identifiers[1..] {
        let other = workspace.people.identify(other, submission.received_at)?;
        let edge =
            people::Link { one: identity, other, evidence, time, source: submission.source, message_id: &message_id };
        workspace.people.link(&edge, &workspace.rules)?;
    }
    if !checked.traits.is_empty() {
        workspace.people.record_traits(identity, checked.traits, time, submission.source, &message_id)?;
    }
    let event = Event {
        message_id,
        kind: draft.kind,
        name: draft.name.clone(),
        time,
        received_at: submission.received_at,
        source: submission.source,
        identity,
        identifiers: checked.identifiers,
        properties: draft.properties.clone(),
        traits: draft.traits.clone(),
        context: draft.context.clone(),
        origin: submission.origin,
    };
    let row = Some(Key::event(submission.workspace, identity, time));
    let record = rows::encode(&Change::Recorded(event));
    operations.push(Operation::Append { workspace: submission.workspace, record, row });
    Ok(Verdict::Accepted)
}

/// When the event happened by the kernel's clock: a sender whose clock is off is off by the same in both of its times.
fn event_time(draft: &DraftEvent, received_at: Timestamp) -> Timestamp {
    match (draft.time, draft.sent_at) {
        (None, _) => received_at,
        (Some(time), None) => time,
        (Some(time), Some(sent_at)) => time.plus_ms(received_at.0.saturating_sub(sent_at.0)),
    }
}

/// Count a verdict, and keep aside what was refused.
fn report(
    submission: &Submission,
    draft: &DraftEvent,
    index: usize,
    verdict: Verdict,
    acceptance: &mut Acceptance,
    operations: &mut Vec<Operation>,
) {
    match verdict {
        Verdict::Accepted => acceptance.accepted += 1,
        Verdict::Duplicate => acceptance.duplicate += 1,
        Verdict::Conflict { message_id } => {
            let record = RejectedRecord {
                place: index as u64,
                code: "message-id-conflict".into(),
                message: format!(
                    "another message came with the id `{message_id}` before; give each message its own id"
                ),
                raw: validate::excerpt(draft),
            };
            set_aside(submission, record, acceptance, operations);
        }
        Verdict::Rejected(record) => {
            set_aside(submission, RejectedRecord { place: index as u64, ..record }, acceptance, operations);
        }
    }
}

fn set_aside(
    submission: &Submission,
    record: RejectedRecord,
    acceptance: &mut Acceptance,
    operations: &mut Vec<Operation>,
) {
    let number = acceptance.rejected_count;
    // The same input again lands on the same row: time and content name it, not chance.
    let content = xxhash_rust::xxh3::xxh3_64(record.raw.as_bytes());
    let key = Key::set_aside(submission.workspace, Some(submission.source))
        .followed_by(&submission.received_at.0.to_be_bytes())
        .followed_by(&number.to_be_bytes())
        .followed_by(&content.to_be_bytes());
    let aside = Aside::Record { at: submission.received_at, record: record.clone() };
    operations.push(Operation::Put(key, rows::encode(&aside)));
    acceptance.rejected_count += 1;
    if acceptance.rejected.len() < MAX_REPORTED_REJECTIONS {
        acceptance.rejected.push(record);
    }
}
