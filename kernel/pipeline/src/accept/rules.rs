//! Light rules of a workspace, applied to what a connector found: before the checks, One-ID and everything that is stored, and
//! after what tells a repeat from another message, which goes by the record as it came.
//!
//! What a rule of dropping or of hashing names is meant under the name with which it came and under the one that a rename
//! gave it, so that no rename carries anything past it. All rules look at the names as they came: a rename is not followed by
//! another. Neither the order of keys in a record nor that of the rules, but for two renames of one thing, changes what comes out.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kith_model::consent::Entries;
use kith_model::event::DraftEvent;
use kith_model::flag;
use kith_model::identity::{Identifier, IdentityRules, PREVIOUS_ID, USER_ID};
use kith_model::rules::{Act, RecordRules, Rule, Target};
use serde_json::value::RawValue;

use super::content;
use crate::rows::hashes::HashKey;

/// Most rules that an event's flags name.
const MAX_RULE_FLAGS: usize = 16;

/// The rules that hold for one source.
pub(crate) struct SourceRules {
    version: u32,
    rules: Vec<Rule>,
    key: HashKey,
}

/// A draft as it came, and as the rules leave it.
pub(crate) struct RuledDraft<'d> {
    /// As it came, with texts that are JSON.
    pub came: Cow<'d, DraftEvent>,
    /// What may be stored of it.
    pub event: Cow<'d, DraftEvent>,
    /// Which rules touched it.
    pub flags: Vec<String>,
    /// Whether a rule drops the whole event.
    pub is_dropped: bool,
    /// Whether anything of it must not be kept, so that no letter may have it as it came.
    pub hides: bool,
    /// Identifiers that were hashed, each with its hash.
    pub hashed: Vec<(Identifier, Identifier)>,
    /// The hashes of identifiers that were dropped: what they refuse is kept under these.
    pub dropped: Vec<Identifier>,
}

impl<'d> RuledDraft<'d> {
    /// A draft that no rule is for.
    pub(crate) fn plain(draft: &'d DraftEvent) -> RuledDraft<'d> {
        let came = content::cleaned(draft);
        RuledDraft {
            event: came.clone(),
            came,
            flags: Vec::new(),
            is_dropped: false,
            hides: false,
            hashed: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// A draft under the rules of its source, if it has any.
    pub(crate) fn new(draft: &'d DraftEvent, rules: Option<&SourceRules>, identity: &IdentityRules) -> RuledDraft<'d> {
        let mut ruled = RuledDraft::plain(draft);
        if let Some(rules) = rules {
            Application { rules, ruled: &mut ruled, touched: BTreeSet::new() }.apply(identity);
        }
        ruled
    }
}

/// What the rules make of one named thing.
struct Fate<'r> {
    dropped: Option<&'r Rule>,
    renamed: Option<&'r Rule>,
    hashed: Option<&'r Rule>,
}

impl Fate<'_> {
    fn is_nothing(&self) -> bool {
        self.dropped.is_none() && self.renamed.is_none() && self.hashed.is_none()
    }
}

impl SourceRules {
    /// The rules of a workspace that hold for a source of this name; `None` where none does.
    pub(crate) fn of(rules: &RecordRules, source: &str, realm_key: &[u8; 32]) -> Option<SourceRules> {
        let held: Vec<Rule> = rules.rules.iter().filter(|rule| rule.holds_for(source)).cloned().collect();
        (!held.is_empty()).then(|| SourceRules { version: rules.version, rules: held, key: HashKey::of(realm_key) })
    }

    /// The rules of a workspace where one of them hashes identifiers, whichever source it is for.
    pub(crate) fn hashing(rules: &RecordRules, realm_key: &[u8; 32]) -> Option<SourceRules> {
        let hashes = |rule: &Rule| rule.act == Act::Hash && rule.what == Target::Identifier;
        if rules.rules.iter().any(hashes) { SourceRules::every(rules, realm_key) } else { None }
    }

    /// All rules of a workspace, whichever source they are for.
    pub(crate) fn every(rules: &RecordRules, realm_key: &[u8; 32]) -> Option<SourceRules> {
        let for_all = |rule: &Rule| Rule { sources: Vec::new(), ..rule.clone() };
        let rules = RecordRules { version: rules.version, rules: rules.rules.iter().map(for_all).collect() };
        SourceRules::of(&rules, "", realm_key)
    }

    /// The hash of a JSON value, however it is written. Nothing stays nothing.
    fn hash_json(&self, json: &str) -> String {
        if json.trim() == "null" {
            return "null".to_owned();
        }
        let canonical = kith_json::canonical(json);
        format!("\"{}\"", self.key.hash(canonical.as_deref().unwrap_or(json).as_bytes()))
    }

    /// The identifier that one becomes under its rules of hashing: its type and the hash of its normal form, which equals that of
    /// a JSON text of the same characters. `None` for what names nobody.
    pub(crate) fn hashed_identifier(&self, identifier: &Identifier, identity: &IdentityRules) -> Option<Identifier> {
        let kind = kind_of(identifier);
        let normal = identity.judge(&Identifier::new(kind, identifier.value.as_str())).ok()?;
        let hashed = self.key.of_normal(&normal, identity);
        let kind = if hashed.kind == normal.kind { identifier.kind.clone() } else { hashed.kind };
        Some(Identifier { kind, value: hashed.value })
    }

    /// Whether identifiers of a type are hashed.
    pub(crate) fn hashes_identifiers(&self, kind: &str) -> bool {
        self.rules_of(Act::Hash, Target::Identifier).any(|rule| rule.name == kind)
    }

    fn rules_of(&self, act: Act, what: Target) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.act == act && rule.what == what)
    }

    /// What becomes of a thing of this name in an event of these names.
    fn fate(&self, what: Target, name: &str, events: &[&str]) -> Fate<'_> {
        let is_of = |rule: &&Rule| rule.event.as_deref().is_none_or(|event| events.contains(&event));
        let renamed = self.rules_of(Act::Rename, what).filter(is_of).find(|rule| rule.name == name);
        let new = renamed.and_then(|rule| rule.to.as_deref());
        let is_it = |rule: &&Rule| rule.name == name || Some(rule.name.as_str()) == new;
        let first = |act| self.rules_of(act, what).filter(is_of).find(is_it);
        Fate { dropped: first(Act::Drop), renamed, hashed: first(Act::Hash) }
    }

    fn touches(&self, what: Target) -> bool {
        self.rules.iter().any(|rule| rule.what == what)
    }
}

/// The type whose rules hold for an identifier: the old id of an alias is a user's.
fn kind_of(identifier: &Identifier) -> &str {
    if identifier.kind == PREVIOUS_ID { USER_ID } else { identifier.kind.as_str() }
}

/// The rules at work on one draft.
struct Application<'a, 'd> {
    rules: &'a SourceRules,
    ruled: &'a mut RuledDraft<'d>,
    /// Codes and rules that the flags name already.
    touched: BTreeSet<(&'static str, String)>,
}

impl Application<'_, '_> {
    fn note(&mut self, code: &'static str, rule: &Rule) {
        if self.touched.insert((code, rule.id.clone())) && self.ruled.flags.len() < MAX_RULE_FLAGS {
            self.ruled.flags.push(format!("{code}:{}@{}", rule.id, self.rules.version));
        }
    }

    fn apply(&mut self, identity: &IdentityRules) {
        let rules = self.rules;
        let came = self.ruled.came.name.clone();
        let fate = rules.fate(Target::Event, &came, &[]);
        let new = fate.renamed.and_then(|rule| rule.to.clone());
        if let Some(rule) = fate.dropped {
            self.ruled.is_dropped = true;
            self.note(flag::RULE_DROPPED, rule);
        }
        if let (Some(rule), Some(new)) = (fate.renamed, &new) {
            self.ruled.event.to_mut().name.clone_from(new);
            self.note(flag::RULE_RENAMED, rule);
        }
        let events: Vec<&str> = std::iter::once(came.as_str()).chain(new.as_deref()).collect();
        if rules.touches(Target::Property)
            && let Some(text) = self.object(Target::Property, &self.ruled.came.properties.clone(), &events)
        {
            self.ruled.event.to_mut().properties = text;
        }
        if rules.touches(Target::Trait) {
            if let Some(text) = self.object(Target::Trait, &self.ruled.came.traits.clone(), &events) {
                self.ruled.event.to_mut().traits = text;
            }
            if let Some(text) = self.context(&self.ruled.came.context.clone(), &events) {
                self.ruled.event.to_mut().context = text;
            }
        }
        if rules.touches(Target::Identifier) {
            self.identifiers(identity);
        }
    }

    /// The facts that clients send along in the context are facts.
    fn context(&mut self, text: &str, events: &[&str]) -> Option<String> {
        let Entries(entries) = serde_json::from_str(text).ok()?;
        let mut is_changed = false;
        let mut written = Vec::with_capacity(entries.len());
        for (name, value) in &entries {
            let inner = if name == "traits" { self.object(Target::Trait, value.get(), events) } else { None };
            is_changed |= inner.is_some();
            written.push((name.as_ref(), inner.map_or_else(|| Cow::Borrowed(value.get()), Cow::Owned)));
        }
        is_changed.then(|| object_of(&written))
    }

    /// The text of an object after the rules; `None` where they change nothing. What is no object is left to the checks.
    fn object(&mut self, what: Target, text: &str, events: &[&str]) -> Option<String> {
        let Entries(entries) = serde_json::from_str(text).ok()?;
        let rules = self.rules;
        let fates: Vec<Fate<'_>> = entries.iter().map(|(name, _)| rules.fate(what, name, events)).collect();
        if fates.iter().all(Fate::is_nothing) {
            return None;
        }
        let names = self.names(&entries, &fates);
        let mut written: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(entries.len());
        for ((fate, name), (_, value)) in fates.iter().zip(&names).zip(&entries) {
            if let Some(rule) = fate.dropped {
                self.ruled.hides = true;
                self.note(flag::RULE_DROPPED, rule);
                continue;
            }
            let value = match fate.hashed {
                Some(rule) => {
                    self.ruled.hides = true;
                    self.note(flag::RULE_HASHED, rule);
                    Cow::Owned(rules.hash_json(value.get()))
                }
                None => Cow::Borrowed(value.get()),
            };
            written.push((name, value));
        }
        Some(object_of(&written))
    }

    /// The names that the entries have afterwards. A rename that would take the name of something else in the record is not
    /// followed: nothing gets lost by it, and what it means would hang on the order of keys.
    fn names(&mut self, entries: &[(Cow<'_, str>, &RawValue)], fates: &[Fate<'_>]) -> Vec<String> {
        let mut names: Vec<String> = entries.iter().map(|(name, _)| name.to_string()).collect();
        let stay = names.iter().zip(fates).filter(|(_, fate)| fate.dropped.is_none());
        let mut taken: BTreeSet<String> = stay.map(|(name, _)| name.clone()).collect();
        // In the order of the rules, because that of the keys says nothing.
        let mut renames: Vec<(usize, &Rule)> = Vec::new();
        for (place, fate) in fates.iter().enumerate() {
            renames.extend(fate.renamed.filter(|_| fate.dropped.is_none()).map(|rule| (place, rule)));
        }
        let rules = self.rules;
        let order = |rule: &Rule| rules.rules.iter().position(|known| known.id == rule.id);
        renames.sort_by_key(|(_, rule)| order(rule));
        let mut followed: Option<&str> = None;
        for (place, rule) in renames {
            let Some(to) = rule.to.as_deref() else { continue };
            // The same key twice is renamed twice.
            let is_again = followed == Some(rule.id.as_str());
            if is_again || taken.insert(to.to_owned()) {
                names[place] = to.to_owned();
                followed = Some(&rule.id);
                self.note(flag::RULE_RENAMED, rule);
            } else {
                self.note(flag::RULE_NOT_RENAMED, rule);
            }
        }
        names
    }

    fn identifiers(&mut self, identity: &IdentityRules) {
        let mut left = Vec::with_capacity(self.ruled.came.identifiers.len());
        let rules = self.rules;
        for identifier in self.ruled.came.identifiers.clone() {
            let fate = rules.fate(Target::Identifier, kind_of(&identifier), &[]);
            self.ruled.hides |= fate.dropped.is_some() || fate.hashed.is_some();
            match (fate.dropped, fate.hashed) {
                (Some(rule), _) => {
                    self.note(flag::RULE_DROPPED, rule);
                    self.ruled.dropped.extend(rules.hashed_identifier(&identifier, identity));
                }
                (None, Some(rule)) => {
                    self.note(flag::RULE_HASHED, rule);
                    let hashed = rules.hashed_identifier(&identifier, identity);
                    self.ruled.hashed.extend(hashed.clone().map(|hashed| (identifier, hashed)));
                    left.extend(hashed);
                }
                (None, None) => left.push(identifier),
            }
        }
        if left != self.ruled.came.identifiers {
            self.ruled.event.to_mut().identifiers = left;
        }
    }
}

/// An object of these entries.
fn object_of(entries: &[(&str, Cow<'_, str>)]) -> String {
    let mut text = String::from("{");
    for (place, (name, value)) in entries.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&serde_json::Value::from(*name).to_string());
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests;
