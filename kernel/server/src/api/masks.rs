//! What a caller sees of people. A key without `profiles:read` may work with audiences and deliveries, and learns nothing of
//! one person from them: numbers that could single somebody out are withheld or rounded, values and identifiers are left out,
//! and the answer says so.

use hmac::{Hmac, Mac as _};
use serde::Serialize;
use sha2::Sha256;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::{Caller, Scope};

/// Numbers of people that are shown to who may not read people are multiples of this, and fewer are withheld.
const CROWD: u64 = 10;

/// What somebody may see of people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Each person, with `profiles:read`.
    People,
    /// Only how many there are about.
    Crowds,
    /// Not even that: the caller chooses the conditions, as those of audiences or as inputs of plugins, and enough of them tell what
    /// each number hides.
    Nobody,
}

/// What a number of people is where it is not exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Masked {
    /// Numbers of people are rounded to tens, because the key has no scope `profiles:read`.
    Rounded,
    /// There are fewer than twenty, or the key may define audiences or run plugins itself; how many needs the scope `profiles:read`.
    Withheld,
}

impl Caller {
    /// What the caller may see of people.
    pub(crate) fn sight(&self) -> Sight {
        if self.may(Scope::ProfilesRead) { Sight::People } else { Sight::Crowds }
    }

    /// What the caller may see of numbers of people.
    pub(crate) fn sight_of_numbers(&self) -> Sight {
        let chooses = self.may(Scope::AudiencesWrite) || self.may(Scope::PluginsAdmin);
        match self.sight() {
            Sight::Crowds if chooses => Sight::Nobody,
            sight => sight,
        }
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
    pub(crate) fn new(app: &App, caller: &Caller, condition: &str) -> Lens {
        let mut mac = Hmac::<Sha256>::new_from_slice(app.mask_key.as_slice()).expect("HMAC takes keys of any length");
        mac.update(&caller.workspace.0.to_be_bytes());
        mac.update(condition.trim().as_bytes());
        let edge = u64::from(mac.finalize().into_bytes()[0]) % CROWD;
        Lens { sight: caller.sight_of_numbers(), edge }
    }

    /// A number of people, as far as it may be seen: `None` where it is withheld.
    pub(crate) fn number(self, of_people: u64) -> Option<u64> {
        match self.sight {
            Sight::People => Some(of_people),
            Sight::Nobody => None,
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
            (_, None) => Some(Masked::Withheld),
            (_, Some(_)) => Some(Masked::Rounded),
        }
    }

    /// Whether numbers are shown as they are.
    pub(crate) fn is_clear(self) -> bool {
        self.sight == Sight::People
    }
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
                assert!(shown.is_multiple_of(CROWD) && many > CROWD && shown.abs_diff(many) < CROWD, "{many}: {shown}");
                assert_eq!(lens.masked(many), Some(Masked::Rounded));
            }
        }
        let clear = Lens { sight: Sight::People, edge: 3 };
        assert_eq!((clear.number(3), clear.masked(3)), (Some(3), None));
        let none = Lens { sight: Sight::Nobody, edge: 3 };
        assert_eq!((none.number(3_000), none.masked(3_000)), (None, Some(Masked::Withheld)));
    }
}
