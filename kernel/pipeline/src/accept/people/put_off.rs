//! Partitions that are put off, because a second has room for so many: what a sender chooses about the order of evidence must not
//! decide how long another waits.
//!
//! Evidence is written down at once; the profiles that it touches stay as they are until their turn, which partitions each once
//! for all that came meanwhile. Who waits is written with the evidence, so that a kill loses no turn.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kith_model::id::SourceIdentityId;
use kith_model::identity::IdentityRules;
use kith_store::ReadError;

use super::People;
use super::evidence::{EvidenceOutcome, Proposal};

/// Identities that are partitioned again in a second before others wait: a tenth of a lane's time, more or less.
const IDENTITIES_IN_A_SECOND: usize = if cfg!(test) { usize::MAX } else { 4_000 };

/// When there is room again.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// The most that wait; where there are more, they are partitioned at once.
const MAX_WAITING: usize = 1_000;

/// Who waits to be partitioned.
#[derive(Debug)]
pub(crate) struct PutOff {
    waiting: BTreeSet<SourceIdentityId>,
    /// Whether the store knows others than these.
    is_changed: bool,
    began: Instant,
    spent: usize,
    pub(crate) identities_in_a_second: usize,
}

impl PutOff {
    pub(crate) fn new(waiting: BTreeSet<SourceIdentityId>) -> PutOff {
        let identities_in_a_second = IDENTITIES_IN_A_SECOND;
        PutOff { waiting, is_changed: false, began: Instant::now(), spent: 0, identities_in_a_second }
    }

    pub(crate) fn waiting(&self) -> &BTreeSet<SourceIdentityId> {
        &self.waiting
    }

    /// Whether others wait than when this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Whether more may be partitioned now.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.began.elapsed() >= PERIOD {
            (self.began, self.spent) = (Instant::now(), 0);
        }
        self.spent < self.identities_in_a_second
    }

    /// So many identities were looked at.
    pub(super) fn spend(&mut self, identities: usize) {
        self.spent = self.spent.saturating_add(identities);
    }

    /// Let all of these wait; whether there is room for them.
    fn wait(&mut self, identities: &BTreeSet<SourceIdentityId>) -> bool {
        let more = identities.iter().filter(|identity| !self.waiting.contains(identity)).count();
        let has_room = self.waiting.len() + more <= MAX_WAITING;
        if has_room && more > 0 {
            self.waiting.extend(identities);
            self.is_changed = true;
        }
        has_room
    }

    /// The next whose turn it is; it waits no longer.
    pub(crate) fn next(&mut self) -> Option<SourceIdentityId> {
        let next = self.waiting.pop_first();
        self.is_changed |= next.is_some();
        next
    }

    /// These wait again.
    pub(crate) fn put_back(&mut self, identities: impl IntoIterator<Item = SourceIdentityId>) {
        self.waiting.extend(identities);
        self.is_changed = true;
    }
}

impl People {
    /// Partition, now or when it is the turn.
    pub(super) fn partition_in_turn(
        &mut self,
        proposal: &Proposal,
        rules: &IdentityRules,
    ) -> Result<EvidenceOutcome, ReadError> {
        // Under a change of rules everybody is partitioned in the end, and until then no profile can be left as it is.
        let may_wait = !self.is_unsettled && !self.is_scratch && !self.put_off.has_room();
        // Who is parted by it may be in another profile than who is joined.
        if may_wait && self.put_off.wait(&proposal.starts) {
            metrics::counter!("kith_identity_put_off_total").increment(1);
            self.apply(proposal)?;
            return Ok(EvidenceOutcome::Quietly);
        }
        self.partition(proposal, rules)
    }
}
