//! Roles: scopes under a name, for people who look and change nothing. A role is spelt out when a key is made, so that a key
//! never gets more when a role does.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Scope;

/// A named set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at people, audiences and what was sent to them.
    Analyst,
    /// Reads who did what, and nothing of people.
    Auditor,
    /// Watches that the work gets on and what failed, and sees nobody's data.
    Operator,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Analyst, Role::Auditor, Role::Operator];

    /// The role as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Analyst => "analyst",
            Role::Auditor => "auditor",
            Role::Operator => "operator",
        }
    }

    /// What it may do.
    pub fn scopes(self) -> BTreeSet<Scope> {
        let scopes: &[Scope] = match self {
            Role::Analyst => &[Scope::ProfilesRead, Scope::AudiencesRead, Scope::DeliveriesRead, Scope::MetricsRead],
            Role::Auditor => &[Scope::AuditRead, Scope::MetricsRead],
            Role::Operator => &[Scope::MetricsRead, Scope::DeliveriesRead, Scope::AudiencesRead],
        };
        scopes.iter().copied().collect()
    }

    /// The role of just these scopes.
    pub(crate) fn of(scopes: &BTreeSet<Scope>) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.scopes() == *scopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_and_is_known_by_its_scopes() {
        for role in Role::ALL {
            assert!(role.scopes().iter().all(|scope| scope.as_str().ends_with(":read")), "{role:?}");
            assert_eq!(Role::of(&role.scopes()), Some(role));
        }
        assert_eq!(Role::of(&[Scope::ProfilesRead].into()), None);
    }
}
