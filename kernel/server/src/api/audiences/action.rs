//! From an action as the API writes it to the one that is kept, and back: its channel by name, its payload checked, its
//! durations read.

use std::collections::BTreeSet;

use kith_features::Duration;
use kith_model::audience::{Action, ConsentBasis, ReEntry, Reach};
use kith_model::budget::table;
use kith_model::consent;
use kith_model::plugin::{PluginKind, Purposes};
use kith_model::time::DAY_MS;

use super::body::{ActionBody, PatchAction, ReEntryBody};
use crate::api::extract::check_text;
use crate::api::view::json;
use crate::catalogue::WorkspaceTables;
use crate::error::ApiError;

/// The longest time after which an action may fire again; what should never come again says `never`.
const MAX_RE_ENTRY_MS: i64 = 3_650 * DAY_MS;

/// When an action fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Enter,
    Exit,
}

impl Moment {
    /// A mistake in the action of this moment.
    fn at(self, part: &str, message: impl Into<String>) -> ApiError {
        let action = match self {
            Moment::Enter => "on_enter",
            Moment::Exit => "on_exit",
        };
        ApiError::at(format!("{action}.{part}"), message)
    }

    /// The same for a channel that does not carry the purpose.
    fn not_carried(self, message: String) -> ApiError {
        match self.at("purpose", message) {
            ApiError::BadInput { message, mistakes, .. } => {
                ApiError::BadInput { code: "purpose-not-carried", message, mistakes }
            }
            other => other,
        }
    }
}

/// The action that is asked for, if one is.
pub(super) fn read(
    tables: &WorkspaceTables,
    moment: Moment,
    wanted: Option<&ActionBody>,
) -> Result<Option<Action>, ApiError> {
    let Some(wanted) = wanted else { return Ok(None) };
    let channel = tables.installation(&wanted.channel).and_then(|row| Some((row, tables.plugin_of(row)?)));
    let channel = channel.filter(|(_, plugin)| plugin.manifest.kind == PluginKind::Channel);
    let missing = || moment.at("channel", format!("no installed channel `{}`", wanted.channel));
    let (channel, plugin) = channel.ok_or_else(missing)?;
    if wanted.purpose.trim().is_empty() {
        return Err(moment.at("purpose", "say what the message is for, e.g. marketing"));
    }
    check_text(&table::PURPOSE_TEXT, &wanted.purpose)?;
    // Consents are kept by it, and some letters are longer in lower case.
    check_text(&table::PURPOSE_TEXT, &wanted.purpose.to_lowercase())?;
    if !consent::is_plain(&wanted.purpose) {
        let read = consent::reading(&wanted.purpose);
        return Err(moment.at("purpose", format!("its letters only read as `{read}`; nobody could agree to it")));
    }
    let purposes = Purposes::of(&plugin.manifest.capabilities, &channel.grants);
    if let Some(refusal) = purposes.refusal(channel.name.as_str(), &wanted.purpose) {
        return Err(moment.not_carried(refusal));
    }
    check_text(&table::PAYLOAD_TEXT, wanted.payload.get())?;
    // Beyond it a value would be kept as `null`.
    if kith_json::is_deeper_than(wanted.payload.get(), kith_json::MAX_DEPTH) {
        return Err(
            moment.at("payload", format!("its values lie more than {} deep in one another", kith_json::MAX_DEPTH))
        );
    }
    // Numbers stay as they are written, digit by digit.
    let payload = json(wanted.payload.get()).get().to_owned();
    if !payload.starts_with('{') {
        return Err(moment.at("payload", "write a JSON object"));
    }
    check_text(&table::PAYLOAD_TEXT, &payload)?;
    let inputs: BTreeSet<String> = plugin.manifest.inputs.iter().map(|input| input.name.clone()).collect();
    kith_pipeline::check_payload(&payload, &inputs).map_err(|error| moment.at("payload", error.to_string()))?;
    let existing = wanted.existing.unwrap_or_default();
    if (moment, existing) == (Moment::Exit, Reach::Send) {
        return Err(
            moment.at("existing", "nobody has left when an audience is first computed; only `skip` makes sense")
        );
    }
    Ok(Some(Action {
        channel: channel.id,
        purpose: wanted.purpose.clone(),
        basis: wanted.basis,
        payload,
        re_entry: re_entry(moment, &wanted.re_entry)?,
        existing,
        imports: wanted.imports,
    }))
}

/// The action that a change leaves: what the change does not name stays as it was.
pub(super) fn patched(
    tables: &WorkspaceTables,
    moment: Moment,
    before: Option<&Action>,
    wanted: Option<&PatchAction>,
) -> Result<Option<Action>, ApiError> {
    let Some(wanted) = wanted else { return Ok(None) };
    let before = before.map(|action| body(tables, moment, action));
    let before = before.as_ref();
    let missing = |part| move || moment.at(part, "is missing, and there is no action yet that has one");
    let channel = wanted.channel.clone().or_else(|| before.map(|action| action.channel.clone()));
    let purpose = wanted.purpose.clone().or_else(|| before.map(|action| action.purpose.clone()));
    let payload = wanted.payload.clone().or_else(|| before.map(|action| action.payload.clone()));
    let re_entry = wanted.re_entry.clone().or_else(|| before.map(|action| action.re_entry.clone()));
    let whole = ActionBody {
        channel: channel.ok_or_else(missing("channel"))?,
        purpose: purpose.ok_or_else(missing("purpose"))?,
        basis: wanted.basis.or(before.map(|action| action.basis)).unwrap_or(ConsentBasis::OptIn),
        payload: payload.ok_or_else(missing("payload"))?,
        re_entry: re_entry.unwrap_or_default(),
        existing: wanted.existing.or(before.and_then(|action| action.existing)),
        imports: wanted.imports.or(before.map(|action| action.imports)).unwrap_or_default(),
    };
    read(tables, moment, Some(&whole))
}

fn re_entry(moment: Moment, wanted: &ReEntryBody) -> Result<ReEntry, ApiError> {
    match wanted {
        ReEntryBody::Never => Ok(ReEntry::Never),
        ReEntryBody::Always => Ok(ReEntry::Always),
        ReEntryBody::After(text) => match Duration::parse(text) {
            Some(Duration(length)) if (1..=MAX_RE_ENTRY_MS).contains(&length) => Ok(ReEntry::After(length)),
            _ => {
                let shown: String = text.chars().take(32).collect();
                let message = format!("`{shown}` is no such time; write e.g. 30d or 12h, at most 3650d");
                Err(moment.at("re_entry.after", message))
            }
        },
    }
}

/// An action as the API shows it.
pub(super) fn body(tables: &WorkspaceTables, moment: Moment, action: &Action) -> ActionBody {
    ActionBody {
        channel: tables.installation_name(action.channel),
        purpose: action.purpose.clone(),
        basis: action.basis,
        payload: json(&action.payload),
        re_entry: match action.re_entry {
            ReEntry::Never => ReEntryBody::Never,
            ReEntry::Always => ReEntryBody::Always,
            ReEntry::After(length) => ReEntryBody::After(Duration(length).to_string()),
        },
        existing: (moment == Moment::Enter).then_some(action.existing),
        imports: action.imports,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_until_the_next_message_is_read_as_expressions_write_it() {
        let read = |text: &str| re_entry(Moment::Enter, &ReEntryBody::After(text.to_owned())).ok();
        assert_eq!(read("30d"), Some(ReEntry::After(30 * DAY_MS)));
        assert_eq!(read("12h"), Some(ReEntry::After(DAY_MS / 2)));
        assert_eq!(read("3650d"), Some(ReEntry::After(MAX_RE_ENTRY_MS)));
        for bad in ["", "30", "0d", "-1d", "3651d", "30 days", "1e9d"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
