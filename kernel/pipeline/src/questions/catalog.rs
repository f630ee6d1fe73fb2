//! Which names there are, and what a condition asks for that there is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_features::{Ask, Comparand, Expression, FeatureName};
use kith_model::consent::is_consent;
use kith_model::dictionary::{self, Dictionary};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::identity::{ANONYMOUS_ID, IdentityRules, USER_ID};

use super::{QueryError, workspace};
use crate::plan::Plan;
use crate::react::projection::Projection;
use crate::react::seen::{self, Kind, Kinds, NameUsage, SeenRow, Subject};
use crate::shared::{KernelState, Workspace};
use crate::views::{Catalog, CatalogEntry, NameKind};

/// Values of a trait, tag or score that a catalogue lists; with more it says that there are many.
const MAX_VALUES: usize = 50;

/// A name that came of fewer people may name one, and is told to those alone who may read people.
const CROWD: u64 = seen::CROWD as u64;

/// All names of a workspace, or what of events, properties and traits came from one source, in the order of their kinds and names.
pub(crate) fn catalog(
    shared: &KernelState,
    id: WorkspaceId,
    source: Option<&BTreeSet<InstallationId>>,
) -> Result<Catalog, QueryError> {
    let workspace = workspace(shared, id)?;
    let compiled = workspace.compiled.load_full();
    let projection = workspace.projection.read();
    let mut entries = Vec::new();
    let mut others = 0;
    let seen = together(&projection, source);
    let mut traits: BTreeMap<&str, Option<&NameUsage>> = BTreeMap::new();
    for (subject, row) in &seen {
        match subject {
            Subject::Others => others = row.seen.count,
            Subject::Traits => traits.extend(row.names.iter().map(|(name, seen)| (name.as_str(), Some(seen)))),
            // What tells facts alone has no name.
            Subject::Event(event) if event.is_empty() => {}
            Subject::Event(event) => {
                entries.push(CatalogEntry::seen(NameKind::Event, event, None, &row.seen));
                let properties = row.names.iter();
                entries.extend(
                    properties.map(|(name, seen)| CatalogEntry::seen(NameKind::Property, name, Some(event), seen)),
                );
            }
        }
    }
    let held = projection.index.features().filter(|feature| projection.index.holders(feature) > Some(0));
    for feature in held.filter(|_| source.is_none()) {
        if let FeatureName::Trait(name) = feature {
            traits.entry(name).or_default();
        }
    }
    for (name, seen) in traits {
        let feature = FeatureName::Trait(name.into());
        entries.push(of_people(&projection, NameKind::Trait, name, &feature, seen));
    }
    for feature in compiled.plan.outputs.keys().filter(|_| source.is_none()) {
        match feature {
            FeatureName::Tag(name) => entries.push(of_people(&projection, NameKind::Tag, name, feature, None)),
            FeatureName::Score(name) => entries.push(of_people(&projection, NameKind::Score, name, feature, None)),
            _ => {}
        }
    }
    entries.sort_by(|one, other| one.place().cmp(&other.place()));
    Ok(Catalog { entries, others, as_of: projection.as_of.position })
}

/// What was seen of each subject, of all sources together or of some.
fn together(projection: &Projection, sources: Option<&BTreeSet<InstallationId>>) -> BTreeMap<Subject, SeenRow> {
    let mut seen: BTreeMap<Subject, SeenRow> = BTreeMap::new();
    for ((subject, source, _), row) in &projection.seen.rows {
        if sources.is_none_or(|sources| sources.contains(source)) {
            match seen.get_mut(subject) {
                Some(whole) => whole.add(row),
                None => drop(seen.insert(subject.clone(), SeenRow::clone(row))),
            }
        }
    }
    seen
}

/// A name that people have a value of.
fn of_people(
    projection: &Projection,
    kind: NameKind,
    name: &str,
    feature: &FeatureName,
    seen: Option<&NameUsage>,
) -> CatalogEntry {
    let people = projection.index.holders(feature);
    let values = projection.index.values(feature, MAX_VALUES);
    let has_many_values = values.is_none() && people > Some(0);
    let values = values.unwrap_or_default().into_iter().map(|(value, people)| (value.to_json().to_string(), people));
    let seen = seen.cloned();
    CatalogEntry { kind, name: name.into(), event: None, seen, people, values: values.collect(), has_many_values }
}

/// What may be a mistake in a condition, in words for people. Of values, and of names that may be somebody's own, it speaks only
/// to those who may read people.
pub(crate) fn doubts(
    shared: &KernelState,
    id: WorkspaceId,
    condition: &str,
    reads_people: bool,
) -> Result<Vec<String>, QueryError> {
    let workspace = workspace(shared, id)?;
    let expression = Expression::parse_in(condition, workspace.compiled.load().setup.zone.name())?;
    // Of a condition that was defined before it would be refused.
    let mistake = expression.check_condition().err().map(|mistake| mistake.message);
    Ok(mistake.into_iter().chain(doubts_about(&workspace, &expression.asks(), reads_people)).collect())
}

/// What may be a mistake in what is asked for.
pub(crate) fn doubts_about(workspace: &Workspace, asks: &[Ask], reads_people: bool) -> Vec<String> {
    let compiled = workspace.compiled.load_full();
    let projection = workspace.projection.read();
    let known = KnownNames {
        projection: &projection,
        plan: &compiled.plan,
        dictionary: &compiled.setup.dictionary,
        rules: &compiled.setup.identity_rules,
        reads_people,
    };
    // Before anything came every name is one that nothing wrote; those of plugins and of rules are there all the same.
    let is_empty = projection.index.population().is_empty() && projection.seen.rows.is_empty();
    let is_there = |ask: &&Ask| {
        !is_empty || matches!(ask, Ask::Feature(FeatureName::Tag(_) | FeatureName::Score(_)) | Ask::Identifiers(_))
    };
    asks.iter().filter(is_there).filter_map(|ask| known.doubt(ask)).collect()
}

/// Why no message can ever be kept from anybody by an identifier of this type, if so: nobody has one, and nothing speaks of it.
pub(crate) fn unknown_type(workspace: &Workspace, kind: &str) -> Option<String> {
    let compiled = workspace.compiled.load_full();
    let projection = workspace.projection.read();
    let setup = &compiled.setup;
    let known = KnownNames {
        projection: &projection,
        plan: &compiled.plan,
        dictionary: &setup.dictionary,
        rules: &setup.identity_rules,
        reads_people: false,
    };
    let mut recipients = setup.installations.iter().filter_map(|installed| installed.recipients.as_ref()).flatten();
    let is_held = projection.index.holders(&FeatureName::Identifiers(kind.into())) != Some(0);
    if is_held || known.ruled_types().any(|known| known == kind) || recipients.any(|recipient| recipient == kind) {
        return None;
    }
    let meant = known.meant(kind, known.ruled_types().map(|known| (known, u64::MAX)));
    Some(format!(
        "nobody has an identifier of the type `{kind}`, and neither an identity rule nor a channel speaks of one{meant}"
    ))
}

/// What there is.
struct KnownNames<'a> {
    projection: &'a Projection,
    plan: &'a Plan,
    dictionary: &'a Dictionary,
    rules: &'a IdentityRules,
    reads_people: bool,
}

impl KnownNames<'_> {
    fn doubt(&self, ask: &Ask) -> Option<String> {
        match ask {
            Ask::Feature(FeatureName::Trait(name)) if is_consent(name) => Some(STATEMENT.to_owned()),
            Ask::Feature(FeatureName::Trait(name)) => self.unwritten_trait(name),
            Ask::Feature(FeatureName::Tag(name)) => self.unmade("tag", name, &FeatureName::Tag(name.clone())),
            Ask::Feature(FeatureName::Score(name)) => self.unmade("score", name, &FeatureName::Score(name.clone())),
            Ask::FeatureIs(feature, text) if self.reads_people => self.unheld_value(feature, text),
            Ask::Event(event) => self.unsent_event(event),
            Ask::Property { event, property } => self.unsent_property(event, property),
            Ask::PropertyIs { event, property, text } if self.reads_people => self.unsent_value(event, property, text),
            Ask::OwnField { event, field } => self.hidden_property(event, field),
            Ask::Summed { event, property } if self.reads_people => self.amounts_in_texts(event, property),
            Ask::Ordered(feature, compared) if self.reads_people => self.incomparable(feature, *compared),
            Ask::Field { of, field, meant } if self.reads_people => self.fieldless_trait(of, field, meant.as_deref()),
            Ask::PropertyField { event, property, field, meant } if self.reads_people => {
                let kinds = self.property(event, property)?.kinds;
                fieldless(&format!("`{property}` of `{event}`"), kinds, field, meant.as_deref())
            }
            Ask::Truth(feature) if self.reads_people => self.truth_in_texts(feature),
            Ask::Identifiers(kind) => self.unruled_type(kind),
            Ask::OddDate(text) => Some(odd_date(text)),
            _ => None,
        }
    }

    fn unwritten_trait(&self, name: &Arc<str>) -> Option<String> {
        let index = &self.projection.index;
        // Of a trait whose values the index does not hold nothing is said.
        if index.holders(&FeatureName::Trait(name.clone()))? >= self.telling() {
            return None;
        }
        let held = index.features().filter_map(|feature| match feature {
            FeatureName::Trait(held) => Some((held.as_ref(), index.holders(feature).unwrap_or_default())),
            _ => None,
        });
        let meant = self.meant(name, held);
        let declared = self.declared(&dictionary::Subject::Trait { name: name.to_string() });
        let is_type = self.ruled_types().any(|kind| kind == name.as_ref());
        let identifier = if is_type {
            format!("; an identifier is asked for with `'…' in profile.identifiers.{name}`")
        } else {
            String::new()
        };
        let whoever = self.nobody();
        Some(format!("{whoever} has the trait `{name}` so far{identifier}{declared}{meant}"))
    }

    /// A field of a trait that never was an object.
    fn fieldless_trait(&self, of: &FeatureName, field: &str, meant: Option<&str>) -> Option<String> {
        let FeatureName::Trait(name) = of else { return None };
        let seen = self.projection.seen.together(&Subject::Traits)?;
        fieldless(&format!("`{of}`"), seen.names.get(name.as_ref())?.kinds, field, meant)
    }

    fn unmade(&self, kind: &str, name: &str, feature: &FeatureName) -> Option<String> {
        if self.plan.outputs.contains_key(feature) {
            return None;
        }
        let made = self.plan.outputs.keys().filter_map(|made| match (made, feature) {
            (FeatureName::Tag(made), FeatureName::Tag(_)) | (FeatureName::Score(made), FeatureName::Score(_)) => {
                Some((made.as_ref(), u64::MAX))
            }
            _ => None,
        });
        let meant = self.meant(name, made);
        Some(format!("no installed plugin writes the {kind} `{name}`, so nobody has it until one does{meant}"))
    }

    fn unheld_value(&self, feature: &FeatureName, text: &str) -> Option<String> {
        let index = &self.projection.index;
        if index.holders(feature)? == 0 {
            return None;
        }
        let values = index.values(feature, usize::MAX)?;
        let texts: Vec<(&str, u64)> = values
            .iter()
            .filter_map(|(value, people)| match value {
                kith_features::Value::Text(text) => Some((text.as_ref(), *people)),
                _ => None,
            })
            .collect();
        // Of lists, objects and numbers the index does not list what there is.
        let listed: u64 = values.iter().map(|(_, people)| people).sum();
        if listed < index.holders(feature)? || texts.iter().any(|(held, _)| *held == text) {
            return None;
        }
        let meant = self.meant(text, texts.into_iter());
        Some(format!("nobody's `{feature}` is '{text}' so far{meant}"))
    }

    fn incomparable(&self, feature: &FeatureName, compared: Comparand) -> Option<String> {
        let index = &self.projection.index;
        let texts = index.incomparable(feature, compared).unwrap_or_default();
        // A count since 1970 is a number like any other.
        let numbers = if compared == Comparand::Time { index.numeric(feature).unwrap_or_default() } else { 0 };
        let told: Vec<String> = [
            (texts > 0).then(|| incomparable_texts(feature, compared, texts)),
            (numbers > 0).then(|| {
                format!(
                    "{} `{feature}` is a number, and no number is a time, whether or not it counts seconds since 1970: it is neither \
                     before nor after one and has no year, month or day; send it as `2026-11-21T10:00:00Z`, or import it with \
                     `\"type\": \"time\"`",
                    whose(numbers)
                )
            }),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    fn truth_in_texts(&self, feature: &FeatureName) -> Option<String> {
        const TRUTHS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "y", "n", "t", "f"];
        let values = self.projection.index.values(feature, usize::MAX)?;
        let of_texts = values.iter().filter_map(|(value, people)| match value {
            kith_features::Value::Text(text) if TRUTHS.contains(&text.trim().to_lowercase().as_str()) => {
                Some((text, *people))
            }
            _ => None,
        });
        let (text, people) =
            of_texts.fold((None, 0), |(first, sum), (text, people)| (first.or(Some(text)), sum + people));
        let whose = if people == 1 { "one person's".to_owned() } else { format!("{people} people's") };
        text.map(|text| {
            format!(
                "{whose} `{feature}` is text such as '{text}', which is neither true nor false; compare it with the text, \
                 `{feature} == '{text}'`, and import it with `\"type\": \"boolean\"`"
            )
        })
    }

    /// An identifier may have any type; one that is nearly that of a rule is a slip.
    fn unruled_type(&self, kind: &str) -> Option<String> {
        let known: Vec<&str> = self.ruled_types().collect();
        if known.contains(&kind) {
            return None;
        }
        let meant = self.meant(kind, known.into_iter().map(|known| (known, u64::MAX)));
        (!meant.is_empty()).then(|| format!("no identity rule has identifiers of the type `{kind}`{meant}"))
    }

    /// The types of identifiers that rules speak of, and those that are always there.
    fn ruled_types(&self) -> impl Iterator<Item = &str> {
        let ruled = self.rules.limits.keys().chain(&self.rules.priority).chain(self.rules.types.keys());
        ruled.map(String::as_str).chain([USER_ID, ANONYMOUS_ID])
    }

    fn unsent_event(&self, event: &str) -> Option<String> {
        let is_known = self.seen(event).is_some_and(|seen| seen.people() >= self.telling());
        if is_known || self.is_incomplete() || is_told_by_kernel(event) {
            return None;
        }
        let sent = self.projection.seen.rows.iter().filter_map(|((subject, ..), row)| match subject {
            Subject::Event(sent) => Some((sent.as_str(), row.seen.people())),
            _ => None,
        });
        let meant = self.meant(event, sent);
        let declared = self.declared(&dictionary::Subject::Event { name: event.to_owned() });
        let of = self.of_many();
        Some(format!("no event `{event}` came so far{of}{declared}{meant}"))
    }

    fn unsent_property(&self, event: &str, property: &str) -> Option<String> {
        if self.is_incomplete() {
            return None;
        }
        let rows = &self.projection.seen.rows;
        if event.is_empty() {
            let mut of_events = rows.iter().filter(|((subject, ..), _)| matches!(subject, Subject::Event(_)));
            let came =
                of_events.any(|(_, row)| row.names.get(property).is_some_and(|seen| seen.people() >= self.telling()));
            let of = self.of_many();
            return (!came).then(|| format!("no event came with the property `{property}` so far{of}"));
        }
        let row = self.projection.seen.together(&Subject::Event(event.to_owned()))?;
        if row.names.get(property).is_some_and(|seen| seen.people() >= self.telling()) {
            return None;
        }
        let meant = self.meant(property, row.names.iter().map(|(name, seen)| (name.as_str(), seen.people())));
        let subject = dictionary::Subject::Property { event: event.to_owned(), name: property.to_owned() };
        let declared = self.declared(&subject);
        let of = self.of_many();
        Some(format!("no event `{event}` came with the property `{property}` so far{of}{declared}{meant}"))
    }

    fn unsent_value(&self, event: &str, property: &str, text: &str) -> Option<String> {
        let seen = self.property(event, property)?;
        if seen.has_many_values || seen.kinds.lists + seen.kinds.objects > 0 {
            return None;
        }
        let decoded: Vec<(String, u64)> = seen
            .values
            .iter()
            .map(|(json, count)| match serde_json::from_str::<String>(json) {
                Ok(text) => (text, *count),
                Err(_) => (json.clone(), *count),
            })
            .collect();
        if decoded.iter().any(|(value, _)| value == text) {
            return None;
        }
        let meant = self.meant(text, decoded.iter().map(|(value, count)| (value.as_str(), *count)));
        Some(format!("no event `{event}` came with the `{property}` '{text}' so far{meant}"))
    }

    fn hidden_property(&self, event: &str, field: &str) -> Option<String> {
        self.property(event, field).filter(|seen| self.reads_people || seen.people() >= CROWD)?;
        Some(format!(
            "`e.{field}` is the event's own {field}; the property `{field}` of `{event}` is `e.properties.{field}`"
        ))
    }

    fn amounts_in_texts(&self, event: &str, property: &str) -> Option<String> {
        let kinds = self.property(event, property)?.kinds;
        match (kinds.number_texts, kinds.texts) {
            (0, 0) => None,
            (numbers, 0) => Some(format!(
                "`{property}` of `{event}` came as text in {numbers} events; these texts are written as numbers and count"
            )),
            (_, texts) => Some(format!(
                "`{property}` of `{event}` came as text that is no number in {texts} events; sums, means and the greatest leave it out"
            )),
        }
    }

    /// What the dictionary says of a name that never came.
    fn declared(&self, subject: &dictionary::Subject) -> String {
        match self.dictionary.get(subject).map(|described| described.entry.owner.as_str()) {
            None => String::new(),
            Some("") => "; the dictionary has it".to_owned(),
            Some(owner) => format!("; the dictionary has it, and {owner} answers for it"),
        }
    }

    /// Of how many people a name has to be that may be told of: whether a name is there tells who has it, where few do.
    fn telling(&self) -> u64 {
        if self.reads_people { 1 } else { CROWD }
    }

    fn nobody(&self) -> String {
        if self.reads_people { "nobody".to_owned() } else { format!("nobody, or fewer than {CROWD} people,") }
    }

    fn of_many(&self) -> String {
        if self.reads_people { String::new() } else { format!(", or of fewer than {CROWD} people only") }
    }

    fn seen(&self, event: &str) -> Option<NameUsage> {
        self.projection.seen.event(event)
    }

    fn property(&self, event: &str, property: &str) -> Option<NameUsage> {
        self.projection.seen.property(event, property)
    }

    /// Whether names came that are not kept, so that of none it can be said that it did not come.
    fn is_incomplete(&self) -> bool {
        let seen = &self.projection.seen;
        seen.rows.is_empty() || seen.of(&Subject::Others).next().is_some()
    }

    /// The question whether another name was meant.
    fn meant<'n>(&self, name: &str, names: impl Iterator<Item = (&'n str, u64)>) -> String {
        let told = names.filter(|(other, count)| *other != name && *count >= self.telling());
        let near = told.filter_map(|(other, _)| Some((distance(name, other)?, other)));
        near.min().map_or_else(String::new, |(_, other)| format!("; did you mean `{other}`?"))
    }
}

/// What is said of a condition on the trait `consent`.
const STATEMENT: &str = "`traits.consent` is what was said last, and not what holds: a refusal under another key or identifier, \
                         its end and the list of suppressed ones are not in it. Who may be written to is decided for each message by the \
                         `purpose` of the audience; whether a purpose is agreed to is the column `consent.PURPOSE` of searches and exports";

/// Whose values these are.
fn whose(people: u64) -> String {
    if people == 1 { "one person's".to_owned() } else { format!("{people} people's") }
}

/// What is said of texts that are compared as what they are not.
fn incomparable_texts(feature: &FeatureName, compared: Comparand, people: u64) -> String {
    let whose = whose(people);
    match compared {
        Comparand::Number => format!(
            "{whose} `{feature}` is text that is no number, which is neither less nor more than one; texts with spaces or zeros \
             around their number are `double({feature})`"
        ),
        Comparand::Time => format!(
            "{whose} `{feature}` is text that names no time: it is neither before nor after one, compares with a text letter by \
             letter, and has no year, month or day; a date is `2026-11-21`, a time `2026-11-21T10:00:00Z`, and files are imported \
             so with `\"type\": \"date\"` or `\"time\"`"
        ),
    }
}

/// What is said of a field of what never was an object.
fn fieldless(named: &str, kinds: Kinds, field: &str, meant: Option<&str>) -> Option<String> {
    let is_known = kinds.each().iter().any(|(kind, count)| *kind != Kind::Null && *count > 0);
    let meant = meant.map_or_else(String::new, |meant| format!("; {meant}"));
    (is_known && kinds.objects == 0)
        .then(|| format!("{named} never came as an object, so that it has no field `{field}`{meant}"))
}

/// What a date is told that is written in a way that is none here.
fn odd_date(text: &str) -> String {
    format!("'{text}' is no date here and compares letter by letter; write year, month and day, e.g. '2026-09-01'")
}

/// Whether events of a name are those in which the kernel tells of its own work.
fn is_told_by_kernel(event: &str) -> bool {
    event.starts_with("Message ")
}

/// How many letters differ between two names, if these are few beside their length; case and what stands between words count
/// little. Two letters that changed places are one slip.
fn distance(one: &str, other: &str) -> Option<usize> {
    let plain = |name: &str| -> String {
        name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).take(65).collect()
    };
    let (one, other) = (plain(one), plain(other));
    let longest = one.chars().count().max(other.chars().count());
    // Long texts are no names, and each pair costs the product of the lengths.
    if longest > 64 || longest == 0 {
        return None;
    }
    let differ = strsim::osa_distance(&one, &other);
    (differ <= (longest / 4).max(1)).then_some(differ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_near_where_few_letters_differ() {
        for (one, other, near) in [
            ("Order Complted", "Order Completed", Some(1)),
            ("order_completed", "Order Completed", Some(0)),
            ("cty", "city", Some(1)),
            ("emial", "email", Some(1)),
            ("ctiy", "city", Some(1)),
            ("nalp", "plan", None),
            ("plan", "plans", Some(1)),
            ("plan", "city", None),
            ("ab", "cd", None),
            ("", "a", Some(1)),
            ("", "", None),
            ("Größe", "größe", Some(0)),
        ] {
            assert_eq!(distance(one, other), near, "{one} {other}");
        }
        assert_eq!(distance(&"x".repeat(100), "x"), None);
    }
}
