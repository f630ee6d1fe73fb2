//! The rule that ends a version of a model which fails on many of the people for whom the one before it had values, as a pure machine:
//! what is counted of a version that took another's place, what that says of it, and how a trial goes of one that was stopped.

use kith_model::plugin::PluginFault;
use roaring::RoaringBitmap;

use crate::rows::uncomputed::{OrdinalSet, Tally};
use crate::setup::Activity;
use crate::shared::MAX_STRIKES;
use crate::trials::{LOST, TrialKind, decided_by};

/// A version is stopped that fails on so large a part of the people for whom the one before it had values: one in this many, and
/// [`MAX_STRIKES`] of them at least.
const LOST_ONE_IN: u64 = 4;

/// People about whom a version has been asked before the part that it failed on says how it does with all; of fewer, all of them.
const SAMPLE: u64 = 1_000;

/// How a version stands to the rule that ends one which fails on many people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Runs,
    /// It was stopped, for whatever reason.
    Stopped,
    /// It is asked again about those on whom it failed.
    OnTrial,
}

/// What the rule says of a version now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It goes on.
    Open,
    /// Its trial has ended well.
    Passed,
    /// It is to be stopped, for this reason.
    Lost(String),
}

/// How a version does while it is asked about everybody because it took another's place: with the people for whom that one had
/// values. Whoever sends what no version can take has no part in this.
///
/// Its [`Tally`] is written in the commit of the answers that it counts: else a version that fails on many people would be judged by
/// those alone who were left when the process began, and a restart in the middle would let it run.
#[derive(Debug, Default)]
pub(crate) struct Reevaluation {
    /// The version's.
    token: u64,
    pub(super) stage: Stage,
    /// People on whom it failed.
    lost: RoaringBitmap,
    /// People for whom it answered since the process began.
    kept: RoaringBitmap,
    /// For how many it had answered before that. None of them is among `kept`, because the value of each is this version's.
    kept_before: u64,
    last: String,
    /// In a trial: people on whom it failed before and who are not in the queue yet.
    pub(super) to_ask: RoaringBitmap,
    /// Those of them who were put there.
    asked_again: RoaringBitmap,
}

impl Reevaluation {
    /// What an earlier process left of a version whose installation has this activity now.
    pub(super) fn reopened(tally: Tally, activity: &Activity, trial: Option<TrialKind>) -> Reevaluation {
        let Tally { token, is_stopped, lost: OrdinalSet(lost), kept: kept_before, last } = tally;
        let counted = Reevaluation { token, kept_before, ..Reevaluation::default() };
        let is_on_trial = trial == Some(TrialKind::People);
        match (activity.is_running() && !is_on_trial, is_stopped) {
            // That process may have ended before it judged.
            (true, false) => Reevaluation { lost, last, ..counted },
            // Its trial ended well, or somebody wants it none the less.
            (true, true) => Reevaluation::default(),
            (false, _) if is_on_trial || decided_by(activity) == Some(TrialKind::People) => {
                Reevaluation { stage: Stage::Stopped, ..counted }
            }
            (false, _) => Reevaluation::default(),
        }
    }

    /// What is written down of it.
    pub(super) fn tally(&self) -> Tally {
        let (lost, last) = (OrdinalSet(self.lost.clone()), self.last.clone());
        Tally { token: self.token, is_stopped: self.stage != Stage::Runs, lost, kept: self.kept(), last }
    }

    /// For how many people it answered.
    fn kept(&self) -> u64 {
        self.kept.len() + self.kept_before
    }

    /// The version is stopped. What it came to counts on only where its trial is to be judged by it.
    pub(super) fn stop(&mut self) {
        match self.stage {
            Stage::Runs => *self = Reevaluation::default(),
            Stage::Stopped => {}
            Stage::OnTrial => self.stage = Stage::Stopped,
        }
    }

    /// The version of that token is on trial: these are those on whom it failed, and of whom `stale` wait already.
    pub(super) fn begin_trial(&mut self, token: u64, faulted: &RoaringBitmap, stale: &RoaringBitmap) {
        if self.stage == Stage::OnTrial && self.token == token {
            return;
        }
        let (kept, kept_before) = match self.token == token {
            true => (std::mem::take(&mut self.kept), self.kept_before),
            false => (RoaringBitmap::new(), 0),
        };
        // Of a trial that was broken off.
        let asked_again = &self.asked_again & stale;
        let (stage, to_ask) = (Stage::OnTrial, faulted.clone());
        *self = Reevaluation { token, stage, kept, kept_before, to_ask, asked_again, ..Reevaluation::default() };
    }

    /// The version runs, and no trial decides about it: it may have been stopped, and somebody wants it none the less.
    pub(super) fn run(&mut self) {
        if self.stage != Stage::Runs {
            *self = Reevaluation::default();
        }
    }

    /// The next of those who are to be asked about again.
    pub(super) fn next_to_ask(&mut self, count: usize) -> Vec<u32> {
        let next: Vec<u32> = self.to_ask.iter().take(count).collect();
        for ordinal in &next {
            self.to_ask.remove(*ordinal);
            self.asked_again.insert(*ordinal);
        }
        next
    }

    /// Somebody could not be put into the queue.
    pub(super) fn ask_again_later(&mut self, ordinal: u32) {
        if self.stage == Stage::OnTrial {
            self.to_ask.insert(ordinal);
        }
    }

    /// Whether there are people in a trial who were not asked about again yet.
    pub(super) fn asks_again(&self, stale: &RoaringBitmap) -> bool {
        self.stage == Stage::OnTrial && !(self.to_ask.is_empty() && self.asked_again.is_disjoint(stale))
    }

    /// What the rule says of the version of that token, of which these have yet to be asked about; `is_settled` where that is nobody
    /// else.
    pub(super) fn judge(&self, token: u64, stale: &RoaringBitmap, is_settled: bool) -> Judgement {
        if self.stage == Stage::Stopped {
            return Judgement::Open;
        }
        let is_done = is_settled && stale.is_empty() && self.to_ask.is_empty();
        if let Some(reason) = self.verdict(token, is_done) {
            return Judgement::Lost(reason);
        }
        let has_sample = is_done || self.lost.len() + self.kept() >= SAMPLE;
        let passes = self.stage == Stage::OnTrial && has_sample && !self.asks_again(stale);
        if passes { Judgement::Passed } else { Judgement::Open }
    }

    /// Whether what comes of somebody about whom the version of that token is asked again by an admin counts: where it failed on them
    /// before as far as is counted, and in a trial. An admin may have let it run though it lost others, and asks about these alone.
    pub(super) fn counts(&self, token: u64, ordinal: u32) -> bool {
        self.stage == Stage::OnTrial || (self.token == token && self.lost.contains(ordinal))
    }

    /// What the version of that token came to with somebody.
    pub(crate) fn note(&mut self, token: u64, ordinal: u32, fault: Option<&PluginFault>) {
        if self.token != token {
            *self = Reevaluation { token, ..Reevaluation::default() };
        }
        match fault {
            None => {
                self.lost.remove(ordinal);
                self.kept.insert(ordinal);
            }
            // What a machine beside it could not do says nothing of the version, nor does what no column can say.
            Some(fault) if fault.is_strike() || matches!(fault, PluginFault::Permanent(_)) => {
                self.kept.remove(ordinal);
                self.lost.insert(ordinal);
                self.last = fault.to_string();
            }
            Some(_) => {}
        }
    }

    /// Why the version of that token is to be stopped, if it is. `is_done` where nobody is left to be asked about.
    fn verdict(&self, token: u64, is_done: bool) -> Option<String> {
        let (lost, asked) = (self.lost.len(), self.lost.len() + self.kept());
        let is_much = lost >= MAX_STRIKES as u64 && lost * LOST_ONE_IN >= asked && (asked >= SAMPLE || is_done);
        (is_much && self.token == token)
            .then(|| format!("it failed on {lost} of {asked}{LOST}, the last: {}", self.last))
    }
}

#[cfg(test)]
mod tests {
    use kith_model::time::Timestamp;

    use super::*;

    fn trap() -> PluginFault {
        PluginFault::Trapped { message: "boom".into(), backtrace: Vec::new() }
    }

    fn asked(lost: u32, kept: u32) -> Reevaluation {
        let mut reevaluation = Reevaluation::default();
        (0..lost).for_each(|ordinal| reevaluation.note(7, ordinal, Some(&trap())));
        (lost..lost + kept).for_each(|ordinal| reevaluation.note(7, ordinal, None));
        reevaluation
    }

    #[test]
    fn a_quarter_of_those_who_had_values_ends_a_version_and_a_few_do_not() {
        for (lost, kept, is_done, ends) in [
            (2, 1, true, false),
            (3, 0, true, true),
            (3, 9, true, true),
            (3, 10, true, false),
            (276, 349, true, true),
            (276, 349, false, false),
            (250, 750, false, true),
            (249, 751, false, false),
            (1, 1_000_000, true, false),
        ] {
            let verdict = asked(lost, kept).verdict(7, is_done);
            assert_eq!(verdict.is_some(), ends, "{lost} of {}: {verdict:?}", lost + kept);
        }
        let reason = asked(3, 1).verdict(7, true).unwrap();
        assert_eq!(
            reason,
            "it failed on 3 of 4 people for whom the version before it had values, the last: trap: boom"
        );
        assert_eq!(asked(3, 1).verdict(8, true), None, "it is another version");
    }

    #[test]
    fn a_trial_ends_when_those_on_whom_it_failed_were_asked_about_again() {
        let (nobody, faulted) = (RoaringBitmap::new(), RoaringBitmap::from([0, 1, 2]));
        let mut tried = asked(3, 9);
        assert!(matches!(tried.judge(7, &nobody, true), Judgement::Lost(_)));
        tried.stage = Stage::Stopped;
        assert_eq!(tried.judge(7, &nobody, true), Judgement::Open, "it is stopped once");
        tried.stop();
        tried.begin_trial(7, &faulted, &nobody);
        assert_eq!(tried.judge(7, &nobody, true), Judgement::Open, "nobody was asked about yet");
        assert_eq!((tried.next_to_ask(2), tried.next_to_ask(2)), (vec![0, 1], vec![2]));
        assert_eq!(tried.judge(7, &faulted, true), Judgement::Open, "they wait");
        for ordinal in 0..3 {
            tried.note(7, ordinal, Some(&trap()));
        }
        let Judgement::Lost(reason) = tried.judge(7, &nobody, true) else { panic!("{tried:?}") };
        assert!(reason.starts_with("it failed on 3 of 12 people"), "{reason}");
        tried.stop();
        tried.begin_trial(7, &faulted, &nobody);
        tried.next_to_ask(3);
        tried.note(7, 0, Some(&trap()));
        tried.note(7, 1, None);
        tried.note(7, 2, None);
        assert_eq!(tried.judge(7, &nobody, false), Judgement::Open, "others have yet to be asked about");
        assert_eq!(tried.judge(7, &nobody, true), Judgement::Passed);
    }

    #[test]
    fn who_lets_a_stopped_version_run_is_not_told_again_of_those_whom_it_lost_before() {
        let nobody = RoaringBitmap::new();
        let mut wanted = asked(3, 9);
        wanted.stage = Stage::Stopped;
        wanted.run();
        assert_eq!(wanted.judge(7, &nobody, true), Judgement::Open);
        let mut broken_off = asked(3, 9);
        broken_off.begin_trial(7, &RoaringBitmap::from([0, 1, 2]), &nobody);
        broken_off.next_to_ask(2);
        broken_off.stop();
        broken_off.begin_trial(7, &RoaringBitmap::from([2]), &RoaringBitmap::from([0, 1]));
        broken_off.next_to_ask(1);
        assert!(broken_off.asks_again(&RoaringBitmap::from([1])), "who waits since then is one of the trial's");
    }

    /// A restart while people were asked about left the version to be judged by the others alone.
    #[test]
    fn what_an_earlier_process_counted_counts_on_as_long_as_it_is_to_be_judged() {
        let nobody = RoaringBitmap::new();
        let again =
            |counted: &Reevaluation, activity: &Activity| Reevaluation::reopened(counted.tally(), activity, None);
        let quarantined = |why: &str| Activity::Quarantined { since: Timestamp(0), why: why.to_owned() };
        let lost = quarantined(&asked(3, 9).verdict(7, true).unwrap());

        let mut half = again(&asked(3, 4), &Activity::Running);
        (7..12).for_each(|ordinal| half.note(7, ordinal, None));
        let Judgement::Lost(reason) = half.judge(7, &nobody, true) else { panic!("{half:?}") };
        assert_eq!(
            reason,
            "it failed on 3 of 12 people for whom the version before it had values, the last: trap: boom"
        );
        half.note(7, 0, None);
        assert_eq!(half.verdict(7, true), None, "who was lost may be answered for");
        assert!(
            matches!(again(&asked(3, 9), &Activity::Running).judge(7, &nobody, true), Judgement::Lost(_)),
            "it was due"
        );

        let mut stopped = asked(3, 9);
        stopped.stage = Stage::Stopped;
        let wanted = again(&stopped, &Activity::Running);
        assert_eq!((wanted.judge(7, &nobody, true), wanted.tally()), (Judgement::Open, Tally::default()));
        // Also where the process ended between the two.
        for counted in [asked(3, 9), stopped] {
            let mut tried = again(&counted, &lost);
            assert_eq!(tried.judge(7, &nobody, true), Judgement::Open, "it is stopped once");
            tried.begin_trial(7, &RoaringBitmap::from([0, 1, 2]), &nobody);
            for ordinal in tried.next_to_ask(3) {
                tried.note(7, ordinal, Some(&trap()));
            }
            assert!(tried.verdict(7, true).unwrap().starts_with("it failed on 3 of 12 people"), "{tried:?}");
        }
        for other in [
            quarantined("3 faults over different data, the last: trap: boom"),
            Activity::Held { since: Timestamp(0), why: String::new() },
        ] {
            assert_eq!(again(&asked(3, 9), &other).tally(), Tally::default(), "{other:?}");
        }
    }

    #[test]
    fn somebody_counts_once_by_the_last_answer_and_what_is_no_fault_of_the_version_not_at_all() {
        let mut reevaluation = asked(3, 0);
        reevaluation.note(7, 0, None);
        reevaluation.note(7, 1, Some(&trap()));
        assert_eq!(reevaluation.verdict(7, true), None, "two are left");
        for fault in [PluginFault::BadInput("x".into()), PluginFault::Unavailable("x".into())] {
            reevaluation.note(7, 5, Some(&fault));
        }
        assert_eq!(reevaluation.verdict(7, true), None);
        reevaluation.note(7, 6, Some(&PluginFault::Permanent("not these".into())));
        assert!(reevaluation.verdict(7, true).unwrap().ends_with(
            "3 of 4 people for whom the version before it had values, the last: permanent failure: not these"
        ));
        reevaluation.note(8, 0, Some(&trap()));
        assert_eq!(reevaluation.verdict(8, true), None, "another version begins anew");
    }
}
