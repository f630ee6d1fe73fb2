//! A page that a connector polled, through the same door as what is sent to it: judged by its source's tracking plan, under the
//! workspace's rules, within what the source may bring.
//!
//! What a page holds counts as imported: the other side tells of what was, a repeat of a record is one for good, and where the
//! source says `upsert` a record that came before with other content is corrected.

use std::sync::Arc;

use kith_model::consent::Giver;
use kith_model::event::EventOrigin;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Connector, PluginFault, ReplayScope, SourceRequest};
use kith_model::polling::PolledPage;
use kith_store::Operation;
use tokio::sync::oneshot;

use super::{Intake, IntakeError, WithoutRoom, not_committed, stopped, version_of};
use crate::accept::aside::PartsOf;
use crate::accept::{Sender, Submission};
use crate::guests::{Caller, GuestClass};
use crate::poll::operation_bytes;
use crate::setup::{Activity, Installed, Role, Setup};
use crate::shared::KernelState;
use crate::views::Acceptance;

/// The path that a letter names of what was polled.
const PATH: &str = "poll";

/// What a page may say of consent, unless an admin granted its source more.
const GIVER: Giver = Giver::RefusesOnly;

impl Intake {
    /// Begin to poll a page for a source. Where the kernel stopped it and its trial is due, this is the trial.
    ///
    /// # Errors
    /// The source does not run, or has brought as much as it may.
    pub(crate) fn to_poll(
        shared: &Arc<KernelState>,
        workspace: WorkspaceId,
        source: InstallationId,
    ) -> Result<Intake, IntakeError> {
        let now = shared.clock.now();
        shared.volumes.check((workspace, source), now).map_err(IntakeError::Exhausted)?;
        let request = SourceRequest {
            method: String::new(),
            path: PATH.to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            complete: true,
            resume: None,
            received_at: now,
            replayed: ReplayScope::No,
        };
        let arrival = super::Arrival { origin: EventOrigin::Import, giver: GIVER };
        Intake::new(Arc::clone(shared), workspace, source, request, arrival)
    }

    /// What is asked for the page.
    pub(crate) fn connector(&self) -> Arc<dyn Connector> {
        Arc::clone(&self.connector)
    }

    /// A call of the connector that is handed so many bytes.
    pub(crate) fn polling_call(&self, bytes: usize) -> Caller {
        Caller {
            workspace: self.workspace,
            installation: self.source,
            class: GuestClass::Channel,
            bytes,
            memory_bytes: self.call_memory_bytes,
        }
    }

    /// The connector gave a page: earlier strikes are forgotten, and a trial is passed.
    pub(crate) fn worked(&mut self) {
        self.shared.forgive(self.workspace, self.source);
        self.trial = None;
    }

    /// The connector failed on a page, over nobody's data in particular.
    pub(crate) fn failed(&self, fault: &PluginFault) {
        match &self.trial {
            Some(trial) if fault.is_strike() => trial.workspace.trials.stopped(self.source, self.shared.clock.now()),
            Some(_) | None => self.shared.strike_call(self.workspace, self.source, fault),
        }
    }

    /// Whether the source still runs as it did when the page was begun.
    pub(crate) fn is_current(&self) -> bool {
        self.setup()
            .is_some_and(|setup| setup.installation(self.source).is_some_and(|installed| self.runs_as(installed)))
    }

    /// The same, and from now on what the page holds is taken by the rules, the tracking plan and the right to agree as they are.
    pub(crate) fn renew(&mut self) -> bool {
        let Some(setup) = self.setup() else { return false };
        let Some(installed) = setup.installation(self.source).filter(|installed| self.runs_as(installed)) else {
            return false;
        };
        self.sender = Arc::new(Sender::of(&setup, installed));
        self.plan = setup.tracking.get(&self.source).cloned();
        self.giver = GIVER.max(installed.giver);
        true
    }

    /// What the workspace is configured to, unless it stops.
    fn setup(&self) -> Option<Arc<Setup>> {
        let known = self.shared.workspace(self.workspace).filter(|known| !known.is_stopping())?;
        let setup = Arc::clone(&known.compiled.load().setup);
        Some(setup)
    }

    /// Whether this is the source that the page was begun with: its connector is another one with each change of what that may
    /// reach and of its secrets.
    fn runs_as(&self, installed: &Installed) -> bool {
        let runs = match &installed.activity {
            Activity::Quarantined { .. } => self.trial.is_some(),
            activity => activity.is_running(),
        };
        let is_same = matches!(&installed.role, Role::Connector(connector) if Arc::ptr_eq(connector, &self.connector));
        runs && is_same && version_of(installed) == self.asked.version
    }

    /// Take what a page holds, together with `with`: the row that says where the next one begins.
    pub(crate) async fn page(&mut self, page: PolledPage, with: Operation) -> Result<Acceptance, IntakeError> {
        let PolledPage { mut events, places, rejected, .. } = page;
        // Each page by itself, so that one that comes again gives the same ids.
        self.occurrences = super::Occurrences::default();
        self.occurrences.name(&mut events).map_err(IntakeError::Refused)?;
        let judged = self.judge(&mut events).await;
        let input = self.input(Vec::new(), None, places, judged);
        let row_bytes = operation_bytes(&with);
        let (reply, answered) = oneshot::channel();
        let submission = Submission {
            sender: Arc::clone(&self.sender),
            origin: self.origin,
            giver: self.giver,
            events,
            rejected,
            with: vec![with],
            input: Some(input),
            parts_of: PartsOf::Page,
            ..Submission::of_nothing(self.workspace, self.source, self.request.received_at, reply)
        };
        self.submit(submission, WithoutRoom::Wait).await?;
        self.shared.volumes.brought((self.workspace, self.source), row_bytes, self.shared.clock.now());
        answered.await.map_err(|_| stopped())?.map_err(|error| not_committed(&error))
    }
}
