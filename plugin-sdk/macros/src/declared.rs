//! Responsible for which columns a manifest declares. `known` says what nobody reads in it; of everything else the host says what is
//! wrong.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::known;

/// The columns of a tag model or a scorer, in the order of the file.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) is_scorer: bool,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<Output>,
    /// The names of the events that it may emit.
    pub(crate) emits: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) column_type: ColumnType,
    /// Of records, in the order of the file.
    pub(crate) fields: Vec<Field>,
    /// Why the plugin needs it.
    pub(crate) words: String,
}

/// A field of records.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) column_type: ColumnType,
}

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) column_type: ColumnType,
    /// The values that a text may take; none where it may take any.
    pub(crate) values: Vec<String>,
    /// What the value means.
    pub(crate) words: String,
}

/// A type of columns, with its names in the SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ColumnType {
    /// As manifests write it.
    pub(crate) written: &'static str,
    /// The variant of the SDK's `ColumnType`.
    pub(crate) variant: &'static str,
    /// What reads it from a table; what adds it to one begins with `with_`.
    pub(crate) reader: &'static str,
    /// What reading gives.
    pub(crate) column: &'static str,
    /// The value of a row.
    pub(crate) read: &'static str,
    /// The value of a row that is written.
    pub(crate) owned: &'static str,
}

/// The list of texts of a row.
const TEXTS: &str = "::kith_plugin_sdk::TextList<'a>";

#[rustfmt::skip]
const TYPES: [ColumnType; 9] = [
    column("boolean", "Boolean", "boolean", "BooleanColumn", "bool", "bool"),
    column("int64", "Int64", "int64", "Int64Column", "i64", "i64"),
    column("float64", "Float64", "float64", "Float64Column", "f64", "f64"),
    column("timestamp", "Timestamp", "timestamp", "Int64Column", "i64", "i64"),
    column("text", "Text", "text", "TextColumn", "&'a str", "::std::string::String"),
    column("int64-list", "Int64List", "int64_list", "Int64ListColumn", "&'a [i64]", "::std::vec::Vec<i64>"),
    column("float64-list", "Float64List", "float64_list", "Float64ListColumn", "&'a [f64]", "::std::vec::Vec<f64>"),
    column("timestamp-list", "TimestampList", "timestamp_list", "Int64ListColumn", "&'a [i64]", "::std::vec::Vec<i64>"),
    column("text-list", "TextList", "text_list", "TextListColumn", TEXTS, "::std::vec::Vec<::std::string::String>"),
];

/// How many of them are of single values; they stand first.
const SINGLE_TYPES: usize = 5;

/// Lists of records, of which what reads them and what that gives is named by the input.
const RECORDS: ColumnType = column("records", "Records", "records", "RecordsColumn", "", "");

const fn column(
    written: &'static str,
    variant: &'static str,
    reader: &'static str,
    column: &'static str,
    read: &'static str,
    owned: &'static str,
) -> ColumnType {
    ColumnType { written, variant, reader, column, read, owned }
}

/// What is wrong with a manifest, at a place of it.
#[derive(Debug)]
pub(crate) struct Mistake {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { line, column, message } = self;
        write!(f, "{line}:{column}: {message} (`kith plugin check` tells every mistake)")
    }
}

/// The columns that a manifest declares.
///
/// # Errors
/// The first key that no manifest has, or else the first mistake that leaves no types to be made.
pub(crate) fn read(text: &str) -> Result<Declared, Mistake> {
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        mistake(text, at, error.message())
    })?;
    let reader = Reader { text };
    let root = document.get_ref();
    if let Some((at, message)) = known::first_unknown(root) {
        return Err(mistake(text, at, message));
    }
    let Some(plugin) = root.get("plugin").and_then(|plugin| plugin.get_ref().as_table()) else {
        return Err(mistake(
            text,
            0,
            "there is no [plugin] table; begin with [plugin] and its `id`, `version` and `kind`",
        ));
    };
    let is_scorer = match plugin.get("kind").map(|kind| (kind.get_ref().as_str(), kind.span().start)) {
        Some((Some("tag-model"), _)) => false,
        Some((Some("scorer"), _)) => true,
        Some((_, at)) => {
            return Err(mistake(
                text,
                at,
                "only tag models and scorers have columns; remove `manifest!` from this crate",
            ));
        }
        None => return Err(mistake(text, 0, "[plugin] has no `kind`; write tag-model or scorer")),
    };
    let inputs = reader.tables(root, "inputs")?.into_iter().map(|(name, table)| {
        let words = reader.words(table, "reason");
        let (column_type, fields) = reader.input_type(table, &name)?;
        Ok::<_, Mistake>(Input { name: name.text.to_owned(), column_type, fields, words })
    });
    let outputs = reader.tables(root, "outputs")?.into_iter().map(|(name, table)| {
        let words = reader.words(table, "description");
        let column_type = reader.column_type(table, &name)?;
        let values = reader.values(table, column_type)?;
        Ok::<_, Mistake>(Output { name: name.text.to_owned(), column_type, values, words })
    });
    let (inputs, outputs) = (inputs.collect::<Result<_, _>>()?, outputs.collect::<Result<_, _>>()?);
    Ok(Declared { is_scorer, inputs, outputs, emits: emits(root) })
}

/// The names of the events that a manifest says its plugin may emit; what is none is the host's to refuse.
fn emits(root: &DeTable<'_>) -> Vec<String> {
    let capabilities = root.get("capabilities").and_then(|table| table.get_ref().as_table());
    let names = capabilities.and_then(|table| table.get("emits")).and_then(|names| names.get_ref().as_array());
    let names = names.into_iter().flat_map(|names| names.iter());
    names.filter_map(|name| name.get_ref().as_str()).map(str::to_owned).collect()
}

/// The name of a table, and where it stands.
struct Named<'d> {
    text: &'d str,
    title: String,
    at: usize,
}

struct Reader<'t> {
    text: &'t str,
}

impl Reader<'_> {
    fn wrong<T>(&self, at: usize, message: impl Into<String>) -> Result<T, Mistake> {
        Err(mistake(self.text, at, message))
    }

    /// The tables `[key.NAME]` in the order of the file; there is one at least.
    fn tables<'d>(&self, root: &'d DeTable<'d>, key: &str) -> Result<Vec<(Named<'d>, &'d DeTable<'d>)>, Mistake> {
        let Some(tables) = root.get(key).and_then(|tables| tables.get_ref().as_table()) else {
            return self.wrong(0, format!("there is no [{key}.<name>] table; declare one"));
        };
        let mut named = Vec::new();
        for (name, value) in tables {
            let (text, at): (&str, usize) = (name.get_ref(), name.span().start);
            self.check_name(text, at)?;
            let Some(table) = value.get_ref().as_table() else {
                return self.wrong(at, format!("`{key}.{text}` is {}; write a table", value.get_ref().type_str()));
            };
            named.push((Named { text, title: format!("[{key}.{text}]"), at }, table));
        }
        named.sort_by_key(|(name, _)| name.at);
        Ok(named)
    }

    fn check_name(&self, text: &str, at: usize) -> Result<(), Mistake> {
        let begins_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let goes_on_well = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if begins_well && goes_on_well {
            return Ok(());
        }
        let message = format!(
            "`{text}` is not a column name; write a lower-case letter, then lower-case letters, digits and `_`"
        );
        self.wrong(at, message)
    }

    /// The type of an input, and the fields of one of records.
    fn input_type(&self, table: &DeTable<'_>, name: &Named<'_>) -> Result<(ColumnType, Vec<Field>), Mistake> {
        let written = table.get("type").and_then(|value| value.get_ref().as_str());
        if written == Some(RECORDS.written) {
            return Ok((RECORDS, self.fields(table, name)?));
        }
        Ok((self.column_type(table, name)?, Vec::new()))
    }

    fn fields(&self, table: &DeTable<'_>, name: &Named<'_>) -> Result<Vec<Field>, Mistake> {
        let names: Vec<&str> = TYPES[..SINGLE_TYPES].iter().map(|column_type| column_type.written).collect();
        let names = names.join(", ");
        let declared = table.get("fields").and_then(|fields| fields.get_ref().as_table());
        let Some(declared) = declared.filter(|fields| !fields.is_empty()) else {
            return self.wrong(name.at, format!("{} has no `fields`; write a type for each: {names}", name.title));
        };
        let mut fields = Vec::new();
        for (name, value) in declared {
            let (text, at): (&str, usize) = (name.get_ref(), name.span().start);
            self.check_name(text, at)?;
            let written = value.get_ref().as_str();
            let Some(column_type) = TYPES[..SINGLE_TYPES].iter().find(|known| Some(known.written) == written) else {
                return self.wrong(value.span().start, format!("this is no type of a field; write one of {names}"));
            };
            fields.push((at, Field { name: text.to_owned(), column_type: *column_type }));
        }
        fields.sort_by_key(|(at, _)| *at);
        Ok(fields.into_iter().map(|(_, field)| field).collect())
    }

    fn column_type(&self, table: &DeTable<'_>, name: &Named<'_>) -> Result<ColumnType, Mistake> {
        let names = TYPES.map(|column_type| column_type.written).join(", ");
        let Some(value) = table.get("type") else {
            return self.wrong(name.at, format!("{} has no `type`; write one of {names}", name.title));
        };
        let found = value.get_ref().as_str().and_then(|text| TYPES.into_iter().find(|known| known.written == text));
        match found {
            Some(column_type) => Ok(column_type),
            None => self.wrong(value.span().start, format!("this is not a type; write one of {names}")),
        }
    }

    fn values(&self, table: &DeTable<'_>, column_type: ColumnType) -> Result<Vec<String>, Mistake> {
        let Some(value) = table.get("values") else { return Ok(Vec::new()) };
        if !matches!(column_type.written, "text" | "text-list") {
            return self
                .wrong(value.span().start, "only texts have declared values; remove `values` or make the type text");
        }
        let Some(items) = value.get_ref().as_array() else {
            return self.wrong(value.span().start, "`values` is a list of texts, e.g. [\"high\", \"low\"]");
        };
        let mut values: Vec<String> = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) if values.iter().any(|before| before == text) => {
                    return self.wrong(item.span().start, format!("`{text}` stands in `values` twice; remove one"));
                }
                Some(text) => values.push(text.to_owned()),
                None => return self.wrong(item.span().start, "`values` must hold texts only"),
            }
        }
        Ok(values)
    }

    /// A text for people, on one line.
    fn words(&self, table: &DeTable<'_>, key: &str) -> String {
        let text = table.get(key).map(Spanned::get_ref).and_then(DeValue::as_str).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn mistake(text: &str, at: usize, message: impl Into<String>) -> Mistake {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
    Mistake { line, column, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: &str = "[plugin]\nkind = \"tag-model\"\n[inputs.spent]\ntype = \"float64\"\nreason = \"x\"\n\
        [inputs.cities]\ntype = \"text-list\"\n[outputs.level]\ntype = \"text\"\nvalues = [\"high\", \"low\"]\n";

    #[test]
    fn the_columns_are_read_in_the_order_of_the_file() {
        let declared = read(LEVEL).unwrap();
        let inputs: Vec<_> =
            declared.inputs.iter().map(|input| (input.name.as_str(), input.column_type.reader)).collect();
        assert_eq!(inputs, [("spent", "float64"), ("cities", "text_list")]);
        assert_eq!(
            (&declared.outputs[0].name[..], &declared.outputs[0].values[..]),
            ("level", &["high", "low"].map(String::from)[..])
        );
        let records = LEVEL.replace("\"text-list\"", "\"records\"\nfields = { b = \"text\", a = \"int64\" }");
        let fields: Vec<_> = read(&records).unwrap().inputs.remove(1).fields;
        let fields: Vec<_> = fields.iter().map(|field| (field.name.as_str(), field.column_type.reader)).collect();
        assert_eq!(fields, [("b", "text"), ("a", "int64")]);
        assert!(!declared.is_scorer && read(&LEVEL.replace("tag-model", "scorer")).unwrap().is_scorer);
    }

    /// The compiler shows these at the macro; the place is one in the manifest.
    #[test]
    fn a_mistake_has_its_place_in_the_manifest_and_what_to_write() {
        for (from, to, expected) in [
            ("[plugin]", "[plugin", "1:"),
            ("[plugin]", "[plugins]", "1:2: unknown key `plugins` in the manifest; did you mean `plugin`?"),
            ("[plugin]\nkind = \"tag-model\"\n", "", "1:1: there is no [plugin] table; begin with"),
            ("tag-model\"\n", "tag-model\"\nabi = \"0.9\"\n", "3:7: this kernel has no ABI `0.9`; it has 0.1 and 0.2"),
            (
                "tag-model\"\n",
                "tag-model\"\nlicence = \"MIT\"\n",
                "3:1: unknown key `licence` in [plugin]; did you mean `license`?",
            ),
            ("reason", "expresion", "5:1: unknown key `expresion` in [inputs.spent]; did you mean `expression`?"),
            ("values", "valuse", "10:1: unknown key `valuse` in [outputs.level]; did you mean `values`?"),
            (
                "values",
                "colour",
                "10:1: unknown key `colour` in [outputs.level]; known here: type, values, description",
            ),
            (
                "[inputs.spent]",
                "[limits]\nfual = 1\n[inputs.spent]",
                "4:1: unknown key `fual` in [limits]; did you mean",
            ),
            ("tag-model", "connector", "2:8: only tag models and scorers have columns; remove"),
            ("inputs.spent", "inputs.Spent", "3:9: `Spent` is not a column name; write"),
            ("float64", "float", "4:8: this is not a type; write one of boolean, int64"),
            ("type = \"float64\"\n", "", "3:9: [inputs.spent] has no `type`; write one of"),
            ("\"low\"", "\"high\"", "10:19: `high` stands in `values` twice; remove one"),
            ("\"low\"", "1", "10:19: `values` must hold texts only"),
            ("type = \"text\"\n", "type = \"int64\"\n", "10:10: only texts have declared values; remove"),
            ("outputs.level", "output.level", "8:2: unknown key `output` in the manifest; did you mean `outputs`?"),
            (
                "[outputs.level]\ntype = \"text\"\nvalues = [\"high\", \"low\"]\n",
                "",
                "1:1: there is no [outputs.<name>] table; declare one",
            ),
            ("\"text-list\"", "\"records\"", "6:9: [inputs.cities] has no `fields`; write a type for each: boolean"),
            (
                "\"text-list\"",
                "\"records\"\nfields = { n = \"text-list\" }",
                "8:16: this is no type of a field; write one of boolean, int64, float64, timestamp, text (",
            ),
            ("\"text-list\"", "\"records\"\nfields = { N = \"text\" }", "8:12: `N` is not a column name; write"),
            ("type = \"text\"\n", "type = \"records\"\n", "9:8: this is not a type; write one of boolean, int64"),
        ] {
            assert!(LEVEL.contains(from), "{from}");
            let found = read(&LEVEL.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(found.starts_with(expected) && found.contains("kith plugin check"), "{to}: {found}");
        }
    }
}
