//! Taking back what one version of a model wrote: the values of a person that are still that version's. Where another version
//! runs it is asked in their place, and until it has answered nobody knows; where none runs they are null from then on.
//!
//! Nothing of it is news: the sweep that comes by is an undo as a cause, and so is all that models answer because of it.

use std::sync::Arc;

use kith_model::audience::Cause;
use kith_model::id::{ProfileId, SourceIdentityId};

use super::reactor::Reactor;
use super::touch::Touch;
use crate::plan::feature;
use crate::rows::derived::{Freshness, ModelVersion, Output, OutputValue, Track, Waker};
use crate::setup::Undo;

impl Reactor {
    /// Take back what an undo names of a profile, and note who has to look at it again.
    pub(super) fn take_back(
        &mut self,
        number: u32,
        profile: ProfileId,
        members: &[SourceIdentityId],
        touch: &mut Touch,
    ) {
        let compiled = Arc::clone(&self.compiled);
        let Some(undo) = compiled.plan.undo(number) else { return };
        let key = (undo.installation, Track::Live);
        let model = compiled.plan.model(undo.installation);
        let is_running = model.is_some_and(|(_, model)| model.installed.activity.is_running());
        for member in members {
            let held = self.identities.person(*member).and_then(|person| person.derived.as_ref());
            let Some(held) = held.and_then(|derived| derived.outputs.get(&key)).cloned() else { continue };
            let Some(version) = self.writer(undo, &held) else { continue };
            let Some(derived) = self.identities.derived_mut(*member) else { continue };
            if *member == profile.0 {
                // Nobody knows it until the version that runs has answered; it is null where none runs, or that one cannot.
                let freshness = match is_running {
                    true => Freshness::Pending { inputs: 0, cause: Cause::Undo, position: touch.position },
                    false => Freshness::Outdated { inputs: 0 },
                };
                derived.outputs.insert(key, held.taken_back(freshness));
            } else {
                derived.outputs.remove(&key);
            }
            touch.features.extend(version.outputs.iter().map(|output| feature(version.kind, output)));
            touch.wakers.insert(Waker::Model(undo.installation));
            tracing::trace!(installation = undo.installation.0, %profile, "values of a version were taken back");
        }
    }

    /// The version that wrote an output, where it is the one that is undone and something of it is left.
    fn writer(&self, undo: &Undo, held: &Output) -> Option<Arc<ModelVersion>> {
        if held.values.iter().all(|value| *value == OutputValue::Null) {
            return None;
        }
        let projection = self.workspace.projection.read();
        let version = projection.versions.get(held.version as usize)?;
        (version.installation == undo.installation && version.digest == undo.digest).then(|| Arc::clone(version))
    }
}
