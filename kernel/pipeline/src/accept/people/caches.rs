//! The caches of decoded rows: each is bounded by what its rows take in memory.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::RandomState;
use kith_model::id::SourceIdentityId;
use kith_model::identity::{EdgeId, Identifier};
use kith_model::profile::IdentityHead;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use super::evidence::HeldEdge;
use crate::profiles::facts::FactsRow;

/// About what a decoded row takes beside its texts and lists.
const ROW_BYTES: usize = 160;

/// Weighs decoded rows by what they take in memory, because a head or a row of facts may be a thousand times the least.
#[derive(Clone)]
pub(super) struct Bytes;

impl Weighter<Identifier, SourceIdentityId> for Bytes {
    fn weight(&self, identifier: &Identifier, _: &SourceIdentityId) -> u64 {
        (ROW_BYTES + identifier.kind.len() + identifier.value.len()) as u64
    }
}

impl Weighter<SourceIdentityId, Arc<IdentityHead>> for Bytes {
    fn weight(&self, _: &SourceIdentityId, head: &Arc<IdentityHead>) -> u64 {
        let members = head.root.as_ref().map_or(0, |root| 16 * root.members.len() + 32 * root.kinds.len());
        (ROW_BYTES + head.identifier.value.len() + members + ROW_BYTES * head.evidence.len()) as u64
    }
}

impl Weighter<(SourceIdentityId, u8), FactsRow> for Bytes {
    fn weight(&self, _: &(SourceIdentityId, u8), row: &FactsRow) -> u64 {
        let facts = row.facts.traits.iter();
        let bytes = facts.map(|(name, value)| ROW_BYTES + name.len() + value.json.len() + value.message_id.len());
        (ROW_BYTES + bytes.sum::<usize>() + row.consents.size_bytes()) as u64
    }
}

impl Weighter<EdgeId, HeldEdge> for Bytes {
    fn weight(&self, _: &EdgeId, _: &HeldEdge) -> u64 {
        ROW_BYTES as u64
    }
}

/// Rows by what names them, which is made here.
pub(super) type RowCache<Name, Row> = Cache<Name, Row, Bytes, RandomState>;

/// Identities by their names. Senders choose these, and whoever could tell their hashes would have each look-up go over many: the
/// quicker hash of the others withstands nobody who watches how long it takes, the standard library's does.
pub(super) type AliasCache = Cache<Identifier, SourceIdentityId, Bytes, std::hash::RandomState>;

/// A cache of about so many rows, of at most so many bytes.
pub(super) fn cache<Name: Eq + Hash, Row, Build: BuildHasher + Default>(
    rows: usize,
    bytes: u64,
) -> Cache<Name, Row, Bytes, Build>
where
    Bytes: Weighter<Name, Row>,
{
    Cache::with(rows, bytes, Bytes, Build::default(), Default::default())
}
