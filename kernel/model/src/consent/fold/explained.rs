//! Why each answer of a person counts or not. A person of hundreds of identities has tens of thousands of answers, so that what
//! an answer depends on is found by its key, and nothing is worked out before it is asked for.

use std::collections::HashMap;

use super::super::AT;
use super::{
    Answer, Contributor, EVERYTHING, Ender, PROFILING, answers, covers, ender, is_of_another, is_of_everything, parts,
};

/// Why an answer counts, or why not.
#[derive(Debug, Clone, PartialEq)]
pub enum Why<'a> {
    /// Nothing has ended it.
    Holds,
    /// A refusal holds but for what these agreed to, each to a part of it.
    HoldsBut(Vec<Answer<'a>>),
    /// A refusal was ended by this agreement to its own key.
    EndedBy(Answer<'a>),
    /// This refusal stands above an agreement.
    OverruledBy(Answer<'a>),
    /// Everything was refused after an agreement.
    EndedByEverything(Ender<'a>),
    /// It ends refusals of everything, and agrees to nothing by its name.
    AgreesToNothing,
}

/// The answers of a person, each of which can be explained.
pub struct Explained<'a> {
    person: &'a [Contributor],
    answers: Vec<Answer<'a>>,
    /// The places of answers by their keys.
    by_key: HashMap<&'a str, Vec<usize>>,
    /// The same by their purposes.
    by_purpose: HashMap<&'a str, Vec<usize>>,
    /// Of keys that were agreed to, the place of the refusal that stands above that.
    above: HashMap<&'a str, Option<usize>>,
}

impl<'a> Explained<'a> {
    /// What each of these said.
    pub fn of(person: &'a [Contributor]) -> Explained<'a> {
        // What others say of their own profiling is nothing to this person.
        let is_of_others = |answer: &Answer<'_>| is_of_another(answer) && answer.key == PROFILING;
        let answers: Vec<Answer<'a>> = answers(person).into_iter().filter(|answer| !is_of_others(answer)).collect();
        let (mut by_key, mut by_purpose) = (HashMap::<&str, Vec<usize>>::new(), HashMap::<&str, Vec<usize>>::new());
        for (place, answer) in answers.iter().enumerate() {
            by_key.entry(answer.key).or_default().push(place);
            by_purpose.entry(parts(answer.key).0).or_default().push(place);
        }
        Explained { person, answers, by_key, by_purpose, above: HashMap::new() }
    }

    /// All answers.
    pub fn answers(&self) -> &[Answer<'a>] {
        &self.answers
    }

    /// Why the answer at a place counts, or why not.
    pub fn why(&mut self, place: usize) -> Why<'a> {
        let answer = self.answers[place];
        match answer.consent.refused {
            Some(_) => self.why_refused(&answer),
            None => self.why_agreed(&answer),
        }
    }

    fn with_key(&self, key: &str) -> impl Iterator<Item = usize> {
        self.by_key.get(key).into_iter().flatten().copied()
    }

    fn why_refused(&self, refusal: &Answer<'a>) -> Why<'a> {
        let ends = |answer: &Answer<'a>| answer.ends(refusal);
        if let Some(own) = self.with_key(refusal.key).map(|place| self.answers[place]).find(ends) {
            return Why::EndedBy(own);
        }
        // Only what has its purpose says something about a refusal, unless that is of everything.
        let ending: Vec<Answer<'a>> = match parts(refusal.key).0 {
            EVERYTHING => self.answers.iter().filter(|answer| ends(answer)).copied().collect(),
            purpose => {
                let of_purpose = self.by_purpose.get(purpose).into_iter().flatten();
                of_purpose.map(|place| self.answers[*place]).filter(ends).collect()
            }
        };
        if ending.is_empty() { Why::Holds } else { Why::HoldsBut(ending) }
    }

    fn why_agreed(&mut self, agreement: &Answer<'a>) -> Why<'a> {
        let above = match self.above.get(agreement.key) {
            Some(above) => *above,
            None => {
                let above = self.refusal_above(agreement.key);
                self.above.insert(agreement.key, above);
                above
            }
        };
        if let Some(place) = above {
            return Why::OverruledBy(self.answers[place]);
        }
        if is_of_everything(agreement.key) {
            return Why::AgreesToNothing;
        }
        ender(self.person, agreement, |key| is_above(key, agreement.key)).map_or(Why::Holds, Why::EndedByEverything)
    }

    /// The place of the first refusal of this key, or of one that is wider, that no agreement to one of these ends.
    fn refusal_above(&self, key: &str) -> Option<usize> {
        let (purpose, channel) = parts(key);
        let mut wider = vec![key.to_owned(), purpose.to_owned(), EVERYTHING.to_owned()];
        wider.extend(channel.map(|channel| format!("{EVERYTHING}{AT}{channel}")));
        wider.retain(|wide| is_above(wide, key));
        wider.sort_unstable();
        wider.dedup();
        let mut places: Vec<usize> = wider.iter().flat_map(|wide| self.with_key(wide)).collect();
        places.sort_unstable();
        let mut refusals = places.iter().copied().filter(|place| self.answers[*place].consent.refused.is_some());
        refusals.find(|refused| !places.iter().any(|place| self.answers[*place].ends(&self.answers[*refused])))
    }
}

/// Whether a refusal of `wide` stands above an agreement to `key`. One of all purposes is none of profiling.
fn is_above(wide: &str, key: &str) -> bool {
    covers(key, wide) && (key != PROFILING || wide == PROFILING)
}
