//! What people say by hand of two identities: that they are two people, or that evidence decides about them again.

use kith_model::id::SourceIdentityId;
use kith_model::identity::{EdgeId, Evidence, IdentityRules, MustNotLink};
use kith_store::ReadError;

use super::People;
use super::evidence::{EvidenceOutcome, Proposal};

impl People {
    /// Part two identities for good, and partition what hangs together with them.
    pub(crate) fn part(
        &mut self,
        one: SourceIdentityId,
        other: SourceIdentityId,
        rules: &IdentityRules,
    ) -> Result<EvidenceOutcome, ReadError> {
        self.layers.event.vetoes.insert(MustNotLink::new(one, other), true);
        let mut proposal = Proposal::to_partition(one, other);
        // What was said before is taken back, so that it leaves no trace in what the limits count.
        for said in [EdgeId::behind(one, other, Evidence::ByHand), EdgeId::behind(other, one, Evidence::ByHand)] {
            self.retract(said, rules, &mut proposal)?;
        }
        match self.partition(&proposal, rules)? {
            EvidenceOutcome::TooConnected => Ok(EvidenceOutcome::TooConnected),
            _ => Ok(EvidenceOutcome::Quietly),
        }
    }

    /// Take it back that two identities are two people, and partition what hangs together with them.
    pub(crate) fn unpart(
        &mut self,
        one: SourceIdentityId,
        other: SourceIdentityId,
        rules: &IdentityRules,
    ) -> Result<EvidenceOutcome, ReadError> {
        self.allow(one, other);
        match self.partition(&Proposal::to_partition(one, other), rules)? {
            EvidenceOutcome::TooConnected => Ok(EvidenceOutcome::TooConnected),
            _ => Ok(EvidenceOutcome::Quietly),
        }
    }

    /// Let two identities be one person again, if evidence says so.
    pub(crate) fn allow(&mut self, one: SourceIdentityId, other: SourceIdentityId) {
        let pair = MustNotLink::new(one, other);
        if self.apart.is_between(&[pair.low], &[pair.high], &self.layers) {
            self.layers.event.vetoes.insert(pair, false);
        }
    }
}
