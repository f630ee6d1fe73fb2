//! What a caller sees of people. A key without `profiles:read` may work with audiences and deliveries, and learns nothing of
//! one person from them: numbers that could single somebody out are withheld or rounded, values and identifiers are left out,
//! and the answer says so.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac as _};
use kith_model::budget::{Allowance, Exhausted, table};
use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use sha2::Sha256;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::{Caller, KeyId, Scope};
use crate::error::ApiError;

/// Numbers of people that are shown to who may not read people are multiples of this, and fewer are withheld.
const CROWD: u64 = 10;

/// What somebody may see of people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Each person, with `profiles:read`.
    People,
    /// Only how many there are about.
    Crowds,
}

/// What a number of people is where it is not exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Masked {
    /// Numbers of people are rounded to tens, because the key has no scope `profiles:read`.
    Rounded,
    /// There are fewer than twenty, or none; how many needs the scope `profiles:read`.
    Withheld,
}

impl Caller {
    /// What the caller may see of people.
    pub(crate) fn sight(&self) -> Sight {
        if self.may(Scope::ProfilesRead) { Sight::People } else { Sight::Crowds }
    }
}

/// How numbers of the people who meet one condition are shown to one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lens {
    sight: Sight,
    /// Where between two tens the numbers of this condition jump, the withheld ones too. It is the condition's own, because a
    /// caller who knew it could fill a condition up to the edge, put one person more into it, and see whether the number jumps.
    edge: u64,
}

impl Lens {
    /// The lens for a condition.
    pub(crate) fn new(app: &App, sight: Sight, workspace: WorkspaceId, condition: &str) -> Lens {
        let mut mac = Hmac::<Sha256>::new_from_slice(app.mask_key.as_slice()).expect("HMAC takes keys of any length");
        mac.update(&workspace.0.to_be_bytes());
        mac.update(condition.trim().as_bytes());
        let edge = u64::from(mac.finalize().into_bytes()[0]) % CROWD;
        Lens { sight, edge }
    }

    /// Shows numbers as they are.
    #[cfg(test)]
    pub(crate) fn clear() -> Lens {
        Lens { sight: Sight::People, edge: 0 }
    }

    /// A number of people, as far as it may be seen: `None` where it is withheld.
    pub(crate) fn number(self, of_people: u64) -> Option<u64> {
        match self.sight {
            Sight::People => Some(of_people),
            Sight::Crowds => {
                let rounded = of_people.saturating_add(self.edge) / CROWD * CROWD;
                (rounded >= 2 * CROWD).then_some(rounded)
            }
        }
    }

    /// What is to be said of a number that [`Lens::number`] shows.
    pub(crate) fn masked(self, of_people: u64) -> Option<Masked> {
        match (self.sight, self.number(of_people)) {
            (Sight::People, _) => None,
            (Sight::Crowds, None) => Some(Masked::Withheld),
            (Sight::Crowds, Some(_)) => Some(Masked::Rounded),
        }
    }

    /// Whether numbers are shown as they are.
    pub(crate) fn is_clear(self) -> bool {
        self.sight == Sight::People
    }
}

/// How many conditions each key may still have counted, of those keys that may not read people. Rounded numbers of very many
/// conditions that differ little tell together what each of them hides.
#[derive(Default)]
pub(crate) struct CrowdCounts(Mutex<BTreeMap<KeyId, Allowance>>);

impl CrowdCounts {
    /// Spend one count.
    ///
    /// # Errors
    /// [`Exhausted`] where the hour's are used up.
    pub(crate) fn spend(&self, key: &KeyId, now: Timestamp) -> Result<(), Exhausted> {
        let mut all = self.0.lock();
        // Keys that ask no more are not kept.
        all.retain(|other, allowance| other == key || !allowance.is_full(now));
        let limit = table::CROWD_COUNTS.default;
        all.entry(key.clone()).or_insert_with(|| Allowance::new(&table::CROWD_COUNTS, limit, now)).spend(1, now)
    }
}

/// A caller's look at the people who meet a condition that the caller has chosen.
pub(crate) fn look(app: &App, caller: &Caller, condition: &str) -> Result<Lens, ApiError> {
    if caller.sight() == Sight::Crowds {
        app.crowd_counts.spend(&caller.key, app.clock.now())?;
    }
    Ok(Lens::new(app, caller.sight(), caller.workspace, condition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_are_withheld_and_larger_ones_are_tens() {
        for edge in 0..CROWD {
            let lens = Lens { sight: Sight::Crowds, edge };
            for few in 0..2 * CROWD - edge {
                assert_eq!((lens.number(few), lens.masked(few)), (None, Some(Masked::Withheld)));
            }
            for many in 2 * CROWD - edge..200 {
                let shown = lens.number(many).unwrap();
                assert!(shown % CROWD == 0 && many > CROWD && shown.abs_diff(many) < CROWD, "{many}: {shown}");
                assert_eq!(lens.masked(many), Some(Masked::Rounded));
            }
        }
        let clear = Lens { sight: Sight::People, edge: 3 };
        assert_eq!((clear.number(3), clear.masked(3)), (Some(3), None));
    }

    #[test]
    fn an_hours_counts_end_and_come_back() {
        let counts = CrowdCounts::default();
        let (one, other) = (KeyId::named("one"), KeyId::named("other"));
        for _ in 0..table::CROWD_COUNTS.default {
            counts.spend(&one, Timestamp(0)).unwrap();
        }
        assert!(counts.spend(&one, Timestamp(0)).unwrap_err().retry_after.is_some());
        assert!(counts.spend(&other, Timestamp(0)).is_ok(), "each key has its own");
        assert!(counts.spend(&one, Timestamp(3_600_000)).is_ok());
        assert_eq!(counts.0.lock().len(), 1, "whoever has all again is forgotten");
    }
}
