//! How much one pass takes on. It is bounded in bytes as well as in number, halves when a commit is too large, and grows back
//! when passes succeed.

/// Records of the feed in one pass.
const MAX_RECORDS: usize = 4_096;

/// People whom one slice of a walk looks at, and timers that one pass works off.
const MAX_PEOPLE: usize = 2_048;

/// Bytes of rows that one part of a pass takes in hand; what they become has room in a unit many times over.
const MAX_BYTES: usize = 4 << 20;

/// A kind of work that a pass takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Of models.
    Answers,
    Feed,
    Timers,
    Walk,
    /// People whose pending values count as they were, because a model was stopped, and people about whom models are asked again: in
    /// a trial, or because somebody wants it.
    Demoted,
}

impl Part {
    /// All of them, in the order in which a pass takes them in.
    pub(crate) const ALL: [Part; 5] = [Part::Answers, Part::Feed, Part::Timers, Part::Walk, Part::Demoted];
}

/// What a pass may take on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    pub records: usize,
    pub people: usize,
    pub bytes: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { records: MAX_RECORDS, people: MAX_PEOPLE, bytes: MAX_BYTES }
    }
}

impl Budget {
    /// Take on half as much; whether it was more than the least.
    pub(crate) fn halve(&mut self) -> bool {
        let could = self.records > 1 || self.people > 1;
        self.records = (self.records / 2).max(1);
        self.people = (self.people / 2).max(1);
        self.bytes = (self.bytes / 2).max(64 << 10);
        could
    }

    /// A pass succeeded: take on more again.
    pub(crate) fn grow(&mut self) {
        self.records = (self.records * 2).min(MAX_RECORDS);
        self.people = (self.people * 2).min(MAX_PEOPLE);
        self.bytes = (self.bytes * 2).min(MAX_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_halves_down_to_one_and_grows_back() {
        let mut budget = Budget::default();
        let halvings = (0..20).take_while(|_| budget.halve()).count();
        assert_eq!(halvings, 12, "4,096 records halved to one");
        assert_eq!((budget.records, budget.people), (1, 1));
        (0..20).for_each(|_| budget.grow());
        assert_eq!(budget, Budget::default());
    }
}
