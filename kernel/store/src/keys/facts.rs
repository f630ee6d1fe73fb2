//! Keys of facts: what the accept stage writes and everything else is computed from.

use hmac::{Hmac, Mac};
use kith_model::id::{InstallationId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{EdgeId, Evidence, Identifier, MustNotLink, Side};
use kith_model::time::Timestamp;
use sha2::Sha256;

use super::{
    ALIAS, APPLIED, COUNTS, DEDUPE, EDGE, EVENT, Key, ORDINAL, PERSON, SHARD_BYTES, STATEMENT, SUPPRESSION, VETO,
    shard_of, sortable,
};
use crate::KeyRange;

/// The rows of one person, in key order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PersonRow {
    /// Who the identity is and which profile it belongs to.
    Head = 0x00,
    /// Facts that this identity's events gave. The buckets of [`Key::contribution`] follow it.
    Contribution = 0x01,
}

/// A realm key that keeps nothing secret: whoever reads the store can try identifiers until one has the digest of an alias.
/// Callers use it where no realm's own key has reached them.
pub const UNKEYED_REALM: [u8; 32] = [0; 32];

/// How many bytes of the HMAC an alias keeps: at a billion identifiers two of them meet with a chance of one in 10^20.
const DIGEST_BYTES: usize = 16;

/// What stands for an identifier in keys: HMAC-SHA256 under the realm's key over `kind | 0 | value`, cut to 16 bytes. Who has
/// the store alone can neither read identifiers out of its keys nor test a guess.
pub fn alias_digest(realm_key: &[u8; 32], identifier: &Identifier) -> [u8; DIGEST_BYTES] {
    // A kind with a zero in it could be cut in two places, and two identifiers would name one person.
    debug_assert!(!identifier.kind.as_bytes().contains(&0), "a kind of identifier is a name");
    let mut hmac = <Hmac<Sha256> as Mac>::new_from_slice(realm_key).expect("HMAC takes keys of every length");
    hmac.update(identifier.kind.as_bytes());
    hmac.update(&[0]);
    hmac.update(identifier.value.as_bytes());
    let code: [u8; 32] = hmac.finalize().into_bytes().into();
    let (digest, _) = code.split_first_chunk().expect("an HMAC-SHA256 has more than 16 bytes");
    *digest
}

fn evidence_byte(evidence: Evidence) -> u8 {
    match evidence {
        Evidence::Alias => 0,
        Evidence::SameEvent => 1,
        Evidence::Spelling(Side::Low) => 2,
        Evidence::Spelling(Side::High) => 3,
        Evidence::SameId(Side::Low) => 4,
        Evidence::SameId(Side::High) => 5,
        Evidence::ByHand(Side::Low) => 6,
        Evidence::ByHand(Side::High) => 7,
        Evidence::Former(Side::Low) => 8,
        Evidence::Former(Side::High) => 9,
    }
}

impl Key {
    /// The fact rows of one source identity: its head, then its contributions.
    pub fn identity(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::of_identity(PERSON, workspace, identity, &[])
    }

    /// One row of one source identity.
    pub fn person(workspace: WorkspaceId, identity: SourceIdentityId, row: PersonRow) -> Key {
        Key::of_identity(PERSON, workspace, identity, &[&[row as u8]])
    }

    /// One bucket of an identity's contribution, for a person with so many traits that one row for all of them would be
    /// rewritten at every event.
    pub fn contribution(workspace: WorkspaceId, identity: SourceIdentityId, bucket: u8) -> Key {
        Key::of_identity(PERSON, workspace, identity, &[&[PersonRow::Contribution as u8, bucket]])
    }

    /// The person rows of a workspace.
    pub fn people(workspace: WorkspaceId) -> Key {
        Key::whole(PERSON, workspace)
    }

    /// The range of [`Key::people`] cut into `parts` of about the same size, for readers that share the work. No identity's
    /// rows are in two of them.
    pub fn people_parts(workspace: WorkspaceId, parts: u16) -> Vec<KeyRange> {
        Key::parts(PERSON, workspace, parts)
    }

    /// The identity and the row that a key of [`Key::people`] names, whatever its bucket; `None` for other keys.
    pub fn as_person(&self) -> Option<(SourceIdentityId, u8)> {
        match self.as_identity(PERSON)? {
            (identity, [row] | [row, _]) => Some((identity, *row)),
            _ => None,
        }
    }

    /// The bucket of a key made by [`Key::contribution`].
    pub fn as_bucket(&self) -> Option<u8> {
        match self.as_identity(PERSON)? {
            (_, [row, bucket]) if *row == PersonRow::Contribution as u8 => Some(*bucket),
            _ => None,
        }
    }

    /// The events of a source identity, oldest first by event time. The store adds the position. They lie apart from the
    /// person rows, so that a scan of people does not read history.
    pub fn events(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::of_identity(EVENT, workspace, identity, &[])
    }

    /// All events of a workspace.
    pub fn all_events(workspace: WorkspaceId) -> Key {
        Key::whole(EVENT, workspace)
    }

    /// One event's row without its position, for [`crate::Operation::Append`].
    pub fn event(workspace: WorkspaceId, identity: SourceIdentityId, time: Timestamp) -> Key {
        Key::of_identity(EVENT, workspace, identity, &[&sortable(time)])
    }

    /// The source identity that an identifier names, by its [`alias_digest`].
    pub fn alias(workspace: WorkspaceId, digest: &[u8; DIGEST_BYTES]) -> Key {
        let key = Key::new(ALIAS, workspace, shard_of(digest), &[digest]);
        debug_assert_eq!(key.0.len(), SHARD_BYTES + DIGEST_BYTES);
        key
    }

    /// All aliases of a workspace.
    pub fn aliases(workspace: WorkspaceId) -> Key {
        Key::whole(ALIAS, workspace)
    }

    /// The evidence that touches one identity.
    pub fn edges(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::of_identity(EDGE, workspace, identity, &[])
    }

    /// All evidence of a workspace.
    pub fn all_edges(workspace: WorkspaceId) -> Key {
        Key::whole(EDGE, workspace)
    }

    /// The identity under which a key of [`Key::all_edges`] lies; `None` for other keys.
    pub fn as_edge_end(&self) -> Option<SourceIdentityId> {
        Some(self.as_identity(EDGE)?.0)
    }

    /// One piece of evidence under one of its ends; it is stored under both.
    pub fn edge(workspace: WorkspaceId, end: SourceIdentityId, edge: EdgeId) -> Key {
        debug_assert!(end == edge.low || end == edge.high, "{end:?} is an end of the edge");
        let other = if end == edge.low { edge.high } else { edge.low };
        Key::of_identity(EDGE, workspace, end, &[&other.0, &[evidence_byte(edge.evidence)]])
    }

    /// The must-not-link pairs of a workspace.
    pub fn vetoes(workspace: WorkspaceId) -> Key {
        Key::new(VETO, workspace, 0, &[])
    }

    /// One must-not-link pair.
    pub fn veto(workspace: WorkspaceId, pair: MustNotLink) -> Key {
        Key::new(VETO, workspace, 0, &[&pair.low.0, &pair.high.0])
    }

    /// What events of an identity said of consents.
    pub fn statements(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::of_identity(STATEMENT, workspace, identity, &[])
    }

    /// The place of one of these statements.
    pub fn statement(workspace: WorkspaceId, identity: SourceIdentityId, slot: u8) -> Key {
        Key::of_identity(STATEMENT, workspace, identity, &[&[slot]])
    }

    /// The identifiers of a workspace that nothing may be sent to.
    pub fn suppressions(workspace: WorkspaceId) -> Key {
        Key::whole(SUPPRESSION, workspace)
    }

    /// One of them, by its [`alias_digest`].
    pub fn suppression(workspace: WorkspaceId, digest: &[u8; DIGEST_BYTES]) -> Key {
        Key::new(SUPPRESSION, workspace, shard_of(digest), &[digest])
    }

    /// That a source's message was seen. The day comes first, so that a day's rows expire together.
    pub fn dedupe(workspace: WorkspaceId, day: u32, source: InstallationId, message_hash: u128) -> Key {
        Key::new(DEDUPE, workspace, 0, &[&day.to_be_bytes(), &source.0.to_be_bytes(), &message_hash.to_be_bytes()])
    }

    /// All messages seen in a workspace on one day, or on all.
    pub fn dedupe_days(workspace: WorkspaceId, day: Option<u32>) -> Key {
        let all = Key::new(DEDUPE, workspace, 0, &[]);
        day.map_or(all.clone(), |day| all.followed_by(&day.to_be_bytes()))
    }

    /// How many ordinals were given to identities so far.
    pub fn ordinals(workspace: WorkspaceId) -> Key {
        Key::new(ORDINAL, workspace, 0, &[])
    }

    /// Which identity rules a workspace's history is tied by, and how far a change of them has come.
    pub fn applied_rules(workspace: WorkspaceId) -> Key {
        Key::new(APPLIED, workspace, 0, &[])
    }

    /// A workspace's totals, kept in the commit that changes them.
    pub fn counts(workspace: WorkspaceId) -> Key {
        Key::new(COUNTS, workspace, 0, &[])
    }
}
