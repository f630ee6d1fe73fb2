//! A kernel that lives through a history, and what is compared with the naive answer after each round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kith_model::audience::{Action, Cause, ConsentBasis, ReEntry};
use kith_model::change::{Change, Movement};
use kith_model::delivery::DeliveryState;
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId};
use kith_model::identity::Identifier;
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::{Clock as _, Timestamp};
use kith_store::{ChangeLimits, EngineKind, LogRecord, Store, row};

use super::bounds::Bounds;
use super::look::*;
use super::mortal::{Disk, Engine, Life};
use super::naive::{self, CONDITIONS, Group, Person};
use super::steps::{Model, PlannedEvent, Random, Round, SLOTS, SentEvent, Step};
use crate::tests::harness::*;
use crate::{Activity, DeliveryView, Kernel, Role, Setup};

pub(super) const MODEL: InstallationId = InstallationId(2);

/// The slot whose audiences write to those who leave, too.
const PARTING_SLOT: usize = 0;

/// The slot whose audiences write to a person only once.
const ONCE_SLOT: usize = 1;

/// What is written to those who leave.
const BYE: &str = r#"{"text":"bye"}"#;

/// A claimed message of a process that died comes back after this long.
const LEASE_MS: i64 = 121_000;

/// Everything has to be computed within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says `many` from so many orders on.
struct Threshold(i64);

impl ComputeModel for Threshold {
    fn fit(&self, _: Box<dyn Dataset>, _: &kith_model::plugin::Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let orders = rows.column("orders").unwrap();
        let mut level = ColumnBuilder::new("level", &ColumnType::Text);
        for row in 0..rows.rows {
            let many = matches!(orders.cell(row), Cell::Int64(count) if count >= self.0);
            level.push(Cell::Text(if many { "many" } else { "few" }.into())).unwrap();
        }
        Ok(Table { rows: rows.rows, columns: vec![level.finish()] })
    }
}

/// An audience as it is defined.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defined {
    pub id: u32,
    pub condition: usize,
}

/// What was true at the end of a round.
pub(super) struct Past {
    pub people: BTreeMap<Group, Person>,
    pub model: Model,
    pub now: Timestamp,
    pub deliveries: BTreeSet<String>,
}

/// How a wait ended.
enum Settled {
    Computed,
    Died,
}

/// A kernel and what the test knows about it.
pub(super) struct World {
    disk: Arc<Disk>,
    life: Arc<Life>,
    bench: Bench,
    random: Random,
    sent: Vec<SentEvent>,
    defined: Vec<Option<Defined>>,
    next_audience: u32,
    /// The slot of each audience that there ever was.
    slots: BTreeMap<AudienceId, usize>,
    /// Whom an audience that writes once has written to, and who was one person with them since.
    written_to: BTreeSet<(AudienceId, Identifier)>,
    model: Model,
    configurations: u64,
    /// How long the process is dead when it dies next.
    dead_for_ms: i64,
    /// Whether messages had to be waited for, by letting time pass.
    has_waited: bool,
    past: Option<Past>,
}

impl World {
    pub(super) fn new(engine: EngineKind, seed: u64) -> World {
        let disk = Disk::new(engine);
        let life = disk.live(Engine::Kept);
        let store: Arc<dyn Store> = life.clone();
        World {
            disk,
            life,
            bench: bench(store),
            random: Random(seed),
            sent: vec![],
            defined: vec![None; SLOTS],
            next_audience: 1,
            slots: BTreeMap::new(),
            written_to: BTreeSet::new(),
            model: Model::Absent,
            configurations: 0,
            dead_for_ms: 0,
            has_waited: false,
            past: None,
        }
    }

    /// Do what a round says, wait until all is computed, and compare.
    pub(super) fn round(&mut self, round: &Round) -> Result<(), String> {
        for step in round {
            self.step(step)?;
            if self.life.is_dead() {
                self.live_again();
            }
        }
        self.settle()?;
        self.check().map_err(|problem| format!("{problem}\nafter {round:?}"))?;
        self.check_messages(round).map_err(|problem| format!("{problem}\nafter {round:?}"))?;
        self.has_waited = false;
        Ok(())
    }

    /// Compute everything again from the log, and in other orders of arrival.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.bench.kernel.stop();
        self.life.die();
        self.life = self.disk.live(Engine::Lost);
        forget_derived(self.life.as_ref());
        self.begin();
        self.settle()?;
        self.check().map_err(|problem| format!("{problem}\nafter everything was computed again"))?;
        let deliveries = self.deliveries();
        let past = self.past.as_ref().map_or(0, |past| past.deliveries.len());
        if deliveries.len() != past {
            return Err(format!("{} deliveries became {} when all was computed again", past, deliveries.len()));
        }
        for order in 1..=2 {
            self.in_another_order().map_err(|problem| format!("{problem}\nin arrival order {order}"))?;
        }
        Ok(())
    }

    fn in_another_order(&mut self) -> Result<(), String> {
        let other = bench(Arc::new(kith_store::memory()));
        other.clock.advance_ms(self.bench.clock.now().0 - other.clock.now().0);
        let setup = self.bench.setup.lock().clone();
        other.configure(|held| *held = Setup { installations: sources_of(held, &setup), ..setup });
        let mut events: Vec<SentEvent> = self.sent.iter().filter(|event| !event.is_superseded).cloned().collect();
        self.random.shuffle(&mut events);
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + self.random.index(5)));
            other.send(now.iter().map(SentEvent::draft).collect());
            rest = later;
        }
        other.settle();
        settle_time(&other)?;
        check(&other, &self.sent, &self.defined, self.model)
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(told) | Step::Import(told) | Step::Correct(told) => {
                let is_import = !matches!(step, Step::Send(_));
                let now = self.bench.clock.now();
                let of = |told: &PlannedEvent| self.sent.iter().find(|sent| sent.told.number == told.number);
                let sent = |told: &PlannedEvent| {
                    // A correction is of something that was sent.
                    let from = if matches!(step, Step::Correct(_)) { of(told)?.time } else { now };
                    Some(SentEvent { told: told.clone(), time: from.plus_ms(-told.ago_ms), is_superseded: false })
                };
                let sent: Vec<SentEvent> = told.iter().filter_map(sent).collect();
                let take = |world: &World| {
                    let drafts = sent.iter().map(SentEvent::draft).collect();
                    if is_import { world.bench.try_import(drafts) } else { world.bench.try_send(drafts) }
                };
                let taken = take(self);
                if taken.is_err() {
                    if !self.life.is_dead() {
                        return Err(format!("events were refused: {:?}", taken.err()));
                    }
                    // No answer came, so the client sends again.
                    self.live_again();
                    take(self).unwrap();
                }
                for event in sent {
                    let held = self.sent.iter_mut().filter(|held| held.told.number == event.told.number);
                    held.for_each(|held| held.is_superseded = true);
                    self.sent.push(event);
                }
            }
            Step::Define { slot, condition } => {
                let id = self.defined[*slot].map_or(self.next_audience, |defined| defined.id);
                self.next_audience = self.next_audience.max(id + 1);
                self.slots.insert(AudienceId(id), *slot);
                self.defined[*slot] = Some(Defined { id, condition: *condition });
                self.configure();
            }
            Step::Delete { slot } => {
                self.defined[*slot] = None;
                self.configure();
            }
            Step::Model(model) => {
                self.model = *model;
                self.configure();
            }
            Step::Reconfigure => {
                self.configurations += 1;
                self.configure();
            }
            Step::Wait { ms } => {
                self.bench.clock.advance_ms(*ms);
                self.bench.kernel.shared.wake_reactor(WORKSPACE);
            }
            Step::DieAfter { commits } => self.life.die_after(*commits),
            Step::DieForLong { commits, ms } => {
                self.life.die_after(*commits);
                self.dead_for_ms = *ms;
            }
            Step::Restart => {
                self.bench.kernel.stop();
                self.life.die();
                self.life = self.disk.live(Engine::Kept);
                self.begin();
            }
        }
        Ok(())
    }

    /// Put in force what is defined. It is durable before, as the catalogue is.
    fn configure(&self) {
        self.write_setup();
        let setup = self.bench.setup.lock().clone();
        self.bench.kernel.configure(setup).unwrap();
    }

    fn write_setup(&self) {
        let mut setup = self.bench.setup.lock();
        let defined = self.defined.iter().enumerate().filter_map(|(slot, one)| one.map(|one| (slot, one)));
        let audience = |(slot, defined): (usize, Defined)| {
            let mut audience = audience(defined.id, CONDITIONS[defined.condition], Some(ConsentBasis::NotRefused));
            if slot == PARTING_SLOT {
                let bye = |enter: &Action| Action { payload: BYE.into(), ..enter.clone() };
                audience.on_exit = audience.on_enter.as_ref().map(bye);
            }
            if let (ONCE_SLOT, Some(enter)) = (slot, &mut audience.on_enter) {
                enter.re_entry = ReEntry::Never;
            }
            audience
        };
        setup.audiences = defined.map(audience).collect();
        setup.installations.retain(|installed| installed.id != MODEL);
        let sources = setup.installations.iter_mut().filter(|installed| installed.id == SOURCE);
        sources.for_each(|source| source.corrects = true);
        let (many, activity) = match self.model {
            Model::Absent => return,
            Model::Held => (None, Activity::Held { since: START, why: "off".into() }),
            Model::Running { many } => (Some(many), Activity::Running),
        };
        // A model that is held is in whatever version; the last one that ran has done its work.
        let many = many.unwrap_or(3);
        let role = Role::TagModel(Arc::new(Threshold(i64::try_from(many).unwrap())));
        let mut model = installed(MODEL.0, "level", PluginKind::TagModel, role);
        model.digest = format!("digest-of-level-{many}");
        model.config_hash = self.configurations;
        model.activity = activity;
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
        setup.installations.push(model);
    }

    /// The process is dead: a new one opens what was durable.
    fn live_again(&mut self) {
        self.life.die();
        let shared = &self.bench.kernel.shared;
        shared.closing.store(true, Ordering::SeqCst);
        shared.stopping.store(true, Ordering::SeqCst);
        // Its senders would try to write down what came of their messages for as long as they may.
        shared.workers.end_tasks();
        self.bench.kernel.stop();
        self.life = self.disk.live(Engine::Kept);
        self.bench.clock.advance_ms(std::mem::take(&mut self.dead_for_ms));
        self.begin();
    }

    /// Start a kernel over the present life.
    fn begin(&mut self) {
        self.write_setup();
        let store: Arc<dyn Store> = self.life.clone();
        self.bench.store = Arc::clone(&store);
        let clock = Arc::new(self.bench.clock.clone());
        let setup = self.bench.setup.lock().clone();
        self.bench.kernel = Kernel::start(store, clock, self.bench.notes.clone(), vec![setup]).unwrap();
    }

    /// Wait until everything is computed and sent. Who dies meanwhile lives again.
    fn settle(&mut self) -> Result<(), String> {
        loop {
            match self.try_settle()? {
                Settled::Computed if !self.life.is_dead() => break,
                _ => self.live_again(),
            }
        }
        // It outlived the round; it dies no more.
        self.life.die_after(u64::MAX);
        self.dead_for_ms = 0;
        Ok(())
    }

    fn try_settle(&mut self) -> Result<Settled, String> {
        let mut deadline = Instant::now() + PATIENCE;
        let mut quiet_since = Instant::now();
        loop {
            if self.life.is_dead() {
                return Ok(Settled::Died);
            }
            if Instant::now() > deadline {
                let progress = self.bench.kernel.progress(WORKSPACE);
                return Err(format!("not computed in time: {progress:?}"));
            }
            let head = self.bench.store.head();
            let is_computed = self.bench.kernel.wait_until_reacted(WORKSPACE, head, Duration::from_millis(200));
            if !is_computed || !is_time_worked_off(&self.bench) {
                continue;
            }
            let pending = self.deliveries().iter().any(|d| matches!(d.state, DeliveryState::Pending { .. }));
            if pending && quiet_since.elapsed() > Duration::from_millis(250) {
                // Claimed by a process that died.
                self.bench.clock.advance_ms(LEASE_MS);
                self.bench.kernel.shared.workers.wake_workspace(WORKSPACE);
                self.bench.kernel.shared.wake_reactor(WORKSPACE);
                self.has_waited = true;
                quiet_since = Instant::now();
                deadline = Instant::now() + PATIENCE;
            } else if !pending && self.bench.store.head() == head && !self.life.is_dead() {
                return Ok(Settled::Computed);
            } else {
                self.bench.store.wait_for_change(head, Duration::from_millis(5));
            }
        }
    }

    fn deliveries(&self) -> Vec<DeliveryView> {
        self.bench
            .kernel
            .deliveries(WORKSPACE, &crate::DeliveryFilter::default(), PageRequest::first(10_000))
            .map_or(vec![], |page| page.items)
    }

    fn check(&self) -> Result<(), String> {
        check(&self.bench, &self.sent, &self.defined, self.model)?;
        let deliveries = self.deliveries();
        self.check_movements(&deliveries)?;
        let totals = self.bench.kernel.totals(WORKSPACE).unwrap();
        let in_state = |is: fn(&DeliveryState) -> bool| deliveries.iter().filter(|one| is(&one.state)).count() as u64;
        let expected = (
            in_state(|state| matches!(state, DeliveryState::Delivered { .. } | DeliveryState::Accepted { .. })),
            in_state(|state| matches!(state, DeliveryState::Pending { .. } | DeliveryState::Sending { .. })),
            in_state(|state| matches!(state, DeliveryState::Skipped { .. })),
            in_state(|state| matches!(state, DeliveryState::Dead { .. } | DeliveryState::Unknown { .. })),
        );
        let found = (totals.delivered, totals.pending, totals.skipped, totals.dead);
        if found != expected {
            return Err(format!("totals of deliveries are {found:?} and not {expected:?}"));
        }
        Ok(())
    }

    /// All records.
    fn log(&self) -> Vec<LogRecord> {
        let limits = ChangeLimits { records: usize::MAX, bytes: usize::MAX };
        let (mut log, mut after) = (Vec::new(), Position(0));
        while after < self.bench.store.head() {
            let changes = self.bench.store.changes(WORKSPACE, after, limits).unwrap();
            log.extend(changes.records);
            after = changes.up_to;
        }
        log
    }

    /// Each movement that fires has one message, and nothing else has.
    fn check_movements(&self, deliveries: &[DeliveryView]) -> Result<(), String> {
        let mut movements: BTreeMap<(AudienceId, ProfileId, bool), usize> = BTreeMap::new();
        for record in self.log() {
            if let Change::Membership { audience, profile, movement, cause: Cause::Event | Cause::Time, .. } =
                row::decode(&record.bytes).unwrap()
            {
                let (slot, is_exit) = (self.slots[&audience], movement == Movement::Left);
                if slot == PARTING_SLOT || (slot != ONCE_SLOT && !is_exit) {
                    *movements.entry((audience, profile, is_exit)).or_default() += 1;
                }
            }
        }
        let mut messages: BTreeMap<(AudienceId, ProfileId, bool), usize> = BTreeMap::new();
        for delivery in deliveries {
            let count = messages.entry((delivery.audience, delivery.profile, delivery.payload == BYE)).or_default();
            *count += 1;
            if self.slots[&delivery.audience] == ONCE_SLOT && *count > 1 {
                return Err(format!("{:?} wrote to {} again", delivery.audience, delivery.profile));
            }
        }
        messages.retain(|(audience, _, _), _| self.slots[audience] != ONCE_SLOT);
        // One who left and became one person with a member leaves again, by the same entry.
        let is_right = |key: &(AudienceId, ProfileId, bool)| {
            let (moved, sent) = (movements.get(key).copied().unwrap_or(0), messages.get(key).copied().unwrap_or(0));
            moved == sent || (key.2 && 0 < sent && sent < moved)
        };
        if !movements.keys().chain(messages.keys()).all(is_right) {
            return Err(format!("movements that fire: {movements:?}\nmessages: {messages:?}"));
        }
        Ok(())
    }

    /// What the round may have sent, and what it must have.
    fn check_messages(&mut self, round: &Round) -> Result<(), String> {
        let people = naive::people(&self.sent);
        let deliveries = self.deliveries();
        let groups: Vec<Group> = people.keys().cloned().collect();
        let identities = identities(&self.bench, &groups)?;
        let before = self.past.take();
        let now = self.bench.clock.now();
        let known: BTreeSet<String> = before.as_ref().map(|past| past.deliveries.clone()).unwrap_or_default();
        let mut new: BTreeMap<(u32, Group), u64> = BTreeMap::new();
        let is_new = |delivery: &&DeliveryView| !known.contains(&delivery.id) && delivery.payload != BYE;
        for delivery in deliveries.iter().filter(is_new) {
            let identifier = identities.get(&delivery.profile.0).ok_or("a message to nobody")?;
            *new.entry((delivery.audience.0, naive::group_of(&groups, identifier))).or_default() += 1;
        }
        let bounds = Bounds { round, before: before.as_ref(), defined: &self.defined, model: self.model, now };
        let ids: BTreeSet<u32> = new.keys().map(|(audience, _)| *audience).collect();
        let ids: BTreeSet<u32> = ids.into_iter().chain(self.defined.iter().flatten().map(|one| one.id)).collect();
        for id in ids {
            for (group, person) in &people {
                let sent = new.get(&(id, group.clone())).copied().unwrap_or(0);
                let (mut least, mut most) = bounds.of(id, group, person, self.has_waited);
                let audience = AudienceId(id);
                if self.slots[&audience] == ONCE_SLOT {
                    // Two who became one after the first of several batches were two when they were written to.
                    let is_one_batch = round.iter().filter_map(Step::told).count() <= 1;
                    let was_written_to = group.iter().any(|one| self.written_to.contains(&(audience, one.clone())));
                    least = 0;
                    if is_one_batch {
                        most = if was_written_to { 0 } else { most.min(1) };
                    }
                    if was_written_to || sent > 0 {
                        self.written_to.extend(group.iter().map(|one| (audience, one.clone())));
                    }
                }
                if sent < least || sent > most {
                    let condition =
                        self.defined.iter().flatten().find(|one| one.id == id).map(|one| CONDITIONS[one.condition]);
                    return Err(format!(
                        "{sent} messages of audience {id} ({condition:?}) to {group:?}, where {least} to {most} are right"
                    ));
                }
            }
        }
        self.past = Some(Past {
            people,
            model: self.model,
            now,
            deliveries: deliveries.into_iter().map(|delivery| delivery.id).collect(),
        });
        Ok(())
    }
}
