//! What readers see of a workspace: one state, written in one place after each commit, so that no reader ever meets a mixture
//! of two.
//!
//! Under its lock there is set algebra and copying, nothing else: no expression over people is evaluated and no row is read
//! there, because a reader would hold up the reactor for as long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_features::index::{Coverage, Index};
use kith_features::{FeatureName, LeafSet, Program, Value};
use kith_model::id::{InstallationId, ProfileId};
use roaring::RoaringBitmap;

use super::faults::FaultSets;
use super::reactor::Reactor;
use super::readiness::Readiness;
use super::seen::{SeenBook, SeenRow};
use super::uncomputed::Uncomputed;
use crate::plan::{Plan, Task};
use crate::rows::derived::{Cursor, ModelVersion};

/// How far a first computation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advance {
    /// Profiles looked at.
    pub done: u64,
    pub of: u64,
}

/// The reactor's commits, as those see them who read people's rows beside it: the rows are what is shown while none is under
/// way, and none has begun since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Commits {
    begun: u64,
    is_one_under_way: bool,
}

impl Commits {
    pub(crate) fn begin(&mut self) {
        self.begun += 1;
        self.is_one_under_way = true;
    }

    /// What was committed is shown, or was not committed.
    pub(crate) fn end(&mut self) {
        self.is_one_under_way = false;
    }

    /// Whether all rows that were read since `before` was noted were those that were shown then.
    pub(crate) fn none_since(self, before: Commits) -> bool {
        !before.is_one_under_way && before == self
    }
}

/// What readers see.
#[derive(Default)]
pub(crate) struct Projection {
    /// The [`super::super::shared::CompiledSetup`] that this state was computed under. Where a newer one is in force, nothing here
    /// may claim to be complete.
    pub generation: u64,
    /// The position and the time that everything here is worked off to.
    pub as_of: Cursor,
    pub index: Index,
    /// Ordinal → profile.
    pub ordinals: Vec<Option<ProfileId>>,
    pub versions: Vec<Arc<ModelVersion>>,
    /// Leaves whose history has been read for everybody.
    pub complete: Arc<LeafSet>,
    /// Work that has been done for everybody.
    pub done: BTreeSet<Task>,
    /// How far the work under way has come; `None` when there is none.
    pub advance: Option<Advance>,
    /// Profiles whose values of a running model are pending, or of an older version of it or of its inputs.
    pub outdated: BTreeMap<InstallationId, RoaringBitmap>,
    /// The people whom the version in use of a model cannot take, whether it runs or not: their older values count.
    pub uncomputed: BTreeMap<InstallationId, Uncomputed>,
    /// The people for whom conditions pass their budget.
    pub faults: FaultSets,
    pub commits: Commits,
    /// People whom the index lacks because they could not be read at the start.
    pub left_out: usize,
    /// Whether values of a removed model may still be there, and such as other models computed from them.
    pub is_retracting: bool,
    /// The numbers of what has been taken back of everybody.
    pub undone: BTreeSet<u32>,
    /// The numbers of what is being taken back, and of what waits for its turn: the values that are shown may be among it.
    pub undoing: BTreeSet<u32>,
    /// Which names came.
    pub seen: SeenBook,
    /// How many names of traits without a column have been told of.
    pub names_told: usize,
    /// Traits that an audience reads and whose column is filled by the sweep under way: until now there were too many names.
    pub partial: BTreeSet<FeatureName>,
}

/// What a pass changes in what readers see.
#[derive(Default)]
pub(crate) struct Changes {
    pub values: Vec<(u32, FeatureName, Value)>,
    /// Profiles that are no more, with the features that they had.
    pub gone: Vec<(u32, Vec<FeatureName>)>,
    pub profiles: Vec<(u32, ProfileId)>,
    pub versions: Vec<Arc<ModelVersion>>,
}

impl Changes {
    /// A profile is no more: what this pass was going to show of it is not shown, and what the index shows is taken away. That
    /// may be more than its features by now: what the pass was going to take back, an earlier one has shown.
    pub(crate) fn forget(&mut self, ordinal: u32, mut features: Vec<FeatureName>) {
        features.extend(self.values.extract_if(.., |(of, _, _)| *of == ordinal).map(|(_, feature, _)| feature));
        self.profiles.retain(|(of, _)| *of != ordinal);
        self.gone.push((ordinal, features));
    }
}

impl Projection {
    /// Keep exactly the columns that the plan's complete leaves and its audiences need.
    pub(crate) fn track(&mut self, plan: &Plan, readiness: &Readiness) {
        for (feature, is_wanted) in self.tracked(&plan.program, plan, readiness) {
            if !is_wanted {
                self.index.forget(&feature);
            }
        }
        // Columns of leaves whose history is being read are filled meanwhile; `complete` says which may answer.
        plan.program.leaves().for_each(|leaf| self.index.track(leaf));
        for audience in &plan.audiences {
            self.index.track_audience(audience.audience.id);
            for name in &audience.condition.reads().traits {
                let feature = FeatureName::Trait(name.as_str().into());
                if self.index.require(&feature) == Coverage::Partial {
                    self.partial.insert(feature);
                }
            }
        }
        plan.outputs.keys().for_each(|output| self.index.track_output(output));
        if readiness.sweeps.is_empty() {
            // Every sweep sets the traits that its audiences read.
            std::mem::take(&mut self.partial).iter().for_each(|feature| self.index.complete(feature));
        }
        self.complete = Arc::new(readiness.complete.clone());
        self.done.clone_from(&readiness.done);
        let mut wanted = readiness.sweeps.iter().flat_map(|walk| &walk.wanted);
        self.is_retracting = wanted.any(|task| matches!(task, Task::Retract(_)));
        self.undone.clone_from(&readiness.undone);
        self.undoing = plan.undos.iter().map(|undo| undo.number).filter(|undo| !self.undone.contains(undo)).collect();
    }

    /// The columns of leaves and audiences, and whether they are still wanted.
    fn tracked(&self, program: &Program, plan: &Plan, readiness: &Readiness) -> Vec<(FeatureName, bool)> {
        let features = self.index.features();
        let wanted = |feature: &FeatureName| match feature {
            // A leaf that was complete and is read anew begins with an empty column.
            FeatureName::Leaf(leaf) => {
                program.leaf(*leaf).is_some() && (!self.complete.contains(*leaf) || readiness.complete.contains(*leaf))
            }
            FeatureName::Audience(audience) => plan.audience(*audience).is_some(),
            FeatureName::Tag(_) | FeatureName::Score(_) => plan.outputs.contains_key(feature),
            _ => true,
        };
        features.map(|feature| (feature.clone(), wanted(feature))).collect()
    }

    /// Show what a pass changed.
    pub(crate) fn apply(&mut self, changes: Changes) {
        for (ordinal, features) in &changes.gone {
            self.index.clear(*ordinal, features.iter());
            self.index.remove(*ordinal);
            if let Some(profile) = self.ordinals.get_mut(*ordinal as usize) {
                *profile = None;
            }
        }
        for (ordinal, profile) in changes.profiles {
            note_ordinal(&mut self.ordinals, ordinal, profile);
        }
        for (ordinal, feature, value) in &changes.values {
            self.index.set(*ordinal, feature, value);
        }
        self.versions.extend(changes.versions);
        self.tell_of_names();
    }

    /// Say which names are too many for columns of their own: conditions on them look at people in place of the index.
    fn tell_of_names(&mut self) {
        let left_out = self.index.names_left_out();
        let news = left_out.saturating_sub(self.names_told);
        if news == 0 {
            return;
        }
        if self.names_told == 0 {
            tracing::warn!(names = left_out, "a workspace has more names of traits than the index takes");
        }
        metrics::counter!("kith_trait_names_without_index_total").increment(news as u64);
        self.names_told = left_out;
    }

    /// The profile of an ordinal.
    pub(crate) fn profile(&self, ordinal: u32) -> Option<ProfileId> {
        self.ordinals.get(ordinal as usize).copied().flatten()
    }
}

impl Reactor {
    /// The pass is durable: show it to readers, in one step.
    pub(super) fn show(&mut self, is_readiness_new: bool, seen: Vec<Arc<SeenRow>>) {
        self.cursor = self.pass.cursor;
        self.promised = self.promised.max(self.cursor.position);
        let changes = std::mem::take(&mut self.pass.changes);
        let advance = self.advance();
        let plan = &self.compiled.plan;
        let runs =
            |id: &InstallationId| plan.model(*id).is_some_and(|(_, model)| model.installed.activity.is_running());
        let running = self.queues.iter().filter(|(id, _)| runs(id));
        let outdated = running.map(|(id, queue)| (*id, queue.stale.clone())).collect();
        let with_some = self.queues.iter().filter(|(_, queue)| !queue.uncomputed.faulted.is_empty());
        let uncomputed = with_some.map(|(id, queue)| (*id, queue.uncomputed.clone())).collect();
        let faults = self.faults.committed();
        let mut projection = self.workspace.projection.write();
        if is_readiness_new || projection.generation != self.compiled.generation {
            projection.track(&self.compiled.plan, &self.readiness);
            projection.generation = self.compiled.generation;
        }
        projection.apply(changes);
        seen.into_iter().for_each(|row| projection.seen.put(row));
        if let Some(faults) = faults {
            projection.faults = faults;
        }
        projection.commits.end();
        projection.as_of = self.cursor;
        projection.advance = advance;
        projection.outdated = outdated;
        projection.uncomputed = uncomputed;
    }
}

/// Note which profile an ordinal stands for.
pub(crate) fn note_ordinal(ordinals: &mut Vec<Option<ProfileId>>, ordinal: u32, profile: ProfileId) {
    let place = ordinal as usize;
    if ordinals.len() <= place {
        ordinals.resize(place + 1, None);
    }
    ordinals[place] = Some(profile);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_features::index::MAX_TRAIT_COLUMNS;
    use kith_model::id::{AudienceId, SourceIdentityId};

    /// Names of traits beyond what the index takes were left out without a word.
    #[test]
    fn names_that_the_index_leaves_out_are_told_of_once_each() {
        let mut projection = Projection::default();
        let trait_of =
            |number: usize| (3, FeatureName::Trait(format!("flag_{number}").as_str().into()), Value::Bool(true));
        let mut show = |numbers: std::ops::Range<usize>| {
            projection.apply(Changes { values: numbers.map(trait_of).collect(), ..Changes::default() });
            projection.names_told
        };
        assert_eq!(show(0..MAX_TRAIT_COLUMNS), 0);
        assert_eq!(show(MAX_TRAIT_COLUMNS - 5..MAX_TRAIT_COLUMNS + 3), 3);
        assert_eq!(show(MAX_TRAIT_COLUMNS..MAX_TRAIT_COLUMNS + 3), 3);
    }

    /// A profile left an audience and was merged into another within one pass. Its place was taken for that of a member from
    /// then on: the size of the audience was one more than its members.
    #[test]
    fn who_leaves_an_audience_and_is_no_more_in_one_pass_is_counted_nowhere() {
        let (audience, profile) = (AudienceId(1), ProfileId(SourceIdentityId([7; 16])));
        let mut projection = Projection::default();
        projection.index.track_audience(audience);
        let feature = FeatureName::Audience(audience);
        let shown = |value| vec![(3, feature.clone(), Value::Bool(value))];
        projection.apply(Changes { values: shown(true), profiles: vec![(3, profile)], ..Changes::default() });
        assert_eq!(projection.index.members(&feature).unwrap().len(), 1);
        let mut changes = Changes { values: shown(false), ..Changes::default() };
        changes.forget(3, vec![]);
        projection.apply(changes);
        assert!(projection.index.members(&feature).unwrap().is_empty());
    }
}
