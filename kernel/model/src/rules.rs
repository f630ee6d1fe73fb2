//! Light rules of a workspace about records: what is dropped, renamed or hashed of what connectors find, before anything of it
//! is stored. They are data; `kith-pipeline` applies them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::consent::is_consent;
use crate::dictionary::MAX_NAME_BYTES;
use crate::identity::{PREVIOUS_ID, is_type};

/// Most rules of a workspace: each is looked at for each event.
pub const MAX_RULES: usize = 200;

/// Most sources that one rule names.
pub const MAX_SOURCES: usize = 100;

/// The longest id of a rule; it stands in flags.
pub const MAX_ID_BYTES: usize = 64;

/// What stands before a value that was hashed: the algorithm.
pub const HASHED: &str = "hmac-sha256:";

/// What stands before the type of an identifier whose type has a shape, once its value is hashed: it is an address no more.
pub const HASHED_TYPE: &str = "hashed_";

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    Drop,
    Rename,
    /// A keyed hash takes the value's place: equal values stay equal, and nobody reads them.
    Hash,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Events of a name.
    Event,
    /// A property of events.
    Property,
    /// A fact of people, in whichever place an event tells of it.
    Trait,
    /// Identifiers of a type.
    Identifier,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names the rule in the flags of what it touched, e.g. `no-ssn`.
    pub id: String,
    /// `drop`, `rename` or `hash`.
    #[serde(rename = "do")]
    pub act: Act,
    /// `event`, `property`, `trait` or `identifier`.
    pub what: Target,
    /// The name of the event, property or fact, or the type of the identifiers; upper and lower case differ.
    pub name: String,
    /// Of a property: the name of the events that it is taken from; every event unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The new name, of `rename` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The names of the sources that it holds for; all unless told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

/// The rules of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRules {
    /// One more with each change; 0 where there never was a rule.
    pub version: u32,
    pub rules: Vec<Rule>,
}

/// A rule that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RuleError {
    /// Where it stands in the document, e.g. `rules[3].to`.
    pub field: String,
    pub problem: String,
}

impl RecordRules {
    /// Whether these rules can be in force.
    ///
    /// # Errors
    /// [`RuleError`] names the first field that is wrong.
    pub fn check(rules: &[Rule]) -> Result<(), RuleError> {
        if rules.len() > MAX_RULES {
            return Err(RuleError { field: "rules".into(), problem: format!("at most {MAX_RULES} rules") });
        }
        let mut ids = BTreeSet::new();
        for (place, rule) in rules.iter().enumerate() {
            let wrong =
                |(field, problem): (&str, String)| RuleError { field: format!("rules[{place}].{field}"), problem };
            rule.check().map_err(wrong)?;
            if !ids.insert(rule.id.as_str()) {
                return Err(wrong(("id", format!("`{}` is another rule's", rule.id))));
            }
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let is_id = self.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && self.id.starts_with(|first: char| first.is_ascii_lowercase())
            && self.id.len() <= MAX_ID_BYTES;
        if !is_id {
            return Err(("id", format!("1 to {MAX_ID_BYTES} lower-case letters, digits and `-`, a letter first")));
        }
        let is_name = |name: &str| (1..=MAX_NAME_BYTES).contains(&name.len());
        let bounds = || format!("has 1 to {MAX_NAME_BYTES} bytes");
        if !is_name(&self.name) {
            return Err(("name", bounds()));
        }
        match (&self.event, self.what) {
            (Some(event), Target::Property) if !is_name(event) => return Err(("event", bounds())),
            (Some(_), Target::Event | Target::Trait | Target::Identifier) => {
                return Err(("event", "only a property is one of an event; leave it out".into()));
            }
            _ => {}
        }
        match (self.act, self.what, &self.to) {
            (Act::Hash, Target::Event, _) => {
                return Err(("do", "an event's name is no value; drop or rename it".into()));
            }
            (Act::Rename, Target::Identifier, _) => {
                return Err((
                    "do",
                    "the type of an identifier says how people are told apart; it is not renamed".into(),
                ));
            }
            (Act::Rename, _, None) => return Err(("to", "say the new name".into())),
            (Act::Rename, _, Some(to)) if !is_name(to) => return Err(("to", bounds())),
            (Act::Rename, _, Some(to)) if *to == self.name => return Err(("to", "is the name that it has".into())),
            (Act::Drop | Act::Hash, _, Some(_)) => return Err(("to", "only a rename has a new name".into())),
            _ => {}
        }
        // A refusal must not get lost, nor a fact become an agreement.
        let told = |name: &str| self.what == Target::Trait && is_consent(name);
        if told(&self.name) || self.to.as_deref().is_some_and(told) {
            return Err(("name", "what people say of consent is no fact, and no rule touches it".into()));
        }
        if self.what == Target::Identifier {
            if self.name == PREVIOUS_ID {
                return Err((
                    "name",
                    "the old id of an alias is a user's; a rule of `user_id` holds for it too".into(),
                ));
            }
            if !is_type(&self.name) || self.name.len() + HASHED_TYPE.len() > 64 {
                return Err(("name", "a type of identifiers is 1 to 57 lower-case letters, digits and `_`".into()));
            }
        }
        if self.sources.len() > MAX_SOURCES {
            return Err(("sources", format!("at most {MAX_SOURCES}; leave it out for all")));
        }
        match self.sources.iter().find(|source| source.parse::<crate::id::InstallationName>().is_err()) {
            Some(source) => {
                let shown: String = source.chars().take(64).collect();
                Err(("sources", format!("`{shown}` is no name of a source")))
            }
            None => Ok(()),
        }
    }

    /// Whether it holds for a source of this name.
    pub fn holds_for(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|named| named == source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(act: Act, what: Target, name: &str) -> Rule {
        let to = (act == Act::Rename).then(|| "new".to_owned());
        Rule { id: "r".into(), act, what, name: name.into(), event: None, to, sources: Vec::new() }
    }

    fn fault(rule: Rule) -> String {
        RecordRules::check(&[rule]).map_or_else(|error| error.field, |()| "fine".into())
    }

    #[test]
    fn rules_that_cannot_be_are_named_by_their_place() {
        use {Act::*, Target::*};
        for (rule, field) in [
            (rule(Drop, Trait, "ssn"), "fine"),
            (rule(Hash, Identifier, "email"), "fine"),
            (Rule { event: Some("Buy".into()), ..rule(Drop, Property, "ssn") }, "fine"),
            (Rule { sources: vec!["web".into()], ..rule(Rename, Event, "buy") }, "fine"),
            (Rule { id: "No".into(), ..rule(Drop, Trait, "ssn") }, "rules[0].id"),
            (rule(Drop, Trait, ""), "rules[0].name"),
            (Rule { event: Some("Buy".into()), ..rule(Drop, Trait, "ssn") }, "rules[0].event"),
            (rule(Hash, Event, "Buy"), "rules[0].do"),
            (rule(Rename, Identifier, "email"), "rules[0].do"),
            (Rule { to: None, ..rule(Rename, Trait, "ssn") }, "rules[0].to"),
            (rule(Rename, Trait, "new"), "rules[0].to"),
            (Rule { to: Some("x".into()), ..rule(Drop, Trait, "ssn") }, "rules[0].to"),
            (rule(Drop, Trait, "Consent"), "rules[0].name"),
            (Rule { to: Some("consent".into()), ..rule(Rename, Trait, "ok") }, "rules[0].name"),
            (rule(Drop, Identifier, "previous_id"), "rules[0].name"),
            (rule(Drop, Identifier, "E-Mail"), "rules[0].name"),
            (Rule { sources: vec!["no name".into()], ..rule(Drop, Trait, "ssn") }, "rules[0].sources"),
        ] {
            assert_eq!(fault(rule.clone()), field, "{rule:?}");
        }
        let twice = [rule(Drop, Trait, "a"), rule(Drop, Trait, "b")];
        assert_eq!(RecordRules::check(&twice).unwrap_err().field, "rules[1].id");
        let many: Vec<Rule> = (0..201).map(|n| Rule { id: format!("r{n}"), ..rule(Drop, Trait, "a") }).collect();
        assert_eq!(RecordRules::check(&many).unwrap_err().field, "rules");
    }
}
