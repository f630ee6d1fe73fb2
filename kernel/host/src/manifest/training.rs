//! Responsible for `[training]`: how a model learns from the history. What its expressions may read is judged where expressions are.

use std::ops::Range;

use kith_model::plugin::{OutputSpec, PluginKind, Training};
use kith_model::polling::{interval_text, span_ms};
use kith_model::table::ColumnType;

use super::keys;
use super::reader::{Section, nearest};
use super::sections::may_train;
use super::words;
use crate::abi::Abi;

const DAY_MS: u64 = 86_400_000;

/// How far a label looks, and how far cut-offs lie apart: from an hour to two years.
const SPAN_MS: Range<u64> = 3_600_000..730 * DAY_MS + 1;

/// How many cut-offs there may be: each is a row of every person, made of their whole history.
pub(super) const MAX_CUT_OFFS: u64 = 24;

/// What an output may be that says beforehand what the label says.
const PREDICTING: [ColumnType; 3] = [ColumnType::Boolean, ColumnType::Int64, ColumnType::Float64];

/// How the model learns; `outputs` are those that could be read.
pub(super) fn read(
    root: &Section<'_, '_>,
    (kind, abi): (Option<PluginKind>, Option<Abi>),
    outputs: &[OutputSpec],
) -> Option<Training> {
    let (table, start) = root.table("training")?;
    if let (Some(kind), Some(abi)) = (kind, abi)
        && !may_train(kind, abi)
    {
        let message = format!(
            "only tag models and scorers of ABI 0.2 learn from the history, and this is a {kind} of ABI {abi}; remove this table"
        );
        root.wrong("training", message);
    }
    let section = Section::open(root.notes, table, "[training]", start, &keys::TRAINING);
    let label = section.required_text(
        "label",
        "an expression over the events behind a cut-off, e.g. \"events('Order Completed').size() > 0\"",
    );
    let horizon_ms = read_span(&section, "horizon", "how far behind a cut-off the label looks, e.g. \"60d\"");
    let every_ms = read_span(&section, "every", "how far cut-offs lie apart, e.g. \"30d\"");
    let cut_offs = read_cut_offs(&section);
    let predicts = section.required_text("predicts", "the output that says beforehand what the label says");
    if let Some(name) = predicts {
        check_predicts(root, &section, name, outputs);
    }
    let timeless = section.texts("timeless");
    let inputs: Vec<&str> = root.named_tables("inputs").into_iter().map(|(name, ..)| name).collect();
    for (name, place) in timeless.iter().filter(|(name, _)| !inputs.contains(name)) {
        section.notes.add(place, unknown(name, "input", &inputs));
    }
    words::note_doubles(&section, "timeless", &timeless);
    Some(Training {
        label: label?.to_owned(),
        horizon_ms: horizon_ms?,
        every_ms: every_ms?,
        cut_offs: cut_offs?,
        predicts: predicts?.to_owned(),
        timeless: timeless.into_iter().map(|(name, _)| name.to_owned()).collect(),
    })
}

fn read_span(section: &Section<'_, '_>, key: &str, write: &str) -> Option<u64> {
    section.parsed(key, write, |text| match span_ms(text) {
        Some(span) if SPAN_MS.contains(&span) => Ok(span),
        Some(_) => {
            let (least, most) = (interval_text(SPAN_MS.start), interval_text(SPAN_MS.end - 1));
            Err(format!("`{text}` is out of bounds; write {least} to {most}"))
        }
        None => Err(format!("`{text}` is no length of time; write e.g. 12h or 60d")),
    })
}

fn read_cut_offs(section: &Section<'_, '_>) -> Option<u32> {
    if !section.table.contains_key("cut_offs") {
        section.missing("cut_offs", "how many cut-offs there are, e.g. 6");
        return None;
    }
    let count = section.count("cut_offs")?;
    if count > MAX_CUT_OFFS {
        section.wrong("cut_offs", format!("`cut_offs` in [training] is {count}; write at most {MAX_CUT_OFFS}"));
        return None;
    }
    u32::try_from(count).ok()
}

/// Note an output that is not there, or cannot be compared with a label.
fn check_predicts(root: &Section<'_, '_>, section: &Section<'_, '_>, name: &str, outputs: &[OutputSpec]) {
    let names: Vec<&str> = root.named_tables("outputs").into_iter().map(|(name, ..)| name).collect();
    if !names.contains(&name) {
        section.wrong("predicts", unknown(name, "output", &names));
    }
    let output = outputs.iter().find(|output| output.name == name);
    if output.is_some_and(|output| !PREDICTING.contains(&output.column_type)) {
        let message = format!(
            "`{name}` is neither a number nor true or false, so that nobody could hold it against the label; name another output"
        );
        section.wrong("predicts", message);
    }
}

fn unknown(name: &str, what: &str, known: &[&str]) -> String {
    let hint = match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has {}", known.join(", ")),
    };
    format!("the manifest has no {what} `{name}`; {hint}")
}
