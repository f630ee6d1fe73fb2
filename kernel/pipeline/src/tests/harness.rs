//! A kernel in a test: events in as drafts, questions answered when everything has been computed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use kith_features::Zone;
use kith_model::audience::{Action, Audience, ConsentBasis};
use kith_model::delivery::{DeliveryState, Message, Outcome};
use kith_model::event::{DraftEvent, EventKind, EventOrigin};
use kith_model::id::{AudienceId, InstallationId, WorkspaceId};
use kith_model::identity::{Identifier, IdentityRules};
use kith_model::plugin::*;
use kith_model::sending::SendingLimits;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::{ManualClock, Timestamp};
use kith_store::Store;
use parking_lot::Mutex;

pub(super) use crate::PageRequest;
use crate::{
    Activity, FitError, Idempotence, Installed, IntakeError, IntakeReceipt, Kernel, Observer, ProfileView, Role, Setup,
};

pub(super) const WORKSPACE: WorkspaceId = WorkspaceId(1);
pub(super) const SOURCE: InstallationId = InstallationId(1);
pub(super) const LEVEL: InstallationId = InstallationId(2);
pub(super) const DAY: i64 = 86_400_000;
/// 2026-01-15T00:00:00Z.
pub(super) const START: Timestamp = Timestamp(1_768_435_200_000);

/// A connector whose body is the number of the batch that the test has prepared.
#[derive(Default)]
struct PreparedDrafts(Mutex<Vec<Vec<DraftEvent>>>);

impl Connector for PreparedDrafts {
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError> {
        let number: usize = String::from_utf8_lossy(&request.body).parse().unwrap();
        let events = self.0.lock()[number].clone();
        let consumed = request.body.len();
        Ok(Received { events, places: vec![], rejected: vec![], consumed, resume: None, answer: None, notes: vec![] })
    }
}

/// A tag model: `level` is `many` from three orders on, else `few`; it counts the rows it was given.
#[derive(Default)]
pub(crate) struct Level {
    pub(super) rows: Mutex<usize>,
    pub(super) fails: Mutex<bool>,
    /// How long a call takes.
    pub(super) takes: Mutex<Duration>,
    /// The state that it can read, where it cannot read every one.
    pub(super) reads: Mutex<Option<Vec<u8>>>,
    /// How often it was asked.
    pub(super) asked: Mutex<usize>,
    pub(super) fits_until_cancelled: Mutex<bool>,
}

impl ComputeModel for Level {
    fn fit(&self, mut dataset: Box<dyn Dataset>, cancellation: &Cancellation) -> Result<Fitted, PluginFault> {
        let rows: usize = std::iter::from_fn(|| dataset.next_batch()).map(|batch| batch.rows.rows).sum();
        while *self.fits_until_cancelled.lock() {
            if cancellation.is_cancelled() {
                return Err(PluginFault::Cancelled);
            }
            std::thread::yield_now();
        }
        Ok(Fitted { state: rows.to_string().into_bytes(), metrics: vec![("rows".into(), rows as f64)] })
    }

    fn compute(&self, state: &[u8], rows: Table) -> Result<Table, PluginFault> {
        *self.asked.lock() += 1;
        if self.reads.lock().as_ref().is_some_and(|reads| reads != state) {
            std::thread::park_timeout(*self.takes.lock());
            return Err(PluginFault::UnreadableState("it is of another form".into()));
        }
        std::thread::park_timeout(*self.takes.lock());
        if *self.fails.lock() {
            return Err(PluginFault::Trapped { message: "panicked: no".into(), backtrace: vec![] });
        }
        *self.rows.lock() += rows.rows;
        let orders = rows.column("orders").unwrap();
        let mut level = ColumnBuilder::new("level", &ColumnType::Text);
        for row in 0..rows.rows {
            let many = matches!(orders.cell(row), Cell::Int64(count) if count >= 3);
            level.push(Cell::Text(if many { "many" } else { "few" }.into())).unwrap();
        }
        Ok(Table { rows: rows.rows, columns: vec![level.finish()] })
    }
}

/// A channel that notes what it was asked and answers what the test wants.
#[derive(Default)]
pub(super) struct Postbox {
    pub(super) sent: Mutex<Vec<Message>>,
    pub(super) answer: Mutex<Option<Outcome>>,
}

impl Channel for Postbox {
    fn send(&self, messages: &[Message]) -> Result<Vec<Outcome>, PluginFault> {
        self.sent.lock().extend_from_slice(messages);
        let answer = self.answer.lock().clone();
        Ok(vec![answer.unwrap_or(Outcome::Delivered { provider_id: Some("p1".into()) }); messages.len()])
    }

    fn receive(&self, _: &Callback) -> Result<Vec<Receipt>, ReceiveError> {
        Ok(vec![])
    }
}

/// Notes who was quarantined or waits for a fit, and of whom a backtest has ended; beside them why who was quarantined, and who runs
/// again after a trial.
#[derive(Default)]
pub(super) struct Notes(
    pub(super) Mutex<Vec<InstallationId>>,
    pub(super) Mutex<Vec<InstallationId>>,
    pub(super) StoppedNotes,
);

/// Why installations were quarantined, and which run again after a trial.
#[derive(Default)]
pub(super) struct StoppedNotes {
    pub(super) reasons: Mutex<Vec<String>>,
    pub(super) recovered: Mutex<Vec<InstallationId>>,
}

impl Observer for Notes {
    fn held(&self, _: WorkspaceId, installed: &Installed, reason: &str) {
        self.2.reasons.lock().push(reason.to_owned());
        self.0.lock().push(installed.id);
    }

    fn recovered(&self, _: WorkspaceId, installation: InstallationId) {
        self.2.recovered.lock().push(installation);
    }

    fn waits_for_fit(&self, _: WorkspaceId, installed: &Installed, _: &str) {
        self.0.lock().push(installed.id);
    }

    fn backtest_ended(&self, _: WorkspaceId, installation: InstallationId) {
        self.1.lock().push(installation);
    }
}

pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: ManualClock,
    pub(super) level: Arc<Level>,
    pub(super) postbox: Arc<Postbox>,
    pub(super) notes: Arc<Notes>,
    pub(super) setup: Mutex<Setup>,
    prepared: Arc<PreparedDrafts>,
    pub(super) kernel: Arc<Kernel>,
    pub(super) runtime: tokio::runtime::Runtime,
}

pub(crate) fn installed(id: u32, name: &str, kind: PluginKind, role: Role) -> Installed {
    Installed {
        id: InstallationId(id),
        name: name.parse().unwrap(),
        plugin: format!("test/{name}").parse().unwrap(),
        plugin_version: semver::Version::new(1, 0, 0),
        kind,
        digest: format!("digest-of-{name}"),
        activity: Activity::Running,
        config_hash: 0,
        inputs: vec![],
        outputs: vec![],
        training: None,
        fitted: None,
        recipients: None,
        purposes: Default::default(),
        call_memory_bytes: 1 << 20,
        idempotence: Idempotence::Idempotent,
        giver: kith_model::consent::Giver::MayAgree,
        emits: None,
        sending: SendingLimits::default(),
        corrects: false,
        poll: None,
        role,
        shadow: None,
        backtest: None,
    }
}

/// What a sender that may agree sends as it happens.
pub(crate) const LIVE: crate::Arrival =
    crate::Arrival { origin: EventOrigin::Client, giver: kith_model::consent::Giver::MayAgree };

pub(crate) fn audience(id: u32, condition: &str, message: Option<ConsentBasis>) -> Audience {
    Audience {
        id: AudienceId(id),
        name: format!("audience-{id}").parse().unwrap(),
        title: String::new(),
        condition: condition.into(),
        on_enter: message.map(|basis| Action {
            channel: InstallationId(3),
            purpose: "marketing".into(),
            basis,
            payload: r#"{"text":"hello"}"#.into(),
            re_entry: Default::default(),
            existing: Default::default(),
            imports: Default::default(),
        }),
        on_exit: None,
        has_acted: false,
        created_at: START,
        waves: 0,
    }
}

/// A workspace with one channel, 3, and these audiences.
pub(crate) fn setup_of(audiences: Vec<Audience>) -> Setup {
    Setup {
        workspace: WORKSPACE,
        realm_key: [7; 32],
        source_names: Default::default(),
        zone: Zone::utc(),
        identity_rules: IdentityRules::default(),
        tracking: Default::default(),
        dictionary: Default::default(),
        record_rules: Default::default(),
        installations: vec![installed(3, "postbox", PluginKind::Channel, Role::Channel(Arc::new(Postbox::default())))],
        audiences,
        removed_channels: Default::default(),
        undos: Vec::new(),
    }
}

impl Bench {
    pub(super) fn new(audiences: Vec<Audience>) -> Bench {
        Bench::over(Arc::new(kith_store::memory()), audiences, |_| {})
    }

    /// A bench over a store that the test made, its setup changed before the start.
    pub(super) fn over(store: Arc<dyn Store>, audiences: Vec<Audience>, change: impl FnOnce(&mut Setup)) -> Bench {
        let (level, postbox, prepared) =
            (Arc::new(Level::default()), Arc::new(Postbox::default()), Arc::new(PreparedDrafts::default()));
        let mut model = installed(2, "level", PluginKind::TagModel, Role::TagModel(level.clone()));
        model.inputs = vec![InputSpec {
            name: "orders".into(),
            expression: "events('Order Completed').size()".into(),
            column_type: ColumnType::Int64,
            reason: "to count".into(),
        }];
        model.outputs = vec![OutputSpec {
            name: "level".into(),
            column_type: ColumnType::Text,
            values: vec!["few".into(), "many".into()],
            description: String::new(),
            category: String::new(),
        }];
        let mut setup = Setup {
            workspace: WORKSPACE,
            realm_key: [7; 32],
            zone: Zone::utc(),
            identity_rules: IdentityRules::default(),
            tracking: Default::default(),
            dictionary: Default::default(),
            record_rules: Default::default(),
            installations: vec![
                installed(1, "source", PluginKind::Connector, Role::Connector(prepared.clone())),
                model,
                installed(3, "postbox", PluginKind::Channel, Role::Channel(postbox.clone())),
            ],
            source_names: [(SOURCE, "source".to_owned())].into(),
            audiences,
            removed_channels: Default::default(),
            undos: Vec::new(),
        };
        change(&mut setup);
        let clock = ManualClock::new(START);
        let notes = Arc::new(Notes::default());
        let kernel = Kernel::start(store.clone(), Arc::new(clock.clone()), notes.clone(), vec![setup.clone()]).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let bench = Bench { store, clock, level, postbox, notes, setup: Mutex::new(setup), prepared, kernel, runtime };
        // Who is found in an audience by its first computation was there before it, and gets no message.
        bench.wait_until("the setup is in force", || bench.kernel.progress(WORKSPACE).backlog == 0);
        bench
    }

    /// Fit an installation as it is now, and wait for what comes of it.
    pub(super) fn fit(&self, installation: InstallationId) -> Result<Fitted, FitError> {
        self.begin_fit(installation).recv_timeout(Duration::from_secs(20)).unwrap()
    }

    /// Begin to fit an installation; what comes of it is received.
    pub(super) fn begin_fit(&self, installation: InstallationId) -> Receiver<Result<Fitted, FitError>> {
        let (keep, kept) = channel();
        let slot = self.kernel.take_fit_slot(WORKSPACE, installation).unwrap();
        let digest = self.setup.lock().installation(installation).unwrap().digest.clone();
        self.kernel.fit(slot, digest, move |outcome, slot| {
            drop(slot);
            keep.send(outcome).unwrap();
        });
        kept
    }

    /// The same store under a new kernel, as after a restart.
    pub(super) fn restart(&mut self) {
        let setup = self.setup.lock().clone();
        self.restart_with(vec![setup]);
    }

    pub(super) fn restart_with(&mut self, setups: Vec<Setup>) {
        self.kernel.stop();
        let clock = Arc::new(self.clock.clone());
        self.kernel = Kernel::start(self.store.clone(), clock, self.notes.clone(), setups).unwrap();
    }

    pub(super) fn configure(&self, change: impl FnOnce(&mut Setup)) {
        let mut setup = self.setup.lock();
        change(&mut setup);
        self.kernel.configure(setup.clone()).unwrap();
    }

    /// What becomes of something that the kernel is asked for.
    pub(super) fn wait_for<T>(&self, asked: impl Future<Output = T>) -> T {
        self.runtime.block_on(asked)
    }

    pub(super) fn send(&self, events: Vec<DraftEvent>) -> IntakeReceipt {
        self.try_send(events).unwrap()
    }

    /// Send to a kernel that may not be able to take it.
    pub(super) fn try_send(&self, events: Vec<DraftEvent>) -> Result<IntakeReceipt, IntakeError> {
        self.try_send_to(WORKSPACE, events)
    }

    /// The same in another workspace that the kernel was given.
    pub(super) fn try_send_to(
        &self,
        workspace: WorkspaceId,
        events: Vec<DraftEvent>,
    ) -> Result<IntakeReceipt, IntakeError> {
        let request = self.request(events);
        self.runtime.block_on(self.kernel.receive(workspace, SOURCE, request, LIVE))
    }

    /// Send as imported history.
    pub(super) fn try_import(&self, events: Vec<DraftEvent>) -> Result<IntakeReceipt, IntakeError> {
        let mut head = self.request(events);
        let body = std::mem::take(&mut head.body);
        self.runtime.block_on(async { self.kernel.intake(WORKSPACE, SOURCE, head, LIVE.giver)?.whole(body).await })
    }

    pub(super) fn request(&self, events: Vec<DraftEvent>) -> SourceRequest {
        let number = {
            let mut prepared = self.prepared.0.lock();
            prepared.push(events);
            prepared.len() - 1
        };
        self.request_of(&number.to_string())
    }

    /// A whole request with this body.
    pub(super) fn request_of(&self, body: &str) -> SourceRequest {
        SourceRequest {
            method: "POST".into(),
            path: "/".into(),
            query: String::new(),
            headers: vec![],
            body: body.as_bytes().to_vec(),
            complete: true,
            resume: None,
            received_at: kith_model::time::Clock::now(&self.clock),
            replayed: ReplayScope::No,
        }
    }

    /// Wait until all is computed and every outbox that can be empty is.
    pub(super) fn settle(&self) {
        // Deliveries bring receipts, and receipts are computed again: look until a round brings nothing new.
        loop {
            let head = self.store.head();
            assert!(self.kernel.wait_until_reacted(WORKSPACE, head, Duration::from_secs(20)), "not computed in time");
            // A claimed job is no longer due, but its delivery is pending until the receipt is accepted.
            let deliveries = self
                .kernel
                .deliveries(WORKSPACE, &crate::DeliveryFilter::default(), PageRequest::first(1000))
                .unwrap()
                .items;
            let untried = |state: &DeliveryState| matches!(state, DeliveryState::Pending { attempts: 0, .. });
            if !deliveries.iter().any(|delivery| untried(&delivery.state)) && self.store.head() == head {
                return;
            }
            self.store.wait_for_change(self.store.head(), Duration::from_millis(5));
        }
    }

    /// Wait until all that has come is computed, whatever waits to be delivered.
    pub(super) fn compute(&self) {
        loop {
            let head = self.store.head();
            assert!(self.kernel.wait_until_reacted(WORKSPACE, head, Duration::from_secs(20)), "not computed in time");
            if self.store.head() == head {
                return;
            }
        }
    }

    /// Move the clock, and wait until what time changes has changed: the reactor looks at timers by itself.
    pub(super) fn advance(&self, milliseconds: i64, until: impl Fn() -> bool) {
        self.clock.advance_ms(milliseconds);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !until() {
            assert!(std::time::Instant::now() < deadline, "time changed nothing");
            self.store.wait_for_change(self.store.head(), Duration::from_millis(5));
        }
    }

    /// Wait until something holds that other threads bring about.
    pub(super) fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(std::time::Instant::now() < deadline, "not in time: {what}");
            self.store.wait_for_change(self.store.head(), Duration::from_millis(2));
        }
    }

    pub(super) fn profile(&self, kind: &str, value: &str) -> Option<ProfileView> {
        self.settle();
        self.kernel.profile_by_identifier(WORKSPACE, &Identifier::new(kind, value)).unwrap()
    }

    pub(super) fn size(&self, audience: u32) -> Option<u64> {
        self.kernel.audience(WORKSPACE, AudienceId(audience)).unwrap().size
    }

    pub(super) fn count(&self, condition: &str) -> u64 {
        self.settle();
        self.kernel.count(WORKSPACE, condition).unwrap().count
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.kernel.stop();
    }
}

pub(super) fn event(message_id: &str, identifiers: &[(&str, &str)], name: &str, time: Timestamp) -> DraftEvent {
    DraftEvent {
        kind: EventKind::Track,
        message_id: Some(message_id.into()),
        name: name.into(),
        time: Some(time),
        sent_at: None,
        identifiers: identifiers.iter().map(|(kind, value)| Identifier::new(*kind, *value)).collect(),
        properties: String::new(),
        traits: String::new(),
        ..DraftEvent::default()
    }
}

pub(super) fn identify(message_id: &str, identifiers: &[(&str, &str)], traits: &str, time: Timestamp) -> DraftEvent {
    DraftEvent { kind: EventKind::Identify, traits: traits.into(), ..event(message_id, identifiers, "", time) }
}

pub(super) fn orders(user: &str, from: usize, count: usize) -> Vec<DraftEvent> {
    let order = |n: usize| event(&format!("{user}-{n}"), &[("user_id", user)], "Order Completed", START);
    (from..from + count).map(order).collect()
}
