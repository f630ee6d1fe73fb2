//! What the reactor keeps of the people for whom the version of a model has no answer, beside what these people's own rows say:
//! how the version did with all of them, of whom each dead letter tells, and who is asked about again because somebody wants it. A
//! restart would forget all of it, because no row of a person says that another version's value was there before, nor which fault left
//! them without an answer.

use std::collections::BTreeMap;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::{Key, ReadError, Store, row};
use roaring::RoaringBitmap;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rows;
use crate::profiles::facts::each_row;

/// The names of the rows of [`Key::progress`] begin with this.
const ROWS: &str = "uncomputed/";

rows! {
    UncomputedRow: "whom a model has no answer for", React, 1;
}

/// People by their ordinals.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OrdinalSet(pub RoaringBitmap);

impl Serialize for OrdinalSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        self.0.serialize_into(&mut bytes).map_err(S::Error::custom)?;
        bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for OrdinalSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OrdinalSet, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        RoaringBitmap::deserialize_from(bytes.as_slice()).map(OrdinalSet).map_err(D::Error::custom)
    }
}

/// How a version did with the people for whom the one before it had values, as far as it has been asked about them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// The version's [`ModelPlan::token`](crate::plan::ModelPlan::token).
    pub token: u64,
    /// Whether it was stopped, or is on trial since then.
    pub is_stopped: bool,
    /// People on whom it failed.
    pub lost: OrdinalSet,
    /// For how many it answered: they are asked about once, so that their number is enough.
    pub kept: u64,
    /// The words of the last fault.
    pub last: String,
}

/// People who are asked about again because somebody had a dead letter tried again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReplayedPeople {
    /// Those who are to be put into the model's queue.
    pub to_ask: OrdinalSet,
    /// Those who wait there with inputs on which the version in use has failed before.
    pub asked: OrdinalSet,
}

/// What is kept of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct UncomputedRow {
    pub tally: Tally,
    /// The people of whom dead letters tell and who have no answer yet, by the letter's code.
    pub letters: BTreeMap<String, OrdinalSet>,
    pub replayed: ReplayedPeople,
}

impl UncomputedRow {
    /// The name of a model's row.
    pub(crate) fn key(workspace: WorkspaceId, installation: InstallationId) -> Key {
        Key::progress(workspace, &format!("{ROWS}{:08x}", installation.0))
    }

    /// The rows of all models, removed ones too. One that cannot be read is as good as none: the tally begins anew, and a letter tells
    /// of everybody who has no answer.
    pub(crate) fn read_all(
        store: &dyn Store,
        workspace: WorkspaceId,
    ) -> Result<BTreeMap<InstallationId, UncomputedRow>, ReadError> {
        let (prefix, mut rows) = (Key::progress(workspace, ROWS), BTreeMap::new());
        each_row(store, &prefix, |key, value| {
            let number = key.strip(&prefix).and_then(|name| std::str::from_utf8(name).ok());
            let Some(number) = number.and_then(|number| u32::from_str_radix(number, 16).ok()) else { return Ok(()) };
            match row::decode(value) {
                Ok(row) => drop(rows.insert(InstallationId(number), row)),
                Err(error) => tracing::error!(workspace = workspace.0, installation = number, %error, "it begins anew"),
            }
            Ok(())
        })?;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use kith_store::{Operation, Unit};

    use super::*;

    fn row() -> UncomputedRow {
        let people = |people: &[u32]| OrdinalSet(people.iter().copied().collect());
        let tally =
            Tally { token: 7, is_stopped: false, lost: people(&[1, 70_000]), kept: 12, last: "trap: no".to_owned() };
        let replayed = ReplayedPeople { to_ask: people(&[2]), asked: people(&[1]) };
        UncomputedRow { tally, letters: [("trap".to_owned(), people(&[1, 2]))].into(), replayed }
    }

    #[test]
    fn a_row_is_read_as_it_was_written_and_one_that_cannot_be_read_is_none() {
        assert_eq!(row::decode::<UncomputedRow>(&row::encode(&row())).unwrap(), row());
        let (store, workspace) = (kith_store::memory(), WorkspaceId(3));
        let put = |number, bytes| Operation::Put(UncomputedRow::key(workspace, InstallationId(number)), bytes);
        let mut cut = row::encode(&row());
        cut.truncate(cut.len() - 1);
        let operations =
            vec![put(2, row::encode(&row())), put(300, row::encode(&UncomputedRow::default())), put(4, cut)];
        store.commit(Unit { operations, ..Unit::default() }).unwrap();
        let read = UncomputedRow::read_all(&store, workspace).unwrap();
        assert_eq!(read, [(InstallationId(2), row()), (InstallationId(300), UncomputedRow::default())].into());
    }
}
