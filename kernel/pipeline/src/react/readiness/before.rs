//! The row's layouts of releases before.

use std::collections::BTreeSet;

use kith_features::{LeafId, LeafSet};
use kith_model::id::InstallationId;
use kith_store::row;
use serde::{Deserialize, Serialize};

use super::{Readiness, Walk};
use crate::plan::Task;

/// The version in which nothing was taken back.
const WITHOUT_UNDONE: u8 = 2;

/// The row as that version has it.
#[derive(Serialize, Deserialize)]
struct WithoutUndone {
    complete: LeafSet,
    backfills: Vec<Walk<LeafId>>,
    done: BTreeSet<Task>,
    sweeps: Vec<Walk<Task>>,
    models: BTreeSet<InstallationId>,
}

/// A row of an earlier version, where this release knows it.
pub(super) fn read(version: u8, body: &[u8]) -> Option<Result<Readiness, String>> {
    (version == WITHOUT_UNDONE).then(|| {
        let WithoutUndone { complete, backfills, done, sweeps, models } = row::read_postcard(body)?;
        Ok(Readiness { complete, backfills, done, sweeps, models, undone: BTreeSet::new() })
    })
}

#[cfg(test)]
mod tests {
    use kith_model::id::AudienceId;

    use super::super::Place;
    use super::*;

    #[test]
    fn a_row_of_the_version_before_is_read() {
        let sweeps = vec![Walk { wanted: BTreeSet::from([Task::Audience(AudienceId(3), 7)]), next: Place::Start }];
        let held = Readiness { sweeps, models: BTreeSet::from([InstallationId(2)]), ..Readiness::default() };
        let Readiness { complete, backfills, done, sweeps, models, .. } = held.clone();
        let mut bytes = vec![WITHOUT_UNDONE];
        row::write_postcard(&WithoutUndone { complete, backfills, done, sweeps, models }, &mut bytes);
        assert_eq!(row::decode::<Readiness>(&bytes).unwrap(), held);
        let later = Readiness { undone: BTreeSet::from([1, 9]), ..held };
        assert_eq!(row::decode::<Readiness>(&row::encode(&later)).unwrap(), later);
    }
}
