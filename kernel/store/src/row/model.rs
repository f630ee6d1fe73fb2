//! The rows and records whose types are the model's. They are described here because both the trait and the types are
//! foreign to the stages that write them.

use kith_model::change::Change;
use kith_model::id::{Position, SourceIdentityId};
use kith_model::identity::{Edge, MustNotLink};
use kith_model::profile::IdentityHead;

use super::{Owner, Row, read_postcard};

mod change_before;

impl Row for Change {
    const WHAT: &'static str = "a record of the log";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 5;

    fn before(version: u8, body: &[u8]) -> Option<Result<Change, String>> {
        use change_before::{ChangeBefore, First, Second, Third};
        match version {
            1 => Some(read_postcard::<ChangeBefore<First>>(body).map(Change::from)),
            2 => Some(read_postcard::<ChangeBefore<Second>>(body).map(Change::from)),
            3 => Some(read_postcard::<ChangeBefore<Third>>(body).map(Change::from)),
            // No event returned.
            4 => Some(read_postcard(body)),
            _ => None,
        }
    }
}

impl Row for IdentityHead {
    const WHAT: &'static str = "an identity's head";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 1;
}

/// The identity that an identifier names.
impl Row for SourceIdentityId {
    const WHAT: &'static str = "an alias";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 1;
}

impl Row for Edge {
    const WHAT: &'static str = "evidence";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 1;
}

impl Row for MustNotLink {
    const WHAT: &'static str = "a must-not-link pair";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 1;
}

/// How many ordinals a workspace gave; the one row that is a bare number.
impl Row for u32 {
    const WHAT: &'static str = "the number of ordinals";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 1;
}

/// How far a reader of the change feed has come.
impl Row for Position {
    const WHAT: &'static str = "a cursor";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 1;
}
