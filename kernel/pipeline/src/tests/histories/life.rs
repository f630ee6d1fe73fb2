//! A kernel that lives through a history, and what is compared with the naive answer after each round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kith_model::audience::{Action, Cause, ConsentBasis, ReEntry};
use kith_model::change::{Change, Movement};
use kith_model::delivery::DeliveryState;
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, SourceIdentityId};
use kith_model::identity::Identifier;
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::{Clock as _, Timestamp};
use kith_store::{EngineKind, Key, Operation, Store, Unit, row};

use super::mortal::{Disk, Engine, Life};
use super::naive::{self, CONDITIONS, Group, Person};
use super::steps::{Model, Random, Round, SLOTS, Sent, Step, Told};
use crate::profiles::facts::each_row;
use crate::tests::harness::*;
use crate::{Activity, DeliveryView, Kernel, ProfileView, Role, Setup};

const MODEL: InstallationId = InstallationId(2);

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
    fn fit(
        &self,
        _: Box<dyn Iterator<Item = Table> + Send>,
        _: &kith_model::plugin::Cancellation,
    ) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let orders = rows.column("orders").unwrap();
        let mut level = ColumnBuilder::new("level", ColumnType::Text);
        for row in 0..rows.rows {
            let many = matches!(orders.cell(row), Cell::Int64(count) if count >= self.0);
            level.push(Cell::Text(if many { "many" } else { "few" }.into())).unwrap();
        }
        Ok(Table { rows: rows.rows, columns: vec![level.finish()] })
    }
}

/// An audience as it is defined.
#[derive(Debug, Clone, Copy)]
struct Defined {
    id: u32,
    condition: usize,
}

/// What was true at the end of a round.
struct Past {
    people: BTreeMap<Group, Person>,
    model: Model,
    now: Timestamp,
    deliveries: BTreeSet<String>,
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
    sent: Vec<Sent>,
    defined: Vec<Option<Defined>>,
    next_audience: u32,
    /// The slot of each audience that there ever was.
    slots: BTreeMap<AudienceId, usize>,
    /// Whom an audience that writes once has written to, and who was one person with them since.
    written_to: BTreeSet<(AudienceId, Identifier)>,
    model: Model,
    configurations: u64,
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
        let mut events = self.sent.clone();
        self.random.shuffle(&mut events);
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + self.random.index(5)));
            other.send(now.iter().map(Sent::draft).collect());
            rest = later;
        }
        other.settle();
        settle_time(&other)?;
        check(&other, &self.sent, &self.defined, self.model)
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(told) | Step::Import(told) => {
                let is_import = matches!(step, Step::Import(_));
                let now = self.bench.clock.now();
                let sent = |told: &Told| Sent { told: told.clone(), time: now.plus_ms(-told.ago_ms) };
                let sent: Vec<Sent> = told.iter().map(sent).collect();
                let take = |world: &World| {
                    let drafts = sent.iter().map(Sent::draft).collect();
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
                self.sent.extend(sent);
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
                self.bench.kernel.shared.workers.wake_all();
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
        self.bench.kernel.deliveries(WORKSPACE, 10_000, None).map_or(vec![], |page| page.items)
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

    /// Each movement that fires has one message, and nothing else has.
    fn check_movements(&self, deliveries: &[DeliveryView]) -> Result<(), String> {
        let mut movements: BTreeMap<(AudienceId, ProfileId, bool), usize> = BTreeMap::new();
        for record in self.bench.store.all_changes(Position(0), usize::MAX).unwrap() {
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

/// How many messages a round may set off.
struct Bounds<'a> {
    round: &'a Round,
    before: Option<&'a Past>,
    defined: &'a [Option<Defined>],
    model: Model,
    now: Timestamp,
}

impl Bounds<'_> {
    /// Whoever may have been one person with the group at some time of the round.
    fn reach(&self, group: &Group, sends: &[&Vec<Told>]) -> Group {
        let mut reach = group.clone();
        let parts = self.before.iter().flat_map(|past| past.people.keys()).cloned();
        let mut ties: Vec<Group> = parts.collect();
        if sends.len() > 1 {
            // One after the other; of a single batch the outcome alone is ever seen.
            ties.extend(sends.iter().copied().flatten().map(|told| told.identifiers.iter().cloned().collect()));
        }
        while let Some(at) = ties.iter().position(|tie| !tie.is_disjoint(&reach)) {
            reach.extend(ties.swap_remove(at));
        }
        reach
    }

    fn of(&self, audience: u32, group: &Group, person: &Person, has_waited: bool) -> (u64, u64) {
        let sends: Vec<&Vec<Told>> = self.round.iter().filter_map(Step::told).collect();
        let parts: Vec<&Group> = match self.before {
            Some(past) => past.people.keys().filter(|part| !part.is_disjoint(group)).collect(),
            None => vec![],
        };
        let reach = self.reach(group, &sends);
        let is_of = |told: &&Told| told.identifiers.iter().any(|one| reach.contains(one));
        let live = self.round.iter().filter(|step| matches!(step, Step::Send(_))).filter_map(Step::told);
        let own: Vec<&Told> = live.flatten().filter(is_of).collect();
        let is_imported = sends.iter().copied().flatten().filter(is_of).count() > own.len();
        let waits = self.round.iter().filter(|step| matches!(step, Step::Wait { .. })).count() as u64;
        let waits = waits + u64::from(has_waited);
        let is_one = parts.len() <= 1 && reach == *group;
        // A tie between people who were known says nothing new about them. Somebody new may be alone for a while, unless it is
        // all in one batch.
        let is_known =
            |one: &Identifier| self.before.is_some_and(|past| past.people.keys().any(|part| part.contains(one)));
        let may_be_new = sends.len() > 1 || parts.is_empty();
        let is_telling =
            |told: &&&Told| told.has_content() || (may_be_new && told.identifiers.iter().any(|one| !is_known(one)));
        let telling = own.iter().filter(is_telling).count();
        let most = telling as u64 + waits;
        let is_calm = !self.round.iter().any(Step::is_change);
        let is_plain = is_calm && is_one && !is_imported && own.len() as u64 + waits <= 1;
        let condition = |defined: &[Option<Defined>]| {
            defined.iter().flatten().find(|one| one.id == audience).map(|one| one.condition)
        };
        let (Some(past), Some(defined)) = (self.before, condition(self.defined)) else { return (0, most) };
        if !is_plain || self.model != past.model {
            return (0, most);
        }
        let was = parts.first().map_or(Some(false), |part| past.people[*part].meets(defined, past.model, past.now));
        match (was, person.meets(defined, self.model, self.now)) {
            (Some(false), Some(true)) => (1, 1),
            (Some(_), Some(_)) => (0, 0),
            _ => (0, most),
        }
    }
}

fn bench(store: Arc<dyn Store>) -> Bench {
    let bench = Bench::over(store, vec![], |setup| {
        setup.installations.retain(|installed| installed.id != MODEL);
        setup.identity_rules.limits.insert("email".to_owned(), 2);
    });
    bench.clock.advance_ms(DAY / 2);
    bench
}

/// The installations of `setup` with the source that `held` has, because each bench has a connector of its own.
fn sources_of(held: &Setup, setup: &Setup) -> Vec<crate::Installed> {
    let others = setup.installations.iter().filter(|installed| installed.id != SOURCE).cloned();
    held.installations.iter().filter(|installed| installed.id == SOURCE).cloned().chain(others).collect()
}

fn is_time_worked_off(bench: &Bench) -> bool {
    let workspace = bench.kernel.shared.workspace(WORKSPACE).unwrap();
    if workspace.projection.read().as_of.time >= bench.clock.now() {
        return true;
    }
    bench.kernel.shared.wake_reactor(WORKSPACE);
    false
}

fn settle_time(bench: &Bench) -> Result<(), String> {
    bench.wait_until("time is worked off", || is_time_worked_off(bench));
    bench.settle();
    Ok(())
}

/// Drop everything that can be computed from the facts.
fn forget_derived(store: &dyn Store) {
    let mut keys = vec![Key::progress(WORKSPACE, "cursor"), Key::progress(WORKSPACE, "readiness")];
    let mut identities = Vec::new();
    each_row(store, &Key::derived_rows(WORKSPACE), |key, _| {
        identities.extend(key.as_derived());
        keys.push(key.clone());
        Ok(())
    })
    .unwrap();
    for identity in identities {
        each_row(store, &Key::all_chunks(WORKSPACE, identity), |key, _| {
            keys.push(key.clone());
            Ok(())
        })
        .unwrap();
    }
    each_row(store, &Key::timers(WORKSPACE), |key, _| {
        keys.push(key.clone());
        Ok(())
    })
    .unwrap();
    let operations = keys.into_iter().map(Operation::Delete).collect();
    store.commit(Unit { operations, ..Unit::default() }).unwrap();
}

/// Everybody's profile as the kernel has it.
fn profiles(bench: &Bench, groups: &[Group]) -> Result<Vec<ProfileView>, String> {
    let find = |identifier: &Identifier| {
        let found = bench.kernel.profile_by_identifier(WORKSPACE, identifier).map_err(|error| error.to_string())?;
        found.ok_or_else(|| format!("nobody is {identifier}"))
    };
    let mut profiles: Vec<ProfileView> = Vec::new();
    for identifier in groups.iter().flatten() {
        let profile = find(identifier)?;
        if !profiles.iter().any(|known| known.id == profile.id) {
            profiles.push(profile);
        }
    }
    Ok(profiles)
}

fn identities(bench: &Bench, groups: &[Group]) -> Result<BTreeMap<SourceIdentityId, Identifier>, String> {
    Ok(profiles(bench, groups)?.into_iter().flat_map(|profile| profile.members).collect())
}

/// Compare all that the kernel says of people, audiences and counts with the naive answer.
fn check(bench: &Bench, sent: &[Sent], defined: &[Option<Defined>], model: Model) -> Result<(), String> {
    let people = naive::people(sent);
    let groups: Vec<Group> = people.keys().cloned().collect();
    let now = bench.clock.now();
    let profiles = profiles(bench, &groups)?;
    let group = |profile: &ProfileView| profile.members.iter().map(|(_, one)| one.clone()).collect::<Group>();
    let found: BTreeSet<Group> = profiles.iter().map(group).collect();
    if found != groups.iter().cloned().collect() {
        return Err(format!("people are {found:?} and not {groups:?}"));
    }
    let totals = bench.kernel.totals(WORKSPACE).unwrap();
    let identifiers = groups.iter().flatten().count();
    if (totals.profiles, totals.identifiers) != (groups.len() as u64, identifiers as u64) {
        return Err(format!("{totals:?} of {} people with {identifiers} identifiers", groups.len()));
    }
    for profile in &profiles {
        let person = &people[&group(profile)];
        let city = profile.traits.get("city").map(|city| city.value.json.trim_matches('"').to_owned());
        if city.as_deref() != person.city {
            return Err(format!("{:?} lives in {city:?} and not in {:?}", group(profile), person.city));
        }
        let level = profile.tags.get("level").map(|tag| tag.json.trim_matches('"').to_owned());
        if person.level(model).is_some_and(|expected| level.as_deref() != expected) {
            return Err(format!("{:?} has level {level:?} and not {:?}", group(profile), person.level(model)));
        }
    }
    for (condition, text) in CONDITIONS.iter().enumerate() {
        let truths: Option<Vec<bool>> = people.values().map(|person| person.meets(condition, model, now)).collect();
        let count = bench.kernel.count(WORKSPACE, text).map_err(|error| error.to_string())?;
        let expected = truths.map(|truths| truths.into_iter().filter(|truth| *truth).count() as u64);
        // What a model that does not run has never computed stays unknown.
        let is_known = count.exact || expected.is_none();
        if !is_known
            || expected.is_some_and(|expected| expected != count.count)
            || count.population != groups.len() as u64
        {
            return Err(format!("`{text}` counts {count:?} and not {expected:?}"));
        }
    }
    for one in defined.iter().flatten() {
        check_audience(bench, *one, &profiles, |profile| people[&group(profile)].meets(one.condition, model, now))?;
    }
    Ok(())
}

fn check_audience(
    bench: &Bench,
    defined: Defined,
    profiles: &[ProfileView],
    meets: impl Fn(&ProfileView) -> Option<bool>,
) -> Result<(), String> {
    let id = AudienceId(defined.id);
    let text = CONDITIONS[defined.condition];
    let size = bench.kernel.audience(WORKSPACE, id).map_err(|error| error.to_string())?.size;
    let page = bench.kernel.audience_members(WORKSPACE, id, 10_000, None).map_err(|error| error.to_string())?;
    let members: BTreeSet<ProfileId> = page.members.into_iter().collect();
    if size != Some(members.len() as u64) {
        return Err(format!("audience {id:?} `{text}` has size {size:?} and members {members:?}"));
    }
    if let Some(stranger) = members.iter().find(|member| !profiles.iter().any(|profile| profile.id == **member)) {
        return Err(format!("audience {id:?} `{text}` has {stranger}, who is nobody"));
    }
    for profile in profiles {
        let explained = bench.kernel.explain(WORKSPACE, id, profile.id).map_err(|error| error.to_string())?;
        let says = explained.map(|part| part["truth"].clone());
        let is_member = members.contains(&profile.id);
        let shows = profile.audiences.contains_key(&id);
        let expected = meets(profile);
        let is_right = expected.is_none_or(|expected| expected == is_member);
        // A condition that is null holds for nobody; one that a stopped model never decided moves nobody.
        let is_undecided = expected.is_none() && says.as_ref().is_some_and(|says| says == "unknown");
        let is_explained = is_undecided || says.as_ref().is_some_and(|says| (*says == true) == is_member);
        if !is_right || !is_explained || shows != is_member {
            return Err(format!(
                "audience {id:?} `{text}`: {:?} should be a member: {expected:?}, is in the list: {is_member}, shows it: \
                 {shows}, explanation: {says:?}",
                profile.members
            ));
        }
    }
    Ok(())
}
