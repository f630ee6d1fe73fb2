//! What came of a backtest, as the API shows it.

use std::collections::BTreeMap;

use kith_model::id::{AudienceId, InstallationId};
use kith_pipeline::{
    BacktestChange, BacktestEnd, BacktestExample, BacktestLine, BacktestReport, BacktestState, BacktestView,
    MessageCounts, MessageVerdict, OutputComparison,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::installations::shadow::{FailureBody, SideBody};
use crate::api::view::time;
use crate::catalogue::{BacktestRow, InstallationRow, PluginRow, WorkspaceTables};

/// What came of a version that is tried over what is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestBody {
    version: String,
    digest: String,
    /// When it was asked for.
    since: String,
    live_version: String,
    /// The configuration that it is tried with, without what is never shown.
    #[schema(value_type = Value)]
    config: Value,
    /// `waiting` until what is computed is as new as the events that were there when it was asked for, `running`, `done`,
    /// `given-up`, or `held` where the version cannot be made to run.
    state: String,
    /// Why it was given up.
    reason: Option<BacktestReasonBody>,
    begun_at: Option<String>,
    ended_at: Option<String>,
    progress: BacktestProgressBody,
    people: BacktestPeopleBody,
    /// Of those for whom the version gave values, in the order of their names.
    outputs: Vec<BacktestOutputBody>,
    calls: SideBody,
    /// Those of the audiences whose condition reads one of the outputs that would change; `null` without the scope
    /// `audiences:read`, as all that names or counts audiences and their messages.
    audiences: Option<Vec<BacktestAudienceBody>>,
    /// How many more were looked at and would stay as they are.
    audiences_unmoved: Option<usize>,
    /// What of the installation, the audiences and the workspace is not as it was when it began.
    changed: Vec<BacktestChangeBody>,
    not_followed: BacktestBeyondBody,
    /// How the version failed last; `message` is `null` without the scopes of examples.
    last_failure: Option<FailureBody>,
}

/// Why a backtest was given up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestReasonBody {
    code: String,
    message: String,
}

/// How far a backtest is, in people.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestProgressBody {
    done: u64,
    /// When it began.
    of: u64,
}

/// Who was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestPeopleBody {
    /// The version gave values for them.
    compared: u64,
    /// It failed on them, or one of its inputs is none of its columns.
    failed: u64,
    /// They were not asked about, because the time of their batch was over.
    given_up: u64,
    /// One of its inputs is not known yet.
    unknown: u64,
    /// They object to profiling.
    objecting: u64,
    /// An input reads more of their history than there is room or time for.
    too_large: u64,
    unreadable: u64,
    /// Of those compared: what the live version says of them is not known yet, or may be what the one before said.
    pending: u64,
}

/// How often an output of the two versions was the same.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestOutputBody {
    name: String,
    /// Both gave the same, or nothing.
    equal: u64,
    changed: u64,
    only_live: u64,
    only_backtest: u64,
    /// Some of those for whom it differs; `null` without the scope `profiles:read`, or where the data
    /// dictionary calls something sensitive and the key has no `sensitive:read`.
    examples: Option<Vec<BacktestValueBody>>,
}

/// Somebody for whom an output would be another.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestValueBody {
    profile: String,
    /// `null` where there is nothing. Long texts are cut.
    #[schema(value_type = Value)]
    live: Value,
    #[schema(value_type = Value)]
    backtest: Value,
}

/// What would become of an audience.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestAudienceBody {
    name: String,
    entered: u64,
    left: u64,
    /// Whether they belong to it would not be known, or is not known yet.
    undecided: u64,
    /// The messages of those who would enter; `null` without such an action.
    on_enter: Option<BacktestMessagesBody>,
    /// The messages of those who would leave; `null` without such an action.
    on_exit: Option<BacktestMessagesBody>,
    /// Some of those who would enter, as the examples of an output.
    entering: Option<Vec<BacktestMoveBody>>,
    /// Some of those who would leave.
    leaving: Option<Vec<BacktestMoveBody>>,
}

/// What would become of messages if the version were the live one now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestMessagesBody {
    /// They would leave.
    would_pass: u64,
    /// They would be made and refused: no consent, a suppression, nobody to send to.
    would_be_refused: u64,
    /// They would not be made: the action leaves out whom a change of versions moves, or was taken for them already.
    not_due: u64,
}

/// Somebody who would enter or leave an audience.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestMoveBody {
    profile: String,
    /// `would-pass`, `would-be-refused` or `not-due`; `null` without an action.
    message: Option<String>,
    /// Why it would be refused.
    reason: Option<String>,
}

/// Something that is not as it was when a backtest began.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestChangeBody {
    /// `version`, `config`, `fit`, `time-zone`, `audience`, `audience-added` or `audience-removed`.
    what: String,
    /// The audience's name; `null` without the scope `audiences:read`.
    audience: Option<String>,
}

/// What reads the outputs and was not computed with them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestBeyondBody {
    /// Tag models and scorers that read one of the outputs, directly or through others.
    installations: Vec<String>,
    /// Audiences that those decide: what is said of them here may not be all. `null` without the scope `audiences:read`.
    audiences: Option<Vec<String>>,
}

/// What of a report a caller may see beyond its counts of people.
#[derive(Clone, Copy)]
pub(super) struct BacktestSight {
    /// Examples of people.
    pub people: bool,
    /// Names and counts of audiences, and of their messages.
    pub audiences: bool,
}

/// The names of what a report speaks of by its numbers.
struct Names<'a>(&'a WorkspaceTables);

impl Names<'_> {
    fn audience(&self, id: AudienceId) -> String {
        self.0.audiences.get(&id).map_or_else(|| format!("#{}", id.0), |audience| audience.name.to_string())
    }

    fn installation(&self, id: InstallationId) -> String {
        self.0.installations.get(&id).map_or_else(|| format!("#{}", id.0), |row| row.name.to_string())
    }
}

/// The examples of people, where the caller may see them.
struct Examples<'a>(Option<&'a BTreeMap<BacktestLine, Vec<BacktestExample>>>);

impl<'e> Examples<'e> {
    fn of<T>(&self, line: &BacktestLine, body: impl Fn(&'e BacktestExample) -> T) -> Option<Vec<T>> {
        let examples = self.0?;
        Some(examples.get(line).into_iter().flatten().map(body).collect())
    }
}

impl From<&BacktestExample> for BacktestValueBody {
    fn from(example: &BacktestExample) -> BacktestValueBody {
        let value = |json: &Option<String>| {
            json.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or(Value::Null)
        };
        BacktestValueBody {
            profile: example.profile.to_string(),
            live: value(&example.live),
            backtest: value(&example.version),
        }
    }
}

impl From<&BacktestExample> for BacktestMoveBody {
    fn from(example: &BacktestExample) -> BacktestMoveBody {
        let (message, reason) = match &example.message {
            None => (None, None),
            Some(MessageVerdict::Passes) => (Some("would-pass"), None),
            Some(MessageVerdict::Refused { reason }) => (Some("would-be-refused"), Some(reason.clone())),
            Some(MessageVerdict::NotDue) => (Some("not-due"), None),
        };
        BacktestMoveBody { profile: example.profile.to_string(), message: message.map(str::to_owned), reason }
    }
}

fn messages(counts: MessageCounts, has_action: bool) -> Option<BacktestMessagesBody> {
    let MessageCounts { passes, refused, not_due } = counts;
    let is_something = has_action || passes + refused + not_due > 0;
    is_something.then_some(BacktestMessagesBody { would_pass: passes, would_be_refused: refused, not_due })
}

fn outputs(report: &BacktestReport, examples: &Examples<'_>) -> Vec<BacktestOutputBody> {
    let output = |(name, counted): (&String, &OutputComparison)| {
        let OutputComparison { equal, changed, only_live, only_shadow } = *counted;
        BacktestOutputBody {
            name: name.clone(),
            equal,
            changed,
            only_live,
            only_backtest: only_shadow,
            examples: examples.of(&BacktestLine::Output(name.clone()), BacktestValueBody::from),
        }
    };
    report.outputs.iter().map(output).collect()
}

fn audiences(report: &BacktestReport, tables: &WorkspaceTables, examples: &Examples<'_>) -> Vec<BacktestAudienceBody> {
    let moved = report.audiences.iter().filter(|(_, effect)| !effect.is_nothing());
    let audience = moved.map(|(id, effect)| {
        let row = tables.audiences.get(id);
        BacktestAudienceBody {
            name: Names(tables).audience(*id),
            entered: effect.entered,
            left: effect.left,
            undecided: effect.undecided,
            on_enter: messages(effect.on_enter, row.is_some_and(|row| row.on_enter.is_some())),
            on_exit: messages(effect.on_exit, row.is_some_and(|row| row.on_exit.is_some())),
            entering: examples.of(&BacktestLine::Entered(*id), BacktestMoveBody::from),
            leaving: examples.of(&BacktestLine::Left(*id), BacktestMoveBody::from),
        }
    });
    audience.collect()
}

fn change(change: &BacktestChange, names: &Names<'_>, sight: BacktestSight) -> BacktestChangeBody {
    let (what, audience) = match change {
        BacktestChange::Version => ("version", None),
        BacktestChange::Config => ("config", None),
        BacktestChange::Fit => ("fit", None),
        BacktestChange::Zone => ("time-zone", None),
        BacktestChange::Audience(id) => ("audience", Some(names.audience(*id))),
        BacktestChange::AudienceAdded(id) => ("audience-added", Some(names.audience(*id))),
        BacktestChange::AudienceRemoved(id) => ("audience-removed", Some(names.audience(*id))),
    };
    BacktestChangeBody { what: what.to_owned(), audience: audience.filter(|_| sight.audiences) }
}

/// How a backtest stands, why it was given up, and when it ended. Without a view it cannot be made to run.
fn stands(view: Option<&BacktestView>) -> (&'static str, Option<BacktestReasonBody>, Option<String>) {
    match view.map(|view| &view.state) {
        None => ("held", None, None),
        Some(BacktestState::Waiting) => ("waiting", None, None),
        Some(BacktestState::Running) => ("running", None, None),
        Some(BacktestState::Ended(BacktestEnd::Done { at })) => ("done", None, Some(time(*at))),
        Some(BacktestState::Ended(BacktestEnd::GivenUp { at, code, message })) => {
            let reason = BacktestReasonBody { code: code.clone(), message: message.clone() };
            ("given-up", Some(reason), Some(time(*at)))
        }
    }
}

/// A backtest as far as the caller may see it.
pub(super) fn shown(
    tables: &WorkspaceTables,
    (row, backtest, plugin): (&InstallationRow, &BacktestRow, &PluginRow),
    view: Option<BacktestView>,
    sight: BacktestSight,
) -> BacktestBody {
    let names = Names(tables);
    let (state, reason, ended_at) = stands(view.as_ref());
    let none = BacktestReport::default();
    let report = view.as_ref().map_or(&none, |view| &view.report);
    let examples = Examples(view.as_ref().filter(|_| sight.people).map(|view| &view.examples));
    let people = report.people;
    let moved = sight.audiences.then(|| audiences(report, tables, &examples));
    let of_view = |view: &BacktestView| {
        let changed = view.changes.iter().map(|what| change(what, &names, sight)).collect();
        let installations = view.readers.iter().map(|id| names.installation(*id)).collect();
        let audiences = sight.audiences.then(|| view.beyond.iter().map(|id| names.audience(*id)).collect());
        (changed, BacktestBeyondBody { installations, audiences })
    };
    let nothing = || {
        let audiences = sight.audiences.then(Vec::new);
        (Vec::new(), BacktestBeyondBody { installations: Vec::new(), audiences })
    };
    let (changed, not_followed) = view.as_ref().map_or_else(nothing, of_view);
    BacktestBody {
        version: backtest.version.to_string(),
        digest: plugin.digest.clone(),
        since: time(backtest.since),
        live_version: row.version.to_string(),
        config: backtest.config.clone(),
        state: state.to_owned(),
        reason,
        begun_at: report.begun_at.map(time),
        ended_at,
        progress: BacktestProgressBody { done: people.done, of: report.of_all.max(people.done) },
        people: BacktestPeopleBody {
            compared: people.compared,
            failed: people.failed,
            given_up: people.given_up,
            unknown: people.unknown,
            objecting: people.objecting,
            too_large: people.too_large,
            unreadable: people.unreadable,
            pending: people.pending,
        },
        outputs: outputs(report, &examples),
        calls: SideBody::from(&report.version),
        audiences_unmoved: moved.as_ref().map(|moved| report.audiences.len() - moved.len()),
        audiences: moved,
        changed,
        not_followed,
        last_failure: view
            .as_ref()
            .and_then(|view| view.last_failure.clone())
            .map(|failure| FailureBody::of(failure, sight.people)),
    }
}
