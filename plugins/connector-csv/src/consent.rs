//! What a row says of consent: a column that says yes or no for each purpose, or the opposite.
//!
//! An agreement is what is surely one. Who has not opted out has agreed to nothing: a column of refusals tells of refusals alone. What refuses, what contradicts itself and what nobody can read is a refusal, as the kernel takes
//! every answer that is no `true`; only a cell with nothing in it says nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kith_plugin_sdk::Failure;
use kith_plugin_sdk::consent::says_the_opposite;
use serde::{Deserialize, Serialize};

use crate::column::crop;
use crate::event::Cell;
use crate::mapping::{ColumnId, Columns, key};
use crate::value::{boolean, is_nothing};

/// What a `yes` in a column says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sense {
    Agrees,
    /// The column tells of refusals: `HasOptedOutOfEmail`.
    Refuses,
}

/// A purpose, or what else a consent is of, with its column.
pub(crate) struct ConsentColumn {
    /// The key as JSON text, with its quotes and colon.
    pub(crate) key: String,
    pub(crate) column: ColumnId,
    sense: Sense,
}

/// Cells that are neither yes nor no.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unclear {
    count: u64,
    first: Option<String>,
    /// Cells of columns of refusals that say that there is none.
    #[serde(default)]
    unrefused: u64,
}

impl Unclear {
    fn note_cell(&mut self, text: &str) {
        self.count += 1;
        self.first.get_or_insert_with(|| crop(text).to_owned());
    }

    /// What a person is told; nothing where every cell was clear.
    pub(crate) fn notes(&self) -> Vec<String> {
        let unclear = self.first.as_ref().map(|first| {
            format!("{} cells that are neither yes nor no are taken as refusals, such as `{first}`", self.count)
        });
        let unrefused = (self.unrefused > 0).then(|| {
            format!(
                "{} cells of columns of refusals (`!`) say no: they say nothing, agree to nothing and end no refusal, because who has not \
                 opted out has not agreed",
                self.unrefused
            )
        });
        unclear.into_iter().chain(unrefused).collect()
    }
}

/// The purposes of the configuration with their columns.
pub(crate) fn columns(
    purposes: &BTreeMap<String, String>,
    columns: &mut Columns,
) -> Result<Vec<ConsentColumn>, Failure> {
    let column = |(purpose, text): (&String, &String)| {
        let (sense, name, is_plain) = named(text);
        if sense == Sense::Agrees && is_plain && says_the_opposite(name) {
            return Err(Failure::permanent(format!(
                "`consent` of `{purpose}` is the column `{name}`, whose name says that a yes in it refuses; write `!{name}` for that, or \
                 `{{{name}}}` where a yes in it agrees all the same"
            )));
        }
        if name.is_empty() {
            return Err(Failure::permanent(format!("`consent` of `{purpose}` names no column")));
        }
        Ok(ConsentColumn { key: key(purpose), column: columns.id(name), sense })
    };
    purposes.iter().map(column).collect()
}

/// A column by what is written: `!name` for one that refuses, and `{name}` for a name as it is, whatever it begins with or says.
fn named(text: &str) -> (Sense, &str, bool) {
    let (sense, name) = match text.strip_prefix('!') {
        Some(name) => (Sense::Refuses, name),
        None => (Sense::Agrees, text),
    };
    match name.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        Some(name) => (sense, name, false),
        None => (sense, name, true),
    }
}

fn letters(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Words of lists of subscribers that agree, letters alone. Whoever has not confirmed has not agreed.
const SUBSCRIBED: [&str; 4] = ["subscribed", "optin", "optedin", "resubscribed"];

/// Words of such lists that are a plain no.
const UNSUBSCRIBED: [&str; 22] = [
    "unsubscribed",
    "nonsubscribed",
    "notsubscribed",
    "neversubscribed",
    "cleaned",
    "pending",
    "unconfirmed",
    "optout",
    "optedout",
    "bounced",
    "suppressed",
    "complained",
    "transactional",
    "archived",
    "invalid",
    "redacted",
    "revoked",
    "denied",
    "declined",
    "withdrawn",
    "refused",
    "rejected",
];

/// What a cell says, as JSON; `None` for one that says nothing.
pub(crate) fn said(cell: &Cell<'_>, column: &ConsentColumn, unclear: &mut Unclear) -> Option<Cow<'static, str>> {
    let text: Cow<'_, str> = match cell {
        Cell::Absent => return None,
        Cell::Text(text) | Cell::Exact(text) => Cow::Borrowed(*text),
        Cell::Json(value) => Cow::Owned(value.to_string()),
    };
    let text = text.trim();
    if is_nothing(text) {
        return None;
    }
    let word = letters(text);
    let answer = match (boolean(text).ok(), column.sense) {
        (Some("true"), Sense::Agrees) => "true",
        (Some("false"), Sense::Refuses) => {
            unclear.unrefused += 1;
            return None;
        }
        (Some(_), _) => "false",
        (None, Sense::Agrees) if SUBSCRIBED.contains(&word.as_str()) => "true",
        // In a column of refusals `unsubscribed` refuses as well, and `subscribed` contradicts it.
        (None, _) if UNSUBSCRIBED.contains(&word.as_str()) => "false",
        (None, _) => {
            unclear.note_cell(text);
            return Some(Cow::Owned(serde_json::Value::from(crop(text)).to_string()));
        }
    };
    Some(Cow::Borrowed(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_named_plainly_inverted_or_as_it_is() {
        for (text, expected) in [
            ("news", (Sense::Agrees, "news", true)),
            ("!bounced", (Sense::Refuses, "bounced", true)),
            ("{!odd}", (Sense::Agrees, "!odd", false)),
            ("!{!odd}", (Sense::Refuses, "!odd", false)),
            ("{{x}}", (Sense::Agrees, "{x}", false)),
            ("{half", (Sense::Agrees, "{half", true)),
        ] {
            assert_eq!(named(text), expected, "{text}");
        }
    }
}
