//! What somebody says about who is one person: a merge or a split by hand. It goes through the lane of the workspace, which is the
//! only writer of its identities, as a unit of its own.

use std::sync::Arc;

use kith_model::change::{Change, IdentityChange};
use kith_model::id::{InstallationId, SourceIdentityId};
use kith_model::identity::{EdgeId, Evidence, Veto};
use kith_model::time::Timestamp;
use kith_store::{CommitError, Operation, ReadError, Store, Unit, row};
use tokio::sync::oneshot;

use super::people::{EvidenceOutcome, Link};
use super::unit::Workspace;

/// Most statements that wait in a lane: each is asked for by a person.
const MAX_WAITING: usize = 256;

/// What was said.
#[derive(Debug, Clone)]
pub(crate) enum Statement {
    /// Both are one person, and `loser` stands behind `winner`. A must-not-link pair of the two is taken back.
    Join { winner: SourceIdentityId, loser: SourceIdentityId, by: String, at: Timestamp },
    /// They are two, whatever evidence says, now and later.
    Part { one: SourceIdentityId, other: SourceIdentityId },
    /// Evidence decides about them again.
    Allow { one: SourceIdentityId, other: SourceIdentityId },
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StatementOutcome {
    Done,
    /// Rules forbid the merge.
    Vetoed(Veto),
    /// Too many identities hang together for it to be weighed.
    TooConnected,
}

/// What whoever said it is told.
pub(crate) type Answer = Result<StatementOutcome, Arc<CommitError>>;

/// A statement and who waits for it.
pub(super) struct Waiting {
    pub statement: Statement,
    pub reply: oneshot::Sender<Answer>,
}

/// The statements that wait in a lane.
#[derive(Default)]
pub(super) struct Statements(Vec<Waiting>);

impl Statements {
    /// Let a statement wait; it comes back where too many do.
    pub(super) fn admit(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        if self.0.len() >= MAX_WAITING {
            return Err(waiting);
        }
        self.0.push(waiting);
        Ok(())
    }

    pub(super) fn take(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Carry out what was said, one commit each. An error is of the store, and the workspace's state is then not known.
pub(super) fn carry_out(
    store: &Arc<dyn Store>,
    workspace: &mut Workspace,
    statements: Vec<Waiting>,
) -> Result<(), ReadError> {
    let mut outcome = Ok(());
    for Waiting { statement, reply } in statements {
        let answer = match &outcome {
            Ok(()) => one(store, workspace, &statement),
            Err(_) => Err(Arc::new(CommitError::Closed)),
        };
        if answer.is_err() && outcome.is_ok() {
            outcome = workspace.committed_in_part();
        }
        // Whoever asked may be gone; it is done all the same.
        let _ = reply.send(answer);
    }
    outcome
}

/// Tell those whose workspace cannot be read that nothing of what they said was carried out.
pub(super) fn refuse(statements: Vec<Waiting>, error: &Arc<CommitError>) {
    for Waiting { reply, .. } in statements {
        // Whoever asked may be gone.
        let _ = reply.send(Err(Arc::clone(error)));
    }
}

fn one(store: &Arc<dyn Store>, workspace: &mut Workspace, statement: &Statement) -> Answer {
    let (unit, stated) = workspace.state(statement).map_err(|error| Arc::new(CommitError::Read(error)))?;
    if !unit.operations.is_empty() {
        for result in store.commit_all(vec![unit]) {
            result.map_err(Arc::new)?;
        }
        workspace.committed();
    }
    Ok(stated)
}

impl Workspace {
    /// A unit of what was said; empty where it changes nothing.
    fn state(&mut self, statement: &Statement) -> Result<(Unit, StatementOutcome), ReadError> {
        let followed = match statement {
            Statement::Part { one, other } => self.people.part(*one, *other, &self.rules)?,
            Statement::Allow { one, other } => self.people.unpart(*one, *other, &self.rules)?,
            Statement::Join { winner, loser, by, at } => {
                self.people.allow(*winner, *loser);
                let edge = EdgeId::behind(*loser, *winner, Evidence::ByHand);
                let link = Link {
                    one: edge.low,
                    other: edge.high,
                    evidence: edge.evidence,
                    time: *at,
                    source: InstallationId(0),
                    message_id: by,
                };
                self.people.link(&link, &self.rules)?
            }
        };
        let stated = match followed {
            EvidenceOutcome::Quietly | EvidenceOutcome::Shared(_) => StatementOutcome::Done,
            EvidenceOutcome::Vetoed(veto) => StatementOutcome::Vetoed(veto),
            EvidenceOutcome::TooConnected => StatementOutcome::TooConnected,
        };
        if stated != StatementOutcome::Done {
            self.people.forget_event();
            return Ok((Unit::default(), stated));
        }
        self.people.keep_event();
        Ok((self.unit_of_people(), stated))
    }

    /// The rows of what the unit changed of who belongs to whom.
    pub(super) fn unit_of_people(&mut self) -> Unit {
        let mut operations = Vec::new();
        let identified = self.people.identified();
        if !identified.profiles.is_empty() || !identified.gone.is_empty() {
            // The record behind one that ties or parts people tells what caused it: here an empty one of its kind, so that no
            // event that comes next is taken for the cause, and no message leaves.
            for identified in [identified, IdentityChange::default()] {
                let record = row::encode(&Change::Identified(identified));
                operations.push(Operation::Append { workspace: self.id(), record, row: None });
            }
        }
        self.people.write(&mut operations);
        operations.extend(self.note_applied());
        let preconditions = self.count_people(&mut operations);
        self.keep_unit();
        Unit { preconditions, operations, ..Unit::default() }
    }
}
