//! Finding people by what is known of them, and rows of chosen columns about them.
//!
//! A search walks over everybody in the order of rows and ends after a while: it then says where to go on, with as many as it
//! has found so far.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_features::{Ask, FeatureName};
use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::time::Timestamp;

use super::{QueryError, catalog, page, profile, workspace};
use crate::Kernel;
use crate::deliver::gate::standing::{Standing, standings as standings_of};
use crate::profiles::person::{self, Person};
use crate::profiles::scan::ProfilePages;
use crate::shared::Workspace;
use crate::views::PageRequest;

/// How long one page of a search looks.
const PATIENCE: Duration = Duration::from_secs(2);

/// About the most bytes of cells in one page; one person may have more.
const PAGE_BYTES: usize = 1 << 20;

/// Whom to find: those who meet all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileSearch {
    /// A whole identifier.
    pub identifier: Option<Identifier>,
    /// The beginning of one, without regard to case.
    pub prefix: Option<Identifier>,
    /// Names of traits with their values as texts.
    pub traits: Vec<(String, String)>,
}

/// A column of a list of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    Id,
    CreatedAt,
    /// All identifiers, or those of one type.
    Identifiers(Option<String>),
    Trait(String),
    Tag(String),
    Score(String),
    /// How the person stands to a purpose, or to one through a channel: `news`, `news@email`.
    Consent(String),
}

/// One person of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileRow {
    pub id: ProfileId,
    /// One for each column, in their order: JSON as it is stored, because a sender may write more digits than a machine's number holds.
    pub cells: Vec<String>,
}

impl ProfileRow {
    /// The bytes of its cells.
    pub fn len_bytes(&self) -> usize {
        self.cells.iter().map(String::len).sum()
    }
}

/// Rows, and the cursor of those that may follow.
pub type ProfileRows = (Vec<ProfileRow>, Option<String>);

impl Kernel {
    /// A page of people, at most `limit` of them. It may hold fewer, even nobody, and others follow all the same. Blocks.
    pub fn search(
        &self,
        id: WorkspaceId,
        search: &ProfileSearch,
        columns: &[Column],
        PageRequest { limit, cursor }: PageRequest<'_>,
    ) -> Result<ProfileRows, QueryError> {
        let of = workspace(&self.shared, id)?;
        if let Some(identifier) = &search.identifier {
            let found = profile::find(&self.shared, id, identifier)?;
            let found = found.map(|found| profile::computed(&self.shared, id, found)).transpose()?.flatten();
            let people = found.map(|found| person::read_profile(self.shared.store.as_ref(), id, found)).transpose()?;
            let people = people.filter(|people| !people.is_empty() && matches(search, people));
            let rows = people.iter().map(|people| self.row(&of, people, columns));
            return Ok((rows.collect::<Result<_, _>>()?, None));
        }
        let mut pages = match cursor {
            None => ProfilePages::new(Arc::clone(&self.shared.store), id),
            Some(text) => {
                let after = page::from_hex(text).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                let after = after.ok_or_else(|| page::unknown(text))?;
                ProfilePages::after(Arc::clone(&self.shared.store), id, SourceIdentityId(after))
            }
        };
        // One more, because an identity in front may name no profile.
        pages = pages.beginning_with(limit + 1);
        let (began, mut rows, mut last, mut bytes) = (Instant::now(), Vec::new(), None, 0);
        while let Some(profiles) = pages.next_page()? {
            for people in profiles {
                let Some(root) = people.first() else { continue };
                last = Some(page::to_hex(&root.id.0));
                if matches(search, &people) {
                    let row = self.row(&of, &people, columns)?;
                    bytes += row.len_bytes();
                    rows.push(row);
                }
                if rows.len() >= limit || bytes >= PAGE_BYTES || began.elapsed() > PATIENCE {
                    return Ok((rows, last));
                }
            }
            if began.elapsed() > PATIENCE && last.is_some() {
                return Ok((rows, last));
            }
        }
        Ok((rows, None))
    }

    /// Rows about these people, in their order; nobody for those who are no more. Blocks.
    pub fn rows_of(
        &self,
        id: WorkspaceId,
        profiles: &[ProfileId],
        columns: &[Column],
    ) -> Result<Vec<ProfileRow>, QueryError> {
        let of = workspace(&self.shared, id)?;
        let mut rows = Vec::with_capacity(profiles.len());
        for profile in profiles {
            let people = person::read_profile(self.shared.store.as_ref(), id, *profile)?;
            if !people.is_empty() {
                rows.push(self.row(&of, &people, columns)?);
            }
        }
        Ok(rows)
    }

    /// What may be a mistake in a search and its columns, in words; the names and values that are asked for may still come.
    pub fn search_doubts(
        &self,
        id: WorkspaceId,
        search: &ProfileSearch,
        columns: &[Column],
    ) -> Result<Vec<String>, QueryError> {
        let mut asks = Vec::new();
        for (name, text) in &search.traits {
            let feature = FeatureName::Trait(name.as_str().into());
            asks.push(Ask::Feature(feature.clone()));
            // These are asked for as numbers and truth values, too.
            if serde_json::from_str::<serde_json::Value>(text).is_err() {
                asks.push(Ask::FeatureIs(feature, text.as_str().into()));
            }
        }
        let named = search.identifier.iter().chain(&search.prefix);
        asks.extend(named.map(|identifier| Ask::Identifiers(identifier.kind.as_str().into())));
        asks.extend(columns.iter().filter_map(|column| match column {
            Column::Id | Column::CreatedAt | Column::Identifiers(None) | Column::Consent(_) => None,
            Column::Identifiers(Some(kind)) => Some(Ask::Identifiers(kind.as_str().into())),
            Column::Trait(name) => Some(Ask::Feature(FeatureName::Trait(name.as_str().into()))),
            Column::Tag(name) => Some(Ask::Feature(FeatureName::Tag(name.as_str().into()))),
            Column::Score(name) => Some(Ask::Feature(FeatureName::Score(name.as_str().into()))),
        }));
        let mut doubts = Vec::new();
        let workspace = workspace(&self.shared, id)?;
        for doubt in catalog::doubts_about(&workspace, &asks, true) {
            if !doubts.contains(&doubt) {
                doubts.push(doubt);
            }
        }
        Ok(doubts)
    }

    fn row(&self, of: &Workspace, people: &[Person], columns: &[Column]) -> Result<ProfileRow, QueryError> {
        let purposes: Vec<&str> = columns
            .iter()
            .filter_map(|column| match column {
                Column::Consent(purpose) => Some(purpose.as_str()),
                _ => None,
            })
            .collect();
        let mut standings = Vec::new();
        if !purposes.is_empty() {
            let setup = Arc::clone(&of.compiled.load().setup);
            let asked = (ProfileId(people[0].id), purposes.as_slice());
            standings = standings_of(self.shared.store.as_ref(), of.id, &setup, asked)?;
        }
        Ok(row(of, people, columns, &standings))
    }
}

/// The newest value of a trait over all members, as JSON text.
fn trait_of<'a>(people: &'a [Person], name: &str) -> Option<&'a str> {
    let held = people.iter().filter_map(|person| Some((person.contribution.traits.get(name)?, person.id)));
    let newest = held.max_by(|(one, at), (other, beside)| (one.rank(name), at).cmp(&(other.rank(name), beside)));
    newest.map(|(value, _)| value.json.as_str())
}

fn matches(search: &ProfileSearch, people: &[Person]) -> bool {
    let is_prefix = |wanted: &Identifier| {
        let beginning = wanted.value.trim().to_lowercase();
        people.iter().any(|person| {
            person.identifier.kind == wanted.kind && person.identifier.value.to_lowercase().starts_with(&beginning)
        })
    };
    let has_trait = |(name, wanted): &(String, String)| is_value(trait_of(people, name).unwrap_or("null"), wanted);
    search.prefix.as_ref().is_none_or(is_prefix) && search.traits.iter().all(has_trait)
}

/// Whether a value is what a text asks for: what `==` of a condition says beside the text, or beside the number, `true`, `false`
/// or `null` that the text is written as. Of numbers each digit counts, also those that no machine's number holds: ids are
/// looked for by them.
fn is_value(json: &str, wanted: &str) -> bool {
    let text = json.starts_with('"').then(|| serde_json::from_str::<String>(json).ok()).flatten();
    if text.as_deref() == Some(wanted) {
        return true;
    }
    let held = text.as_deref().unwrap_or(json);
    match (number(held), number(wanted)) {
        (Some(held), Some(wanted)) => held == wanted,
        _ => text.is_none() && json == wanted && serde_json::from_str::<&serde_json::value::RawValue>(json).is_ok(),
    }
}

/// A number, written exactly as JSON writes one, in the one way for all that say the same.
fn number(text: &str) -> Option<String> {
    let is_number = text.starts_with(|letter: char| letter == '-' || letter.is_ascii_digit());
    let is_bare = is_number && text.ends_with(|letter: char| letter.is_ascii_digit());
    let is_json = || serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
    (is_bare && is_json()).then(|| kith_json::canonical(text)).flatten()
}

/// `standings` are those to the purposes among the columns, in their order.
fn row(workspace: &Workspace, people: &[Person], columns: &[Column], standings: &[Standing]) -> ProfileRow {
    let mut standings = standings.iter();
    let id = ProfileId(people[0].id);
    let needs_outputs = columns.iter().any(|column| matches!(column, Column::Tag(_) | Column::Score(_)));
    let derived = people[0].derived.as_ref().filter(|_| needs_outputs);
    let (tags, scores) = derived.map(|derived| profile::outputs(workspace, derived)).unwrap_or_default();
    let text = |text: String| serde_json::Value::from(text).to_string();
    let null = || "null".to_owned();
    let cells = columns.iter().map(|column| match column {
        Column::Id => text(id.to_string()),
        Column::CreatedAt => {
            let created_at: Option<Timestamp> = people.iter().map(|person| person.created_at).min();
            created_at.map_or_else(null, |at| text(at.to_string()))
        }
        Column::Identifiers(kind) => {
            let wanted =
                people.iter().filter(|person| kind.as_ref().is_none_or(|kind| person.identifier.kind == *kind));
            // Of an address in several spellings the normal one alone: a list with both would be sent to twice.
            let has_others = wanted.clone().any(|person| !person.is_in_background);
            let wanted =
                wanted.filter(|person| !has_others || !person.is_in_background).map(|person| &person.identifier);
            let shown = |identifier: &Identifier| match kind {
                Some(_) => identifier.value.clone(),
                None => identifier.to_string(),
            };
            wanted.map(shown).collect::<serde_json::Value>().to_string()
        }
        Column::Trait(name) => trait_of(people, name).map_or_else(null, str::to_owned),
        Column::Tag(name) => tags.get(name).map_or_else(null, |tag| tag.json.clone()),
        Column::Score(name) => {
            scores.get(name).map_or_else(null, |score| serde_json::Value::from(score.value).to_string())
        }
        Column::Consent(_) => match standings.next() {
            Some(Standing::Agreed) => text("agreed".to_owned()),
            Some(Standing::Refused) => text("refused".to_owned()),
            Some(Standing::Suppressed) => text("suppressed".to_owned()),
            Some(Standing::Unsaid) | None => null(),
        },
    });
    ProfileRow { id, cells: cells.collect() }
}

#[cfg(test)]
mod tests {
    use kith_features::{Expression, Value};

    use super::*;

    /// Somebody whose trait, whatever its name, has this value.
    struct Facts(Value);

    impl kith_features::Facts for Facts {
        fn trait_value(&self, _name: &str) -> Value {
            self.0.clone()
        }

        fn tag_value(&self, _name: &str) -> Value {
            Value::Null
        }

        fn score_value(&self, _name: &str) -> Value {
            Value::Null
        }

        fn created_at(&self) -> Option<Timestamp> {
            None
        }

        fn identifiers(&self, _kind: &str) -> Value {
            Value::Null
        }
    }

    #[test]
    fn a_text_asks_for_itself_and_for_numbers_of_the_same_value() {
        for (json, wanted, is) in [
            (r#""Paris""#, "Paris", true),
            (r#""P\u0061ris""#, "Paris", true),
            (r#""Paris""#, "paris", false),
            ("5", "5", true),
            (r#""5""#, "5", true),
            ("true", "true", true),
            ("null", "null", true),
            ("5.0", "5", true),
            ("5e0", "5", true),
            (r#""5.0""#, "5", true),
            (r#""05""#, "5", false),
            (r#""05""#, "05", true),
            ("5", "05", false),
            ("5", " 5", false),
            (r#""true""#, "true", true),
            ("true", "True", false),
            (r#""null""#, "null", true),
            ("null", "", false),
            (r#""""#, "", true),
            (r#"["5"]"#, "5", false),
            ("123456789012345678901", "123456789012345678901", true),
            ("123456789012345678901", "123456789012345678902", false),
            ("0.1234567890123456789", "0.1234567890123456789", true),
            ("1.10", "1.1", true),
            ("0.10000000000000000001", "0.1", false),
            ("{", "{", false),
        ] {
            assert_eq!(is_value(json, wanted), is, "{json} and {wanted}");
        }
    }

    /// A search by a trait and the condition `traits.x == …` find the same people, whatever the trait and the text are.
    #[test]
    fn a_search_finds_whom_the_condition_finds() {
        let written = [
            "5", "5.0", "5e0", "-0", "0", "0.50", ".5", "05", "+5", " 5", "1e2", "100", "true", "True", "null", "Rome",
            "rome", "",
        ];
        let texts = written.iter().map(|text| serde_json::Value::from(*text).to_string());
        let bare = written.iter().filter(|text| serde_json::from_str::<serde_json::Value>(text).is_ok());
        let held: Vec<String> = texts.chain(bare.map(|text| text.trim().to_owned())).collect();
        for (json, wanted) in held.iter().flat_map(|json| written.iter().map(move |wanted| (json, *wanted))) {
            let is_literal = wanted.trim() == wanted && serde_json::from_str::<serde_json::Value>(wanted).is_ok();
            let quoted = format!("traits.x == '{wanted}'");
            let conditions = [Some(quoted), is_literal.then(|| format!("traits.x == {wanted}"))];
            let meets = conditions.into_iter().flatten().any(|text| {
                let condition = Expression::parse(&text).unwrap();
                let facts = Facts(Value::from_json_text(json));
                condition.evaluate(&facts, &|_| Value::Null, Timestamp(0)).is_true()
            });
            assert_eq!(is_value(json, wanted), meets, "{json} and {wanted}");
        }
    }
}
