//! Questions that have to look at everybody: one of a workspace at a time, so that whoever asks many takes no processor from
//! others, and each only while somebody waits for the answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use kith_model::budget::{Exhausted, table};
use parking_lot::{Mutex, MutexGuard};

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// Others of the workspace were being answered all the time, or as many as may wait already.
    #[error(transparent)]
    Busy(Exhausted),
    /// It was worked at for as long as a question may be.
    #[error(
        "looking at everybody took more than {seconds} seconds and was given up; an audience with this condition is kept up to date and counts at once"
    )]
    TooLong { seconds: u64 },
    /// Whoever asked has gone.
    #[error("nobody waits for the answer any more")]
    GivenUp,
}

/// The longest that a question waits for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The longest that one is worked at.
const LONGEST_WORK: Duration = Duration::from_millis(table::QUESTION_TIME.default);

/// The most that wait for a turn. Each holds a thread, and the threads are everybody's.
const MAX_WAITING: usize = table::QUESTIONS_WAITING.default as usize;

/// When whoever found too many waiting may come again.
const COME_BACK: Duration = Duration::from_secs(10);

impl TurnError {
    pub(crate) fn busy() -> TurnError {
        TurnError::Busy(table::QUESTIONS_WAITING.exhausted(table::QUESTIONS_WAITING.default, Some(COME_BACK)))
    }
}

/// How often one that waits looks whether somebody still wants it: an asker who leaves is a future that is dropped, and tells
/// nobody.
const LOOK: Duration = Duration::from_millis(50);

/// Whoever asked. Dropped, the question is given up.
#[derive(Debug, Default)]
pub struct Asker(Arc<()>);

impl Asker {
    /// What tells those who work at the question whether the asker is still there.
    pub fn patience(&self) -> Patience {
        Patience { asker: Some(Arc::downgrade(&self.0)), wait: LONGEST_WAIT, work: LONGEST_WORK }
    }
}

/// How long a question may wait and be worked at.
#[derive(Debug, Clone)]
pub struct Patience {
    /// `None` where whoever asks blocks until it is answered.
    asker: Option<Weak<()>>,
    wait: Duration,
    work: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { asker: None, wait: LONGEST_WAIT, work: LONGEST_WORK }
    }
}

impl Patience {
    /// Whether nobody waits for the answer any more.
    pub fn is_asker_gone(&self) -> bool {
        self.asker.as_ref().is_some_and(|asker| asker.strong_count() == 0)
    }

    /// Whether to go on with a question about one person, which has no time of its own.
    ///
    /// # Errors
    /// [`TurnError::GivenUp`] where nobody waits for the answer any more.
    pub(crate) fn go_on(&self) -> Result<(), TurnError> {
        if self.is_asker_gone() { Err(TurnError::GivenUp) } else { Ok(()) }
    }
}

/// The turns of one workspace.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<()>,
    waiting: AtomicUsize,
}

/// A question that has its turn.
pub(crate) struct QuestionTurn<'a> {
    deadline: Deadline<'a>,
    _held: MutexGuard<'a, ()>,
}

impl Turns {
    /// Wait for a turn.
    ///
    /// # Errors
    /// [`TurnError::Busy`] where none came in time or too many wait, [`TurnError::GivenUp`] where nobody waits any more.
    pub(crate) fn take<'a>(&'a self, patience: &'a Patience) -> Result<QuestionTurn<'a>, TurnError> {
        let held = match self.taken.try_lock() {
            Some(held) => held,
            None => self.wait(patience)?,
        };
        Ok(QuestionTurn { deadline: Deadline::new(patience), _held: held })
    }

    fn wait(&self, patience: &Patience) -> Result<MutexGuard<'_, ()>, TurnError> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(TurnError::busy());
        }
        let until = Instant::now() + patience.wait;
        let answer = loop {
            if patience.is_asker_gone() {
                break Err(TurnError::GivenUp);
            }
            let left = until.saturating_duration_since(Instant::now());
            if let Some(held) = self.taken.try_lock_for(LOOK.min(left)) {
                break Ok(held);
            }
            if left.is_zero() {
                break Err(TurnError::busy());
            }
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        answer
    }
}

/// A question about few people: it needs no turn, and ends with its time and with who asked it all the same.
pub(crate) struct Deadline<'a> {
    patience: &'a Patience,
    until: Instant,
}

impl<'a> Deadline<'a> {
    pub(crate) fn new(patience: &'a Patience) -> Deadline<'a> {
        Deadline { patience, until: Instant::now() + patience.work }
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`TurnError::TooLong`] after its time, [`TurnError::GivenUp`] where nobody waits any more.
    pub(crate) fn go_on(&self) -> Result<(), TurnError> {
        if self.patience.is_asker_gone() {
            Err(TurnError::GivenUp)
        } else if Instant::now() >= self.until {
            table::QUESTION_TIME.count();
            Err(TurnError::TooLong { seconds: self.patience.work.as_secs() })
        } else {
            Ok(())
        }
    }
}

impl QuestionTurn<'_> {
    /// Whether to go on.
    ///
    /// # Errors
    /// [`TurnError::TooLong`] after its time, [`TurnError::GivenUp`] where nobody waits any more.
    pub(crate) fn go_on(&self) -> Result<(), TurnError> {
        self.deadline.go_on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(wait: Duration, work: Duration) -> Patience {
        Patience { asker: None, wait, work }
    }

    #[test]
    fn one_question_at_a_time_and_none_waits_for_ever() {
        let turns = Turns::default();
        let long = Patience::default();
        let turn = turns.take(&long).unwrap();
        assert!(turn.go_on().is_ok());
        let short = patience(Duration::ZERO, Duration::ZERO);
        assert!(matches!(turns.take(&short), Err(TurnError::Busy(_))));
        drop(turn);
        let turn = turns.take(&short).unwrap();
        assert!(matches!(turn.go_on(), Err(TurnError::TooLong { seconds: 0 })));
    }

    #[test]
    fn few_wait_and_the_others_are_told_at_once() {
        let turns = Turns::default();
        let asker = Asker::default();
        let (patience, of_asker) = (Patience::default(), asker.patience());
        let turn = turns.take(&patience).unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..MAX_WAITING).map(|_| scope.spawn(|| turns.take(&of_asker).map(drop))).collect();
            while turns.waiting.load(Ordering::Relaxed) < MAX_WAITING {
                std::thread::yield_now();
            }
            assert!(matches!(turns.take(&patience).map(drop), Err(TurnError::Busy(_))));
            drop(asker);
            assert!(waiting.into_iter().all(|one| one.join().unwrap() == Err(TurnError::GivenUp)));
        });
        drop(turn);
        assert!(turns.take(&patience).is_ok(), "nobody waits any more");
    }

    #[test]
    fn a_question_ends_with_who_asked_it() {
        let turns = Turns::default();
        let (asker, other) = (Asker::default(), Asker::default());
        let (patience, of_other) = (asker.patience(), other.patience());
        let turn = turns.take(&patience).unwrap();
        drop(other);
        assert!(matches!(turns.take(&of_other), Err(TurnError::GivenUp)), "while it waits");
        drop(asker);
        assert!(matches!(turn.go_on(), Err(TurnError::GivenUp)), "while it is worked at");
        assert!(matches!(Deadline::new(&patience).go_on(), Err(TurnError::GivenUp)), "without a turn");
    }
}
