//! What came of a version that is tried over what is stored, as counts: how its values differ from those that are live, who would
//! enter and leave audiences, and what would be sent because of that.

use std::collections::BTreeMap;

use kith_model::audience::Audience;
use kith_model::id::{AudienceId, ProfileId, SourceIdentityId};
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row, read_postcard};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::plan::AudiencePlan;
use crate::setup::Installed;
use crate::shadow::ShadowVersion;
use crate::shadow::report::{OutputComparison, ShadowSide};
use crate::shared::CompiledSetup;

/// Which run of which version a report is of. Another configuration or another beginning is another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacktestKey {
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    pub config_hash: u64,
    pub since: Timestamp,
}

impl BacktestKey {
    pub(super) fn of(version: &ShadowVersion) -> BacktestKey {
        let ShadowVersion { digest, config_hash, since, .. } = version;
        BacktestKey { digest: digest.clone(), config_hash: *config_hash, since: *since }
    }
}

/// What an example is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BacktestLine {
    /// An output that would be another.
    Output(String),
    Entered(AudienceId),
    Left(AudienceId),
}

/// What would become of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageVerdict {
    /// It would leave.
    Passes,
    /// The gate would refuse it.
    Refused { reason: String },
    /// The action would not be taken.
    NotDue,
}

/// Somebody for whom something would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacktestExample {
    pub profile: ProfileId,
    /// Of an output, as JSON, long texts cut; `None` where it has nothing.
    pub live: Option<String>,
    pub version: Option<String>,
    /// Of an audience with an action.
    pub message: Option<MessageVerdict>,
}

impl BacktestExample {
    /// What it takes, about.
    pub(super) fn size_bytes(&self) -> usize {
        const EXAMPLE_BYTES: usize = 64;
        let values = [&self.live, &self.version].into_iter().flatten().map(String::len).sum::<usize>();
        let reason = match &self.message {
            Some(MessageVerdict::Refused { reason }) => reason.len(),
            Some(MessageVerdict::Passes | MessageVerdict::NotDue) | None => 0,
        };
        EXAMPLE_BYTES + values + reason
    }
}

/// What it was compared with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LiveKey {
    pub digest: String,
    pub config_hash: u64,
    /// 0 for none.
    pub fit: u32,
    pub zone: String,
}

impl LiveKey {
    pub(super) fn of(compiled: &CompiledSetup, installed: &Installed) -> LiveKey {
        LiveKey {
            digest: installed.digest.clone(),
            config_hash: installed.config_hash,
            fit: installed.fitted.as_ref().map_or(0, |fitted| fitted.version),
            zone: compiled.setup.zone.name().to_owned(),
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BacktestEnd {
    /// Everybody was looked at.
    Done { at: Timestamp },
    /// It was given up; what was counted until then stays.
    GivenUp { at: Timestamp, code: String, message: String },
}

/// Who was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacktestPeople {
    /// All of them.
    pub done: u64,
    /// Those for whom the version gave values.
    pub compared: u64,
    /// The version gave nothing for them: it failed, or one of its inputs is none of its columns.
    pub failed: u64,
    /// They were not asked about, because the time of their batch was over.
    pub given_up: u64,
    /// One of the inputs is not known yet.
    pub unknown: u64,
    /// They object to profiling, and no model is asked about them.
    pub objecting: u64,
    /// An input reads more of their history than there is room or time for.
    pub too_large: u64,
    /// Something of them cannot be read.
    pub unreadable: u64,
    /// Of those compared: what the live version says of them is not known yet, or may be what the one before said.
    pub pending: u64,
}

impl BacktestPeople {
    pub(super) fn add(&mut self, more: BacktestPeople) {
        self.done += more.done;
        self.compared += more.compared;
        self.failed += more.failed;
        self.given_up += more.given_up;
        self.unknown += more.unknown;
        self.objecting += more.objecting;
        self.too_large += more.too_large;
        self.unreadable += more.unreadable;
        self.pending += more.pending;
    }
}

/// The messages of those who would move one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCounts {
    /// They would leave.
    pub passes: u64,
    /// The gate would refuse them.
    pub refused: u64,
    /// The action would not be taken: it leaves out whom a change of versions moves, or has been taken for them.
    pub not_due: u64,
}

/// What would become of an audience.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceEffect {
    /// Its condition and its actions as they were when it began.
    pub(super) definition: u64,
    pub entered: u64,
    pub left: u64,
    /// Whose membership would not be known with the other values, or is not known yet.
    pub undecided: u64,
    pub on_enter: MessageCounts,
    pub on_exit: MessageCounts,
}

impl AudienceEffect {
    /// Whether it would be as it is.
    pub fn is_nothing(&self) -> bool {
        self.entered == 0 && self.left == 0 && self.undecided == 0
    }
}

/// Changes with what decides who is in an audience and what is sent because of it.
pub(super) fn definition(plan: &AudiencePlan) -> u64 {
    let Audience { on_enter, on_exit, .. } = &plan.audience;
    xxh3_64(format!("{} {on_enter:?} {on_exit:?}", plan.token).as_bytes())
}

/// What came of a version that is tried over what is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacktestReport {
    pub(super) of: BacktestKey,
    pub(super) live: LiveKey,
    /// The last one who was looked at.
    pub(super) last: Option<SourceIdentityId>,
    /// Present once it has begun.
    pub begun_at: Option<Timestamp>,
    pub ended: Option<BacktestEnd>,
    /// People when it began.
    pub of_all: u64,
    pub people: BacktestPeople,
    /// By name, of those for whom the version gave values; what the version alone gave is `only_shadow`.
    pub outputs: BTreeMap<String, OutputComparison>,
    /// How the version's calls went.
    pub version: ShadowSide,
    /// Those whose condition reads one of the outputs.
    pub audiences: BTreeMap<AudienceId, AudienceEffect>,
    /// The first of each line.
    pub(super) examples: BTreeMap<BacktestLine, Vec<BacktestExample>>,
}

/// [`BacktestReport`] before it kept examples.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct BacktestReportV1 {
    of: BacktestKey,
    live: LiveKey,
    last: Option<SourceIdentityId>,
    begun_at: Option<Timestamp>,
    ended: Option<BacktestEnd>,
    of_all: u64,
    people: BacktestPeople,
    outputs: BTreeMap<String, OutputComparison>,
    version: ShadowSide,
    audiences: BTreeMap<AudienceId, AudienceEffect>,
}

impl Row for BacktestReport {
    const WHAT: &'static str = "what came of a backtest";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 2;

    fn before(version: u8, body: &[u8]) -> Option<Result<BacktestReport, String>> {
        (version == 1).then(|| read_postcard::<BacktestReportV1>(body).map(BacktestReport::from))
    }
}

impl From<BacktestReportV1> for BacktestReport {
    fn from(before: BacktestReportV1) -> BacktestReport {
        let BacktestReportV1 { of, live, last, begun_at, ended, of_all, people, outputs, version, audiences } = before;
        let examples = BTreeMap::new();
        BacktestReport { of, live, last, begun_at, ended, of_all, people, outputs, version, audiences, examples }
    }
}

impl BacktestReport {
    pub(super) fn new(of: BacktestKey) -> BacktestReport {
        BacktestReport { of, ..BacktestReport::default() }
    }
}

/// Something that is not as it was when a backtest began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BacktestChange {
    /// The live version, or its bytes.
    Version,
    Config,
    Fit,
    /// The workspace's time zone.
    Zone,
    /// An audience's condition or its actions.
    Audience(AudienceId),
    /// An audience that reads one of the outputs is new.
    AudienceAdded(AudienceId),
    AudienceRemoved(AudienceId),
}

/// What has changed since a backtest of an installation began. `reading` are the audiences that it would look at now.
pub(super) fn changes<'a>(
    report: &BacktestReport,
    live: &LiveKey,
    reading: impl Iterator<Item = &'a AudiencePlan>,
) -> Vec<BacktestChange> {
    if report.begun_at.is_none() {
        return Vec::new();
    }
    let of_live = [
        (report.live.digest != live.digest, BacktestChange::Version),
        (report.live.config_hash != live.config_hash, BacktestChange::Config),
        (report.live.fit != live.fit, BacktestChange::Fit),
        (report.live.zone != live.zone, BacktestChange::Zone),
    ];
    let mut changes: Vec<BacktestChange> =
        of_live.into_iter().filter_map(|(is_other, change)| is_other.then_some(change)).collect();
    let mut missing = report.audiences.clone();
    for plan in reading {
        let id = plan.audience.id;
        match missing.remove(&id) {
            Some(effect) if effect.definition == definition(plan) => {}
            Some(_) => changes.push(BacktestChange::Audience(id)),
            None => changes.push(BacktestChange::AudienceAdded(id)),
        }
    }
    changes.extend(missing.into_keys().map(BacktestChange::AudienceRemoved));
    changes
}

#[cfg(test)]
mod tests {
    use kith_store::row;

    use super::*;

    #[test]
    fn rows_of_the_release_before_are_read() {
        let now = BacktestReport { of_all: 7, begun_at: Some(Timestamp(5)), ..BacktestReport::default() };
        let BacktestReport { of, live, last, begun_at, ended, of_all, people, outputs, version, audiences, .. } =
            now.clone();
        let before = BacktestReportV1 { of, live, last, begun_at, ended, of_all, people, outputs, version, audiences };
        let mut bytes = vec![1];
        row::write_postcard(&before, &mut bytes);
        assert_eq!(row::decode::<BacktestReport>(&bytes).unwrap(), now);
    }

    #[test]
    fn the_format_describes_the_row() {
        let (what, owner, version) = (BacktestReport::WHAT, BacktestReport::OWNER.name(), BacktestReport::VERSION);
        let line = format!("| `BacktestReport` | {what} | {owner} | {version} | postcard |");
        assert!(include_str!("../../../store/FORMAT.md").contains(&line), "FORMAT.md lacks {line}");
    }

    #[test]
    fn a_report_says_what_has_changed_since_it_began() {
        let live = LiveKey { digest: "a".into(), config_hash: 1, fit: 0, zone: "UTC".into() };
        let audiences = [(AudienceId(1), AudienceEffect::default())].into();
        let report = BacktestReport { live: live.clone(), audiences, ..BacktestReport::default() };
        let since = |report: &BacktestReport, live: &LiveKey| changes(report, live, std::iter::empty());
        assert_eq!(since(&report, &live), [], "it has not begun");
        let report = BacktestReport { begun_at: Some(Timestamp(1)), ..report };
        let removed = BacktestChange::AudienceRemoved(AudienceId(1));
        assert_eq!(since(&report, &live), [removed]);
        let other = LiveKey { digest: "b".into(), fit: 2, ..live };
        assert_eq!(since(&report, &other), [BacktestChange::Version, BacktestChange::Fit, removed]);
    }
}
