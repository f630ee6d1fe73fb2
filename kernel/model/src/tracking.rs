//! Tracking plans: which events a source is expected to send, with which properties, and what becomes of those that are
//! otherwise. A plan judges; what follows from a judgement is the data path's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::budget::table;
use crate::event::{DraftEvent, EventKind};
use crate::flag;

/// What becomes of an event that is not as the plan has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It is taken, and counted.
    #[default]
    Allow,
    /// It is taken with a flag, and counted.
    Flag,
    /// It is set aside as a dead letter, and counted.
    Reject,
}

/// In what an event differs from its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanMistake {
    /// The plan has no event of that name.
    Unplanned,
    /// Its properties or traits do not meet their schema.
    Violation,
}

/// What a plan says of an event that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The plan's name.
    pub plan: Arc<str>,
    /// What is to become of the event.
    pub policy: Policy,
    /// In what it differs.
    pub mistake: PlanMistake,
    /// Where, e.g. `properties.total`; the event's name for one that is not planned.
    pub place: String,
    /// What is wrong there, in words for people.
    pub message: String,
}

impl Judgement {
    /// The code under which it is counted, flagged or refused.
    pub fn code(&self) -> &'static str {
        match self.mistake {
            PlanMistake::Unplanned => flag::UNPLANNED_EVENT,
            PlanMistake::Violation => flag::PLAN_VIOLATION,
        }
    }

    /// The flag of an event that is taken all the same.
    pub fn flag(&self) -> String {
        match self.mistake {
            PlanMistake::Unplanned => self.code().to_owned(),
            PlanMistake::Violation => format!("{}:{}", self.code(), self.place),
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judgement { plan, place, message, .. } = self;
        match self.mistake {
            PlanMistake::Unplanned => write!(f, "the tracking plan `{plan}` has no event `{place}`; {message}"),
            PlanMistake::Violation => write!(f, "the tracking plan `{plan}`: {place}: {message}"),
        }
    }
}

/// A schema of JSON objects that is ready to use.
pub trait ObjectSchema: Send + Sync {
    /// How many steps a check of this value takes at most.
    fn steps(&self, value: &Value) -> u64;

    /// The first place where a value does not meet the schema, as a JSON pointer, and what is wrong there.
    fn mistake(&self, value: &Value) -> Option<(String, String)>;
}

/// What is expected of the properties of one event, or of traits.
#[derive(Clone, Default)]
pub struct ExpectedFields {
    /// What becomes of those that are otherwise.
    pub policy: Policy,
    /// `None` where everything is as it should be.
    pub schema: Option<Arc<dyn ObjectSchema>>,
}

impl fmt::Debug for ExpectedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectedFields").field("policy", &self.policy).field("schema", &self.schema.is_some()).finish()
    }
}

/// A tracking plan, ready to judge.
#[derive(Debug, Clone)]
pub struct TrackingPlan {
    /// Its name.
    pub name: Arc<str>,
    /// What becomes of `track` events of other names than the plan's.
    pub unplanned: Policy,
    /// By the events' names.
    pub events: BTreeMap<String, ExpectedFields>,
    /// Of traits, whatever event brings them.
    pub traits: Option<ExpectedFields>,
}

/// The steps that the checks of one batch take at most; what comes behind them in it counts as not as it should be, because a
/// sender chooses how much there is to check. Forty of the largest events.
const MAX_BATCH_STEPS: u64 = 40 * table::CONFIG_STEPS.default;

/// Characters of a message that are kept: it quotes what a sender wrote.
const MAX_MESSAGE: usize = 300;

/// What a plan says of the events of a batch, by their places in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgements(Vec<(usize, Judgement)>);

impl Judgements {
    /// What is said of the event at a place; `None` of one that is as it should be.
    pub fn of(&self, index: usize) -> Option<&Judgement> {
        let found = self.0.binary_search_by_key(&index, |(place, _)| *place).ok()?;
        self.0.get(found).map(|(_, judged)| judged)
    }
}

impl TrackingPlan {
    /// Judge the events of a batch.
    pub fn judge(&self, events: &[DraftEvent]) -> Judgements {
        let mut steps = MAX_BATCH_STEPS;
        let judged = events.iter().enumerate();
        Judgements(judged.filter_map(|(index, event)| Some((index, self.judge_one(event, &mut steps)?))).collect())
    }

    /// The strictest thing that is to be said of an event.
    fn judge_one(&self, event: &DraftEvent, steps: &mut u64) -> Option<Judgement> {
        let of_name = match self.events.get(&event.name) {
            Some(expected) => self.violation("properties", &event.properties, expected, steps),
            None => self.unplanned(event),
        };
        let traits = self.traits.as_ref().filter(|_| !event.traits.is_empty());
        let of_traits = traits.and_then(|expected| self.violation("traits", &event.traits, expected, steps));
        match (of_name, of_traits) {
            (Some(one), Some(other)) if other.policy > one.policy => Some(other),
            (one, other) => one.or(other),
        }
    }

    fn unplanned(&self, event: &DraftEvent) -> Option<Judgement> {
        (event.kind == EventKind::Track && !event.name.is_empty()).then(|| Judgement {
            plan: Arc::clone(&self.name),
            policy: self.unplanned,
            mistake: PlanMistake::Unplanned,
            place: cut(event.name.clone()),
            message: "add it to the plan, or correct the name where it is sent".to_owned(),
        })
    }

    fn violation(&self, part: &str, text: &str, expected: &ExpectedFields, steps: &mut u64) -> Option<Judgement> {
        let schema = expected.schema.as_ref()?;
        let value = match text {
            "" => Value::Object(Map::new()),
            // What is no JSON is refused by others, with their reason.
            text => serde_json::from_str(text).ok()?,
        };
        let needed = schema.steps(&value);
        let (place, message) = match steps.checked_sub(needed).filter(|_| needed <= table::CONFIG_STEPS.default) {
            None => {
                (part.to_owned(), "has too much in it to be checked; send less in an event and in a batch".to_owned())
            }
            Some(rest) => {
                *steps = rest;
                let (pointer, message) = schema.mistake(&value)?;
                (format!("{part}{}", pointer.replace('/', ".").replace("~1", "/").replace("~0", "~")), message)
            }
        };
        let (policy, mistake, plan) = (expected.policy, PlanMistake::Violation, Arc::clone(&self.name));
        Some(Judgement { plan, policy, mistake, place: cut(place), message: cut(message) })
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes objects whose every value is a number, in as many steps as one says.
    struct Numbers;

    impl ObjectSchema for Numbers {
        fn steps(&self, value: &Value) -> u64 {
            value.get("steps").and_then(Value::as_u64).unwrap_or(1)
        }

        fn mistake(&self, value: &Value) -> Option<(String, String)> {
            let object = value.as_object()?;
            let wrong = object.iter().find(|(_, value)| !value.is_number())?;
            Some((format!("/{}", wrong.0), format!("{} is no number", wrong.1)))
        }
    }

    fn expected(policy: Policy) -> ExpectedFields {
        ExpectedFields { policy, schema: Some(Arc::new(Numbers)) }
    }

    fn plan(unplanned: Policy, of_events: Policy, of_traits: Policy) -> TrackingPlan {
        let events = [("Buy".to_owned(), expected(of_events)), ("Look".to_owned(), ExpectedFields::default())];
        TrackingPlan { name: "web".into(), unplanned, events: events.into(), traits: Some(expected(of_traits)) }
    }

    fn event(kind: EventKind, name: &str, properties: &str, traits: &str) -> DraftEvent {
        let (properties, traits) = (properties.to_owned(), traits.to_owned());
        DraftEvent { kind, name: name.to_owned(), properties, traits, ..DraftEvent::default() }
    }

    #[test]
    fn each_policy_is_the_one_of_what_is_wrong_and_the_strictest_holds() {
        use EventKind::{Identify, Page, Track};
        use Policy::{Allow, Flag, Reject};
        let all: &[Policy] = &[Allow, Flag, Reject];
        for (unplanned, of_events, of_traits) in
            all.iter().flat_map(move |a| all.iter().flat_map(move |b| all.iter().map(move |c| (*a, *b, *c))))
        {
            let plan = plan(unplanned, of_events, of_traits);
            let (good, bad) = (r#"{"n":1}"#, r#"{"n":"1"}"#);
            for (event, told) in [
                (event(Track, "Buy", good, ""), None),
                (event(Track, "Buy", "", ""), None),
                (event(Track, "Look", bad, ""), None),
                (event(Track, "Buy", bad, ""), Some((of_events, "plan-violation:properties.n"))),
                (event(Page, "Buy", bad, ""), Some((of_events, "plan-violation:properties.n"))),
                (event(Track, "Bye", bad, ""), Some((unplanned, "unplanned-event"))),
                (event(Page, "Home", bad, ""), None),
                (event(Track, "", "", ""), None),
                (event(Identify, "", "", good), None),
                (event(Identify, "", "", bad), Some((of_traits, "plan-violation:traits.n"))),
                (
                    event(Track, "Buy", bad, bad),
                    Some(if of_traits > of_events {
                        (of_traits, "plan-violation:traits.n")
                    } else {
                        (of_events, "plan-violation:properties.n")
                    }),
                ),
                (event(Track, "Buy", "{", ""), None),
            ] {
                let judged = plan.judge(std::slice::from_ref(&event));
                let judged = judged.of(0).map(|judged| (judged.policy, judged.flag()));
                assert_eq!(judged, told.map(|(policy, flag)| (policy, flag.to_owned())), "{event:?}");
            }
        }
    }

    #[test]
    fn what_a_batch_makes_to_be_checked_has_an_end() {
        let plan = plan(Policy::Allow, Policy::Reject, Policy::Allow);
        let most = table::CONFIG_STEPS.default;
        let wide = |steps: u64| event(EventKind::Track, "Buy", &format!(r#"{{"steps":{steps}}}"#), "");
        let judged = plan.judge(&[wide(most), wide(most + 1), wide(1)]);
        assert_eq!([0, 1, 2].map(|place| judged.of(place).is_some()), [false, true, false], "one that is too wide");
        let many: Vec<DraftEvent> = std::iter::repeat_n(wide(most), 41).collect();
        let judged = plan.judge(&many);
        assert_eq!([39, 40].map(|place| judged.of(place).is_some()), [false, true], "and many together");
    }

    #[test]
    fn places_and_messages_are_short_and_in_the_words_of_conditions() {
        let plan = plan(Policy::Reject, Policy::Reject, Policy::Allow);
        let event = event(EventKind::Track, "Buy", &format!(r#"{{"a~b/c":"{}"}}"#, "x".repeat(5_000)), "");
        let judged = plan.judge(&[event]);
        let judged = judged.of(0).unwrap();
        assert!(judged.message.chars().count() <= MAX_MESSAGE + 1);
        assert!(judged.to_string().starts_with("the tracking plan `web`: properties.a~b.c: "), "{judged}");
    }
}
