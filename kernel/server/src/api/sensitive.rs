//! What the dictionary calls sensitive, and who sees it: values are masked for a key without `sensitive:read`, conditions that
//! read them are for those who have it, and a plugin reads them where a grant names them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_features::{Expression, Sees};
use kith_model::audience::Audience;
use kith_model::consent::Entries;
use kith_model::dictionary::{Dictionary, EVERY_EVENT, Subject};
use kith_model::id::AudienceId;
use kith_model::rules::{Act, Rule, Target};
use kith_model::time::Timestamp;
use serde_json::value::RawValue;

use super::masks::Sight;
use super::view::json;
use crate::auth::{Caller, Scope};
use crate::catalogue::WorkspaceTables;
use crate::error::ApiError;

/// Whether an expression may see something that an entry describes. Of an event that is sensitive every property is; that it
/// happened, and how often, is not.
pub(crate) fn sees(sees: &Sees, subject: &Subject) -> bool {
    match subject {
        Subject::Trait { name } => sees.sees_trait(name),
        Subject::Event { name } => sees.sees_property(Some(name), None),
        Subject::Property { event, name } => {
            sees.sees_property((event != EVERY_EVENT).then_some(event.as_str()), Some(name))
        }
    }
}

/// The sensitive things that expressions may see, as a grant names them, each with since when its entry is as it is.
pub(crate) fn seen_by<'e>(
    dictionary: &Dictionary,
    expressions: impl Iterator<Item = &'e str>,
) -> Vec<(String, Timestamp)> {
    if !dictionary.has_sensitive() {
        return Vec::new();
    }
    // What is no expression is refused elsewhere, and sees nothing.
    let seen: Vec<Sees> = expressions.filter_map(|text| Expression::parse(text).ok()).map(|e| e.sees()).collect();
    let of_any = |subject: &Subject| seen.iter().any(|one| sees(one, subject));
    let found = dictionary.sensitive().filter(|(subject, _)| of_any(subject));
    found.map(|(subject, described)| (subject.to_string(), described.changed_at)).collect()
}

/// What one caller must not see of the data that they may read.
pub(crate) struct Mask {
    /// `None` where they see everything.
    hidden: Option<HiddenNames>,
}

struct HiddenNames {
    dictionary: Arc<Dictionary>,
    traits: BTreeSet<String>,
    /// Names of events, all of whose properties are sensitive.
    events: BTreeSet<String>,
    properties: BTreeSet<(String, String)>,
    /// Whether rules take something out of records, which they might still have as they came.
    has_rules: bool,
}

impl Mask {
    /// What a caller must not see in their workspace.
    pub(crate) fn new(tables: &WorkspaceTables, caller: &Caller) -> Mask {
        let takes_out = |rule: &Rule| rule.act != Act::Rename && rule.what != Target::Event;
        let has_rules = tables.record_rules.rules.iter().any(takes_out);
        if caller.may(Scope::SensitiveRead) || !(tables.dictionary.has_sensitive() || has_rules) {
            return Mask { hidden: None };
        }
        let mut hidden = HiddenNames {
            dictionary: Arc::clone(&tables.dictionary),
            traits: BTreeSet::new(),
            events: BTreeSet::new(),
            properties: BTreeSet::new(),
            has_rules,
        };
        for (subject, _) in tables.dictionary.sensitive() {
            match subject.clone() {
                Subject::Trait { name } => drop(hidden.traits.insert(name)),
                Subject::Event { name } => drop(hidden.events.insert(name)),
                Subject::Property { event, name } => drop(hidden.properties.insert((event, name))),
            }
        }
        Mask { hidden: Some(hidden) }
    }

    /// Whether a fact is hidden.
    pub(crate) fn hides_trait(&self, name: &str) -> bool {
        self.hidden.as_ref().is_some_and(|hidden| hidden.traits.contains(name))
    }

    /// Whether a property of events of a name is hidden.
    pub(crate) fn hides_property(&self, event: &str, name: &str) -> bool {
        let of = |hidden: &HiddenNames, event: &str| hidden.properties.contains(&(event.to_owned(), name.to_owned()));
        self.hidden
            .as_ref()
            .is_some_and(|hidden| hidden.events.contains(event) || of(hidden, event) || of(hidden, EVERY_EVENT))
    }

    /// Whether anything of events of a name is hidden by that name.
    pub(crate) fn hides_something_of(&self, event: &str) -> bool {
        let of = |hidden: &HiddenNames| {
            hidden.events.contains(event) || hidden.properties.iter().any(|(named, _)| named == event)
        };
        self.hidden.as_ref().is_some_and(of)
    }

    /// Whether a property of this name is hidden of events of a name, or with none, of any.
    pub(crate) fn hides_any_property(&self, event: Option<&str>, name: &str) -> bool {
        match event {
            Some(event) => self.hides_property(event, name),
            None => self.hidden.as_ref().is_some_and(|hidden| {
                !hidden.events.is_empty() || hidden.properties.iter().any(|(_, property)| property == name)
            }),
        }
    }

    /// An object of an event as it is shown: what is hidden is `null`, and named in `withheld` behind `place`.
    fn object(
        text: &str,
        place: &str,
        hides: impl Fn(&str) -> bool,
        withheld: &mut Vec<String>,
    ) -> Option<Box<RawValue>> {
        let shown = json(text);
        let Entries(entries) = serde_json::from_str(shown.get()).ok()?;
        if !entries.iter().any(|(name, _)| hides(name)) {
            return None;
        }
        let written = entries.iter().map(|(name, value)| {
            let key = serde_json::Value::from(name.as_ref());
            if hides(name) {
                withheld.push(format!("{place}.{name}"));
                return format!("{key}:null");
            }
            format!("{key}:{}", value.get())
        });
        let written: Vec<String> = written.collect();
        RawValue::from_string(format!("{{{}}}", written.join(","))).ok()
    }

    /// The properties of an event as they are shown.
    pub(crate) fn properties(&self, event: &str, text: &str, withheld: &mut Vec<String>) -> Box<RawValue> {
        if self.hidden.is_none() {
            return json(text);
        }
        // A group's facts come among the properties. A message of our own names the audience that somebody is in.
        let hides = |name: &str| {
            self.hides_property(event, name)
                || (name == "traits" && self.hides_facts())
                || (event.starts_with("Message ") && matches!(name, "audience" | "message"))
        };
        Mask::object(text, "properties", hides, withheld).unwrap_or_else(|| json(text))
    }

    fn hides_facts(&self) -> bool {
        self.hidden.as_ref().is_some_and(|hidden| !hidden.traits.is_empty())
    }

    /// Facts in a place of their own; withheld whole where they are no object.
    fn facts(&self, text: &str, place: &str, withheld: &mut Vec<String>) -> Option<Box<RawValue>> {
        if self.hides_facts() && !text.trim_start().starts_with('{') {
            return self.whole(place, withheld);
        }
        Mask::object(text, place, |name| self.hides_trait(name), withheld)
    }

    fn whole(&self, place: &str, withheld: &mut Vec<String>) -> Option<Box<RawValue>> {
        self.hidden.as_ref()?;
        withheld.push(place.to_owned());
        RawValue::from_string("null".to_owned()).ok()
    }

    /// The facts of an event as they are shown.
    pub(crate) fn traits(&self, text: &str, withheld: &mut Vec<String>) -> Box<RawValue> {
        if self.hidden.is_none() {
            return json(text);
        }
        Mask::object(text, "traits", |name| self.hides_trait(name), withheld).unwrap_or_else(|| json(text))
    }

    /// The context of an event as it is shown: the facts that clients send along in it are facts.
    pub(crate) fn context(&self, text: &str, withheld: &mut Vec<String>) -> Box<RawValue> {
        let whole = json(text);
        if self.hidden.is_none() {
            return whole;
        }
        let Ok(Entries(entries)) = serde_json::from_str(whole.get()) else { return whole };
        let mut is_changed = false;
        let mut written = Vec::with_capacity(entries.len());
        for (name, value) in &entries {
            let inner = match name.as_ref() {
                "traits" => self.facts(value.get(), "context.traits", withheld),
                // What a client wrote where an object belongs, as it came.
                "message" => self.whole("context.message", withheld),
                _ => None,
            };
            is_changed |= inner.is_some();
            let value = inner.as_deref().map_or(value.get(), RawValue::get);
            written.push(format!("{}:{value}", serde_json::Value::from(name.as_ref())));
        }
        if !is_changed {
            return whole;
        }
        RawValue::from_string(format!("{{{}}}", written.join(","))).unwrap_or(whole)
    }

    /// The first sensitive thing that a condition reads, where the caller must not see it.
    pub(crate) fn hidden_in(&self, condition: &str) -> Option<String> {
        let hidden = self.hidden.as_ref()?;
        seen_by(&hidden.dictionary, std::iter::once(condition)).into_iter().map(|(name, _)| name).next()
    }

    /// Refuse a condition, or what tells of those who meet it, where it reads what the caller must not see.
    pub(crate) fn insist(&self, condition: &str) -> Result<(), ApiError> {
        self.hidden_in(condition).map_or(Ok(()), |name| Err(denied("the condition reads", &name)))
    }

    /// Refuse to search by a fact, or to list it, where the caller must not see it.
    pub(crate) fn insist_on_trait(&self, name: &str) -> Result<(), ApiError> {
        match self.hides_trait(name) {
            false => Ok(()),
            true => Err(denied("this asks for", &Subject::Trait { name: name.to_owned() }.to_string())),
        }
    }

    /// Whether membership of an audience tells what the caller must not see.
    pub(crate) fn hides_audience(&self, audience: &Audience) -> bool {
        self.hidden_in(&audience.condition).is_some()
    }

    /// What the caller sees of messages that an audience sent: to whom they went tells who meets its condition.
    pub(crate) fn sight_of(&self, tables: &WorkspaceTables, id: AudienceId, sight: Sight) -> Sight {
        let known = tables.audiences.get(&id).or_else(|| tables.removed_audiences.get(&id));
        match known.is_some_and(|audience| self.hides_audience(audience)) {
            true => Sight::Crowds,
            false => sight,
        }
    }

    /// What the caller sees of records as they came. Nobody knows where in one something sensitive stands, so that it is seen
    /// whole or not at all.
    pub(crate) fn sight_of_records(&self, sight: Sight) -> Sight {
        let may_hold = |hidden: &HiddenNames| hidden.has_rules || hidden.dictionary.has_sensitive();
        if self.hidden.as_ref().is_some_and(may_hold) { Sight::Crowds } else { sight }
    }
}

fn denied(what: &str, name: &str) -> ApiError {
    let message =
        format!("{what} `{name}`, which the data dictionary calls sensitive; the key has no scope `sensitive:read`");
    ApiError::Denied { message }
}
