//! Who objects to profiling: what was computed of them is taken back, and what is computed again once they take it back is no news.

use std::collections::BTreeSet;

use kith_features::FeatureName;
use kith_model::id::{InstallationId, ProfileId, SourceIdentityId};

use super::identities::Identities;
use super::reactor::Reactor;
use crate::profiles::evaluation::Profile;
use crate::profiles::person::Person;
use crate::rows::derived::Standing;
use crate::shared::CompiledSetup;

/// Whether a person objects to profiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Objection {
    Never,
    Made,
    /// It was made when somebody looked before.
    TakenBack,
}

impl Reactor {
    /// Whether a person objects to profiling, or did when it was looked at before; noted for the next time.
    pub(super) fn objection(
        &mut self,
        compiled: &CompiledSetup,
        profile: ProfileId,
        members: &[SourceIdentityId],
    ) -> Objection {
        let people = self.identities.people(members);
        let objected =
            |person: &&Person| person.derived.as_ref().is_some_and(|derived| derived.standing == Standing::Objected);
        let before: Vec<SourceIdentityId> = people.iter().copied().filter(objected).map(|person| person.id).collect();
        let now = Profile::new(people, Reactor::view(compiled, &self.readiness, self.now())).objects();
        let set = |identities: &mut Identities, id, standing| {
            if let Some(derived) = identities.derived_mut(id) {
                derived.standing = standing;
            }
        };
        match (now, before.as_slice()) {
            (false, []) => Objection::Never,
            (true, before) => {
                if !before.contains(&profile.0) {
                    set(&mut self.identities, profile.0, Standing::Objected);
                }
                Objection::Made
            }
            (false, before) => {
                before.iter().for_each(|id| set(&mut self.identities, *id, Standing::Open));
                Objection::TakenBack
            }
        }
    }

    /// What models said of a person who objects to profiling is taken back; the features that are null since.
    pub(super) fn take_back_from_objector(
        &mut self,
        compiled: &CompiledSetup,
        profile: ProfileId,
        members: &[SourceIdentityId],
    ) -> BTreeSet<FeatureName> {
        let people = self.identities.people(members);
        let profile_now = Profile::new(people, Reactor::view(compiled, &self.readiness, self.now()));
        let ordinal = profile_now.root().ordinal;
        let derived = profile_now.people.iter().filter_map(|person| person.derived.as_ref());
        let outputs = derived.flat_map(|derived| derived.outputs.keys());
        let installations: BTreeSet<InstallationId> = outputs.map(|(installation, _)| *installation).collect();
        let mut features = BTreeSet::new();
        for installation in installations {
            self.unqueue(installation, ordinal);
            features.extend(self.retract(installation, profile, members));
            let model = compiled.plan.model(installation);
            features.extend(
                model
                    .iter()
                    .flat_map(|(_, model)| model.installed.outputs.iter().map(|output| model.feature(&output.name))),
            );
        }
        features
    }
}
