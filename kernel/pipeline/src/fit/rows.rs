//! The rows of a fit, made while they are read: of all people as they are now, or of their past.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_features::LeafSet;
use kith_model::budget::table;
use kith_model::id::{InstallationId, Position, ProfileId, SourceIdentityId};
use kith_model::plugin::{Batch, Cancellation, InputSpec, PluginFault, TimeSpent};
use kith_model::table::Cell;
use kith_model::time::Timestamp;
use kith_store::ReadError;

use super::FitError;
use super::training::{Part, Past, PastView, PeopleIds, TrainingPlan};
use crate::plan::ModelPlan;
use crate::profiles::evaluation::{Evaluation, Profile};
use crate::profiles::history::whole_history;
use crate::profiles::person::Person;
use crate::profiles::scan::ProfilePages;
use crate::react::models;
use crate::shared::{CompiledSetup, KernelState, Workspace};

/// What the rows of an installation's model are made of.
#[derive(Clone)]
pub(crate) struct Source {
    shared: Arc<KernelState>,
    workspace: Arc<Workspace>,
    compiled: Arc<CompiledSetup>,
    installation: InstallationId,
    complete: Arc<LeafSet>,
    /// Events that came later are not looked at.
    position: Position,
    start: Timestamp,
    cancellation: Cancellation,
    /// When the time of a fit is over. The guest's own clock is looked at between batches, and a batch of which few people have a row
    /// may take the reading of everybody.
    pub(crate) until: Instant,
}

impl Source {
    /// What is there now, of the installation's model in this setup.
    pub(crate) fn now(
        shared: &Arc<KernelState>,
        workspace: &Arc<Workspace>,
        compiled: &Arc<CompiledSetup>,
        installation: InstallationId,
        cancellation: &Cancellation,
    ) -> Source {
        let projection = workspace.projection.read();
        Source {
            shared: Arc::clone(shared),
            workspace: Arc::clone(workspace),
            compiled: Arc::clone(compiled),
            installation,
            complete: Arc::clone(&projection.complete),
            position: projection.as_of.position,
            start: projection.as_of.time,
            cancellation: cancellation.clone(),
            until: end_of_time(),
        }
    }

    /// The same with the time of another fit.
    pub(super) fn again(self) -> Source {
        Source { until: end_of_time(), ..self }
    }

    /// Whether rows are made still.
    fn look_at_time(&self) -> Result<(), FitError> {
        if self.cancellation.is_cancelled() {
            return Err(FitError::Stopping);
        }
        if Instant::now() >= self.until {
            let (limit_ms, spent) = (table::FIT_TIME.default, TimeSpent::HeldUp);
            return Err(FitError::Fault(PluginFault::DeadlineExceeded { limit_ms, spent }));
        }
        Ok(())
    }

    /// Up to where the log is looked at.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    fn view(&self) -> Evaluation<'_> {
        let CompiledSetup { plan, setup, .. } = self.compiled.as_ref();
        Evaluation { plan, zone: &setup.zone, complete: &self.complete, now: self.start }
    }

    fn past_view(&self) -> PastView<'_> {
        PastView { zone: &self.compiled.setup.zone, source_names: &self.compiled.plan.source_names }
    }

    fn pages(&self) -> ProfilePages {
        ProfilePages::new(Arc::clone(&self.shared.store), self.workspace.id)
    }

    /// One person's inputs as they are now; none while one of them is unknown, or where one is no cell of its column: such a person
    /// has a dead letter from the computation, and would keep the model from learning of everybody else.
    fn present(&self, model: &ModelPlan, mut people: Vec<Person>) -> Result<Option<Vec<Cell>>, FitError> {
        let (store, view) = (self.shared.store.as_ref(), self.view());
        for person in &mut people {
            let leaves = model.leaves().filter_map(|leaf| view.plan.program.leaf(leaf));
            let loaded = person.load_sealed(store, self.workspace.id, leaves);
            if self.readable(person.id, loaded)?.is_none() {
                return Ok(None);
            }
        }
        let profile = Profile::new(people.iter().collect(), view);
        let today = view.zone.start_of_day(view.zone.day(view.now));
        let row = models::inputs(model, &profile, today).filter(|row| row.misfit.is_none());
        Ok(row.map(|row| row.cells))
    }

    /// One person's past; none of those who object to profiling, nor where it is more than is held of one person.
    fn past(&self, training: &TrainingPlan, people: &[Person]) -> Result<Option<Past>, FitError> {
        if Profile::new(people.iter().collect(), self.view()).objects() {
            return Ok(None);
        }
        let is_wanted = || !self.cancellation.is_cancelled();
        let (store, workspace) = (self.shared.store.as_ref(), self.workspace.id);
        let events = whole_history(store, workspace, people, self.position, is_wanted);
        let Some(events) = self.readable(people[0].id, events)? else { return Ok(None) };
        if events.is_none() && is_wanted() {
            tracing::warn!(workspace = workspace.0, "somebody has too long a history, and is left out of a fit");
        }
        Ok(events.map(|events| Past::new(training, events, self.start)))
    }

    /// What was read of somebody; none of one who cannot be read, because one row must not keep the model from learning of everybody
    /// else.
    fn readable<T>(&self, person: SourceIdentityId, read: Result<T, ReadError>) -> Result<Option<T>, FitError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error @ ReadError::Io { .. }) => Err(unread(error)),
            Err(error) => {
                let workspace = self.workspace.id.0;
                tracing::error!(workspace, identity = %person, %error, "somebody cannot be read and is left out of a fit");
                Ok(None)
            }
        }
    }
}

/// One row, and whose it is.
struct Row {
    cells: Vec<Cell>,
    id: u64,
    /// Where it is of the past: as of when, and what came after it.
    past: Option<(Timestamp, Option<f64>)>,
}

/// A walk over the rows of a model.
pub(super) struct Rows {
    source: Source,
    ids: PeopleIds,
    /// Whose rows there are, of a model with labels.
    part: Part,
    pages: ProfilePages,
    /// The profiles of the page that was read last that are not rows yet.
    profiles: std::vec::IntoIter<Vec<Person>>,
    /// Whose rows are being made, with their past.
    under_way: Option<(u64, Vec<Person>, Past)>,
    /// The row that would have made the last table too large.
    left_over: Option<Row>,
}

impl Rows {
    pub(super) fn new(source: Source, part: Part) -> Rows {
        let ids = PeopleIds::new(&source.compiled.setup.realm_key, source.installation);
        let (pages, profiles) = (source.pages(), Vec::new().into_iter());
        Rows { source, ids, part, pages, profiles, under_way: None, left_over: None }
    }

    /// Go back to the first row.
    pub(super) fn rewind(&mut self) {
        (self.pages, self.profiles) = (self.source.pages(), Vec::new().into_iter());
        (self.under_way, self.left_over) = (None, None);
    }

    /// The next rows, as many as a batch has room for.
    pub(super) fn next_batch(&mut self) -> Result<Option<Batch>, FitError> {
        let compiled = Arc::clone(&self.source.compiled);
        let Some((_, model)) = compiled.plan.model(self.source.installation) else {
            return Err(FitError::UnknownInstallation);
        };
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < models::MAX_BATCH_ROWS
            && let Some(row) = self.next_row(model)?
        {
            bytes += models::cells_bytes(&row.cells);
            if bytes > models::MAX_BATCH_BYTES && !rows.is_empty() {
                self.left_over = Some(row);
                break;
            }
            rows.push(row);
        }
        if rows.is_empty() { Ok(None) } else { batch(model, &rows).map(Some) }
    }

    /// The next row, made when it is asked for: those of a page of profiles may take more than the profiles.
    fn next_row(&mut self, model: &ModelPlan) -> Result<Option<Row>, FitError> {
        if let Some(row) = self.left_over.take() {
            return Ok(Some(row));
        }
        loop {
            self.source.look_at_time()?;
            if let Some(row) = self.next_of_past(model) {
                return Ok(Some(row));
            }
            if let Some(people) = self.profiles.next() {
                if let Some(row) = self.person(model, people)? {
                    return Ok(Some(row));
                }
                continue;
            }
            match self.pages.next_page().map_err(unread)? {
                Some(profiles) => self.profiles = profiles.into_iter(),
                None => return Ok(None),
            }
        }
    }

    /// The row of a person as they are now; of a model with labels none, and the past is under way.
    fn person(&mut self, model: &ModelPlan, people: Vec<Person>) -> Result<Option<Row>, FitError> {
        let Some(root) = people.first() else { return Ok(None) };
        let id = self.ids.id(ProfileId(root.id));
        let Some(training) = &model.training else {
            let cells = self.source.present(model, people)?;
            return Ok(cells.map(|cells| Row { cells, id, past: None }));
        };
        if Part::of(id) == self.part
            && let Some(past) = self.source.past(training, &people)?
        {
            self.under_way = Some((id, people, past));
        }
        Ok(None)
    }

    fn next_of_past(&mut self, model: &ModelPlan) -> Option<Row> {
        let training = model.training.as_ref()?;
        let (id, people, past) = self.under_way.as_mut()?;
        let row = {
            let profile = Profile::new(people.iter().collect(), self.source.view());
            past.next_row(training, &model.inputs, &profile, &self.source.past_view())
        };
        let row = row.map(|row| Row { cells: row.cells, id: *id, past: Some((row.cut_off, row.label)) });
        if row.is_none() {
            self.under_way = None;
        }
        row
    }
}

/// Rows as the columns of a model.
fn batch(model: &ModelPlan, rows: &[Row]) -> Result<Batch, FitError> {
    let columns: Vec<InputSpec> = model.inputs.iter().map(|(spec, _)| spec.clone()).collect();
    let table = models::table(&columns, rows.iter().map(|row| row.cells.as_slice())).map_err(FitError::Fault)?;
    let past: Option<Vec<_>> = rows.iter().map(|row| row.past).collect();
    let (cut_offs, labels) = past.map(|past| past.into_iter().unzip()).unzip();
    Ok(Batch { rows: table, ids: rows.iter().map(|row| row.id).collect(), labels, cut_offs })
}

/// When a fit that begins now is over.
fn end_of_time() -> Instant {
    Instant::now() + Duration::from_millis(table::FIT_TIME.default)
}

fn unread(error: ReadError) -> FitError {
    FitError::Read(error.to_string())
}
