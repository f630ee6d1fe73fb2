//! Champion and challenger: a fit that went well and the one in use say what they foretell of people whom no fit was shown, and both
//! are measured by what came of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_model::budget::table;
use kith_model::id::{ProfileId, SourceIdentityId};
use kith_model::plugin::{Cancellation, PluginFault, TimesOfCall};
use kith_model::table::Cell;

use super::FitError;
use super::measures::{Foretold, Measure, measured};
use super::training::Labelled;
use crate::plan::ModelPlan;
use crate::react::models::{InputRow, Job, JobResult, RowOutcome, needs_fit};
use crate::rows::derived::{ModelVersion, OutputValue};
use crate::setup::{Activity, FittedState};

/// Rows that both are measured by, at most: what was foretold of them stays in memory until the end, and of a hundred thousand people
/// an area under the curve is known to some thousandths.
const MAX_ROWS: usize = 100_000;

/// Calls about one batch: enough to ask about a few people alone.
const MAX_CALLS: usize = 64;

/// Batches in a row of which a fit answers for nobody, before it is asked no more.
const MAX_FRUITLESS: u32 = 3;

/// How a fit that went well and the one that was in use compare.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// Rows that both are measured by: of those that were drawn, where every fit that was asked has answered.
    pub rows: u64,
    /// Rows that were drawn, all of one person or none.
    pub drawn: u64,
    /// Rows with a label of those who are held out, as far as they were read.
    pub of: u64,
    /// Whether the label is true or false; else it is a number.
    pub has_truths: bool,
    pub challenger: Judged,
    /// The fit that was in use, with its number.
    pub champion: Option<(u32, Judged)>,
}

/// How good a fit is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// What could be told of the rows.
    pub measures: BTreeMap<Measure, f64>,
    /// Rows of those that were drawn for which it has no answer.
    pub unanswered: u64,
    /// Why it was not asked, or no more.
    pub problem: Option<String>,
}

/// What is compared.
pub(super) struct Comparison<'a> {
    pub model: &'a ModelPlan,
    /// What was learnt just now.
    pub challenger: Arc<[u8]>,
    pub has_truths: bool,
    pub cancellation: &'a Cancellation,
}

/// A fit that is asked.
struct Contestant {
    state: Arc<[u8]>,
    /// Whether it has been asked, and has foretold something of anybody.
    is_asked: bool,
    is_any_good: bool,
    /// Batches in a row without an answer.
    fruitless: u32,
    /// Why it had no answer for somebody, the last time.
    fault: Option<PluginFault>,
    /// The limit that all calls together have passed. It is no fault, and the new fit alone bears it: the one in use need not be
    /// shown to be good.
    passed: Option<PluginFault>,
}

/// A row that was drawn: what came of it, and what each foretold.
struct Drawn {
    id: u64,
    label: f64,
    challenger: Option<f64>,
    champion: Option<f64>,
}

/// The rows that are drawn: those of the smallest ids, which tell nothing of anybody, so that the same people are drawn again by a
/// later fit, whatever the order in which they come.
struct Draw {
    rows: Vec<Drawn>,
    /// The largest id that is drawn still.
    up_to: u64,
    most: usize,
}

/// What a comparison has used. All its calls together have as much as the fit had, of time with the reading of histories: a plugin that
/// learns from the first rows alone has not read those of everybody within its own.
struct Used {
    processor: Duration,
    began: Instant,
}

impl Draw {
    fn new(most: usize) -> Draw {
        Draw { rows: Vec::new(), up_to: u64::MAX, most }
    }

    /// Add rows, and draw from half as many people where they have become too many.
    fn add(&mut self, rows: impl Iterator<Item = Drawn>) {
        let up_to = self.up_to;
        self.rows.extend(rows.filter(|row| row.id <= up_to));
        while self.rows.len() > self.most && self.up_to > 0 {
            self.up_to /= 2;
            self.rows.retain(|row| row.id <= self.up_to);
        }
    }
}

impl Used {
    fn new() -> Used {
        Used { processor: Duration::ZERO, began: Instant::now() }
    }

    /// The limit that is passed, where one is.
    fn passed(&self) -> Option<PluginFault> {
        limit_passed(self.processor, self.began.elapsed())
    }

    fn add(&mut self, result: &JobResult) {
        self.processor += result.calls.iter().map(|call| call.processor()).sum::<Duration>();
    }
}

/// The limit of a fit that is passed by so much, where one is.
fn limit_passed(processor: Duration, time: Duration) -> Option<PluginFault> {
    let (processor_ms, time_ms) = (table::FIT_PROCESSOR.default, table::FIT_TIME.default);
    if processor > Duration::from_millis(processor_ms) {
        return Some(PluginFault::CpuExceeded { limit_ms: processor_ms });
    }
    let times = TimesOfCall {
        elapsed: time,
        with_peers: Duration::ZERO,
        processor,
        processor_limit: Duration::from_millis(processor_ms),
    };
    let late = || PluginFault::DeadlineExceeded { limit_ms: time_ms, spent: times.spent() };
    (time > Duration::from_millis(time_ms)).then(late)
}

impl Comparison<'_> {
    /// Ask both about the rows of those who are held out, batch by batch. Beside the comparison there is the fault for which the one in
    /// use answered nobody; that of the new one is told in the comparison alone, because nothing that is live comes of it.
    pub(super) fn run(
        &self,
        batches: impl Iterator<Item = Result<Labelled, FitError>>,
    ) -> Result<(HeldOut, Option<PluginFault>), FitError> {
        let mut challenger = Contestant::new(Arc::clone(&self.challenger));
        let (in_use, unasked) = self.in_use();
        let mut champion = in_use.filter(|_| unasked.is_none()).map(|fit| Contestant::new(Arc::clone(&fit.bytes)));
        let (mut draw, mut of, mut used) = (Draw::new(MAX_ROWS), 0, Used::new());
        for batch in batches {
            let batch = match batch {
                Err(FitError::Fault(late)) if late.is_of_limit() => {
                    challenger.passed = Some(late);
                    break;
                }
                batch => batch?,
            };
            challenger.passed = used.passed();
            // Nothing can be said of the fit, and none of the rest is needed.
            if challenger.is_given_up() {
                break;
            }
            of += batch.labels.iter().flatten().count() as u64;
            let rows: Vec<usize> = (0..batch.rows.rows)
                .filter(|row| batch.labels[*row].is_some() && batch.ids[*row] <= draw.up_to)
                .collect();
            let by_challenger = self.ask(&mut challenger, &batch, &rows, &mut used)?;
            let by_champion = match &mut champion {
                Some(champion) => self.ask(champion, &batch, &rows, &mut used)?,
                None => vec![None; rows.len()],
            };
            let foretold = rows.iter().zip(by_challenger).zip(by_champion);
            draw.add(foretold.filter_map(|((row, challenger), champion)| {
                Some(Drawn { id: batch.ids[*row], label: batch.labels[*row]?, challenger, champion })
            }));
        }
        challenger.passed = challenger.passed.take().or_else(|| used.passed());
        let fault = champion.as_ref().filter(|it| !it.is_any_good).and_then(|it| it.fault.clone());
        // One that was not heard to the end may answer for somebody, and no other takes its place unseen.
        let is_heard = |champion: &Contestant| challenger.passed.is_none() || champion.is_given_up();
        let champion = champion.map(|champion| champion.problem().filter(|_| is_heard(&champion)));
        let champion = in_use.map(|fit| (fit.version, champion.unwrap_or(unasked)));
        Ok((self.judge(&draw.rows, of, challenger.problem(), champion), fault))
    }

    /// The fit in use, and why it is not asked where it is not.
    fn in_use(&self) -> (Option<&FittedState>, Option<String>) {
        let in_use = self.model.installed.fitted.as_ref();
        let unasked = match self.model.installed.activity {
            Activity::Running if in_use.is_some_and(|fit| !fit.holds_out) => {
                Some("it has learnt from those who are held out, too".to_owned())
            }
            Activity::Running => None,
            Activity::WaitsForFit { .. } => Some("the version cannot read it".to_owned()),
            Activity::Held { .. } | Activity::Quarantined { .. } => Some("the installation is stopped".to_owned()),
        };
        (in_use, unasked)
    }

    /// What a fit foretells of these rows of a batch.
    fn ask(
        &self,
        contestant: &mut Contestant,
        batch: &Labelled,
        rows: &[usize],
        used: &mut Used,
    ) -> Result<Vec<Option<f64>>, FitError> {
        let mut foretold = vec![None; rows.len()];
        let Some(training) = &self.model.installed.training else { return Ok(foretold) };
        if rows.is_empty() || contestant.is_given_up() {
            return Ok(foretold);
        }
        let asked = rows.iter().zip(0..).map(|(row, ordinal)| InputRow {
            // A job tells its rows apart by their numbers, and nothing of these is written down.
            profile: ProfileId(SourceIdentityId([0; 16])),
            ordinal,
            inputs: 0,
            cells: batch.rows.columns.iter().map(|column| column.cell(*row)).collect::<Vec<Cell>>(),
            misfit: None,
        });
        let job = Job {
            state: Some(Arc::clone(&contestant.state)),
            max_calls: MAX_CALLS,
            // While a version waits for a fit, the installation has the outputs of the version before it.
            version: ModelVersion { outputs: vec![training.predicts.clone()], ..self.model.version() },
            ..Job::new(self.model, asked.collect())
        };
        let result = job.run(|_| !self.cancellation.is_cancelled() && used.passed().is_none());
        if self.cancellation.is_cancelled() {
            return Err(FitError::Stopping);
        }
        used.add(&result);
        contestant.note(&result);
        for (row, outcome) in result.rows {
            let RowOutcome::Values(answer) = outcome else { continue };
            if let Some(place) = foretold.get_mut(row.ordinal as usize) {
                *place = answer.values.first().and_then(number);
            }
        }
        contestant.is_any_good |= foretold.iter().any(Option::is_some);
        Ok(foretold)
    }

    /// Measure both by the rows that both have answered for; where one was given up, the other by its own.
    fn judge(
        &self,
        drawn: &[Drawn],
        of: u64,
        problem: Option<String>,
        champion: Option<(u32, Option<String>)>,
    ) -> HeldOut {
        let is_compared = matches!(champion, Some((_, None)));
        let together = drawn.iter().filter(|row| row.challenger.is_some() && (!is_compared || row.champion.is_some()));
        let together: Vec<&Drawn> = if problem.is_some() { Vec::new() } else { together.collect() };
        let measures = |of: fn(&Drawn) -> Option<f64>| {
            let foretold = together.iter().filter_map(|row| Some(Foretold { label: row.label, prediction: of(row)? }));
            measured(&foretold.collect::<Vec<_>>(), self.has_truths)
        };
        let unanswered = |of: fn(&Drawn) -> Option<f64>| drawn.iter().filter(|row| of(row).is_none()).count() as u64;
        let champion = champion.map(|(fit, problem)| {
            let judged = match problem {
                Some(_) => Judged { problem, ..Judged::default() },
                None => Judged {
                    measures: measures(|row| row.champion),
                    unanswered: unanswered(|row| row.champion),
                    problem,
                },
            };
            (fit, judged)
        });
        HeldOut {
            rows: together.len() as u64,
            drawn: drawn.len() as u64,
            of,
            has_truths: self.has_truths,
            challenger: Judged {
                measures: measures(|row| row.challenger),
                unanswered: unanswered(|row| row.challenger),
                problem,
            },
            champion,
        }
    }
}

impl Contestant {
    fn new(state: Arc<[u8]>) -> Contestant {
        Contestant { state, is_asked: false, is_any_good: false, fruitless: 0, fault: None, passed: None }
    }

    /// Count a batch about which it was asked.
    fn note(&mut self, result: &JobResult) {
        self.is_asked = true;
        let is_answered = result.rows.iter().any(|(_, outcome)| matches!(outcome, RowOutcome::Values(_)));
        self.fruitless = if is_answered { 0 } else { self.fruitless + 1 };
        let fault = result.rows.iter().find_map(|(_, outcome)| outcome.fault());
        self.fault = fault.cloned().or_else(|| self.fault.take());
    }

    fn is_unreadable(&self) -> bool {
        self.fault.as_ref().is_some_and(needs_fit)
    }

    /// Whether it is asked no more: it cannot be read, or has answered for nobody again and again, or all has been used.
    fn is_given_up(&self) -> bool {
        self.passed.is_some() || self.is_unreadable() || self.fruitless >= MAX_FRUITLESS
    }

    /// Why nothing can be said of it, without the plugin's own words: they may name somebody.
    fn problem(&self) -> Option<String> {
        if let Some(limit) = &self.passed {
            return Some(format!("what was read and asked of those who are held out {limit}, which is that of a fit"));
        }
        if self.is_unreadable() {
            return Some("the version cannot read it".to_owned());
        }
        if !self.is_given_up() && (self.is_any_good || !self.is_asked) {
            return None;
        }
        Some(match &self.fault {
            Some(fault) => format!("it answers for nobody ({})", fault.code()),
            None => "it foretells nothing of anybody".to_owned(),
        })
    }
}

/// What an output foretells.
fn number(value: &OutputValue) -> Option<f64> {
    match value {
        OutputValue::Bool(holds) => Some(f64::from(u8::from(*holds))),
        #[allow(clippy::cast_precision_loss, reason = "of a prediction nobody reads the last digits")]
        OutputValue::Int(number) => Some(*number as f64),
        OutputValue::Float(number) => Some(*number),
        OutputValue::Null | OutputValue::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(id: u64) -> Drawn {
        Drawn { id, label: 0.0, challenger: None, champion: None }
    }

    /// Ids that are all over their range, as those of people are.
    fn ids() -> impl Iterator<Item = u64> {
        (0..1_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[test]
    fn the_same_people_are_drawn_in_whatever_order_they_come() {
        let of = |ids: &mut dyn Iterator<Item = u64>| {
            let mut draw = Draw::new(100);
            // Two rows of each person.
            ids.for_each(|id| draw.add([drawn(id), drawn(id)].into_iter()));
            let mut left: Vec<u64> = draw.rows.iter().map(|row| row.id).collect();
            left.sort_unstable();
            left
        };
        let all: Vec<u64> = ids().collect();
        let left = of(&mut all.iter().copied());
        assert!((50..=100).contains(&left.len()), "{}", left.len());
        assert!(left.chunks(2).all(|pair| pair[0] == pair[1]), "all of one person or none");
        assert_eq!(of(&mut all.iter().rev().copied()), left);
    }

    #[test]
    fn one_who_has_all_rows_is_drawn_to_an_end() {
        let mut draw = Draw::new(2);
        draw.add([drawn(0), drawn(0), drawn(0)].into_iter());
        assert_eq!((draw.rows.len(), draw.up_to), (3, 0));
    }

    #[test]
    fn calls_about_those_who_are_held_out_have_what_a_fit_has() {
        let used = |processor, time| {
            let passed = limit_passed(Duration::from_secs(processor), Duration::from_secs(time));
            passed.map(|fault| fault.code())
        };
        assert_eq!(used(60, 120), None);
        assert_eq!(used(61, 0), Some("limit.cpu"));
        assert_eq!(used(0, 121), Some("limit.wall"));
    }

    #[test]
    fn a_fit_that_answers_for_nobody_says_why() {
        let state: Arc<[u8]> = Vec::new().into();
        let of = |fault: Option<PluginFault>, fruitless, is_any_good| {
            let asked =
                Contestant { is_asked: true, is_any_good, fruitless, fault, ..Contestant::new(Arc::clone(&state)) };
            (asked.is_given_up(), asked.problem())
        };
        let refused = || Some(PluginFault::BadInput("ada@example.com".to_owned()));
        let nobody = || Some("it answers for nobody (plugin.bad-input)".to_owned());
        assert_eq!(of(None, 0, true), (false, None));
        assert_eq!(of(refused(), 1, true), (false, None), "it cannot take somebody");
        assert_eq!(of(refused(), 1, false), (false, nobody()), "without what it says, which may name somebody");
        assert_eq!(of(refused(), MAX_FRUITLESS, true), (true, nobody()));
        assert_eq!(of(None, 0, false), (false, Some("it foretells nothing of anybody".to_owned())));
        let unreadable = Some(PluginFault::UnreadableState("old".to_owned()));
        assert_eq!(of(unreadable, 1, false), (true, Some("the version cannot read it".to_owned())));
        assert_eq!(Contestant::new(Arc::clone(&state)).problem(), None, "nobody is held out");
        let passed = Some(PluginFault::CpuExceeded { limit_ms: 60_000 });
        let slow = Contestant { passed, ..Contestant::new(state) };
        let why = "what was read and asked of those who are held out passed the limit of 60000 ms of processor time, which is that of a fit";
        assert_eq!((slow.is_given_up(), slow.problem()), (true, Some(why.to_owned())));
    }

    #[test]
    fn what_an_output_foretells_is_a_number() {
        assert_eq!(number(&OutputValue::Bool(true)), Some(1.0));
        assert_eq!(number(&OutputValue::Int(-3)), Some(-3.0));
        assert_eq!(number(&OutputValue::Float(0.25)), Some(0.25));
        assert_eq!(number(&OutputValue::Text("0.5".to_owned())), None);
        assert_eq!(number(&OutputValue::Null), None);
    }
}
