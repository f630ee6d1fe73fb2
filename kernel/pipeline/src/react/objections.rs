//! Who objects to profiling: what was computed of them is taken back, and what is computed again once they take it back is no news.

use std::collections::BTreeSet;

use kith_features::FeatureName;
use kith_model::audience::Cause;
use kith_model::consent::speaks_of_profiling;
use kith_model::event::Event;
use kith_model::id::{InstallationId, Position, ProfileId, SourceIdentityId};
use kith_store::ReadError;

use super::feed::RecordError;
use super::identities::Identities;
use super::reactor::Reactor;
use super::touch::Profiling;
use crate::accept::taking_back::consents;
use crate::profiles::consents::forms_of;
use crate::profiles::evaluation::Profile;
use crate::profiles::facts::{FactsRow, read_facts_row};
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

/// Whether an event says something of profiling, also where a consent comes twice.
pub(super) fn is_of_profiling(event: &Event) -> bool {
    consents(event).iter().any(|said| speaks_of_profiling(said.get()))
}

impl Reactor {
    /// Read what an identity in hand said of profiling, who may have been read before accept took the answer.
    pub(super) fn look_at_profiling(&mut self, identity: SourceIdentityId) -> Result<(), ReadError> {
        let row = read_facts_row(self.shared.store.as_ref(), self.workspace.id, identity, 0)?;
        if let Some(person) = self.identities.person_mut(identity) {
            person.profiling = row.as_ref().and_then(FactsRow::profiling).cloned();
        }
        Ok(())
    }

    /// The same of the normal forms under which an event was heard too, or a former one holds again: they may be other people.
    pub(super) fn look_at_forms(&mut self, event: &Event, cause: Cause, position: Position) -> Result<(), RecordError> {
        if !is_of_profiling(event) {
            return Ok(());
        }
        for form in forms_of(self.shared.store.as_ref(), self.workspace.id, event.identity)? {
            if form == event.identity || !self.identities.load(form)? {
                continue;
            }
            let known = self.identities.person(form).filter(|person| person.derived.is_some());
            if let Some(profile) = known.map(Person::profile) {
                self.touch(profile, cause, position)?.profiling = Profiling::MayHaveChanged;
                self.identities.load_profile(profile)?;
            }
            self.look_at_profiling(form)?;
        }
        Ok(())
    }

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
        self.faults.leave(ordinal);
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
