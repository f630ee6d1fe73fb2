//! Responsible for the Rust that a manifest's columns come to. It is written as text: whatever the manifest says stands in it as names
//! of columns, which are plain, as literals, or as documentation, which is a literal too.

use std::fmt::Write as _;

use crate::declared::{Declared, Input, Output};

/// What is not used of it is no mistake of the plugin's.
const UNUSED: &str = "#[allow(dead_code, reason = \"a plugin uses what it needs\")]";

/// The types of the columns.
pub(crate) fn write(declared: &Declared) -> String {
    let mut code = String::new();
    let written = write_inputs(&mut code, declared)
        .and_then(|()| declared.inputs.iter().try_for_each(|input| write_records(&mut code, input)))
        .and_then(|()| write_row(&mut code, declared))
        .and_then(|()| declared.outputs.iter().try_for_each(|output| write_values(&mut code, output)))
        .and_then(|()| write_outputs(&mut code, declared))
        .and_then(|()| write_declared(&mut code, declared));
    // A text takes whatever is written to it.
    debug_assert!(written.is_ok());
    code
}

fn write_inputs(code: &mut String, declared: &Declared) -> std::fmt::Result {
    writeln!(code, "/// The columns that `[inputs]` of the manifest declares.\n{UNUSED}")?;
    writeln!(code, "#[derive(Debug, Clone, Copy)]\npub struct Inputs<'a> {{")?;
    writeln!(code, "_rows: usize, _table: ::core::marker::PhantomData<&'a ()>,")?;
    for (input, field) in declared.inputs.iter().zip(input_fields(declared)) {
        let column = match records_of(input) {
            Some(records) => format!("RecordsColumn<'a, {records}Fields<'a>>"),
            None => format!("{}<'a>", input.column_type.column),
        };
        writeln!(code, "#[doc = {:?}]\npub {field}: ::kith_plugin_sdk::{column},", input.words)?;
    }
    writeln!(code, "}}\n{UNUSED}\nimpl<'a> Inputs<'a> {{")?;
    writeln!(
        code,
        "/// The columns of a table that the kernel handed over. One that is not as declared is a failure."
    )?;
    writeln!(
        code,
        "pub fn read(table: &'a ::kith_plugin_sdk::Table)\n\
         -> ::core::result::Result<Self, ::kith_plugin_sdk::Failure> {{\n\
         ::core::result::Result::Ok(Inputs {{ _rows: table.len(), _table: ::core::marker::PhantomData,"
    )?;
    for (input, field) in declared.inputs.iter().zip(input_fields(declared)) {
        let read = records_of(input).map_or_else(String::new, |records| format!(", {records}Fields::read"));
        writeln!(code, "{field}: table.{}({:?}{read})?,", input.column_type.reader, input.name)?;
    }
    writeln!(code, "}})\n}}\n/// How many rows.\npub fn len(&self) -> usize {{ self._rows }}")?;
    writeln!(code, "/// Whether there is no row.\npub fn is_empty(&self) -> bool {{ self._rows == 0 }}")?;
    writeln!(
        code,
        "/// The values of a row; past the end all are absent.\npub fn row(&self, row: usize) -> Row<'a> {{"
    )?;
    writeln!(code, "Row {{ _table: ::core::marker::PhantomData,")?;
    for field in input_fields(declared) {
        writeln!(code, "{field}: self.{field}.get(row),")?;
    }
    writeln!(
        code,
        "}}\n}}\n/// The rows, in order.\n\
         pub fn rows(&self) -> impl ::core::iter::ExactSizeIterator<Item = Row<'a>> + use<'a> {{\n\
         let inputs = *self;\n(0..inputs._rows).map(move |row| inputs.row(row))\n}}\n}}"
    )
}

fn write_row(code: &mut String, declared: &Declared) -> std::fmt::Result {
    writeln!(code, "/// The values of one row; what is not known is absent.\n{UNUSED}")?;
    writeln!(code, "#[derive(Debug, Clone, Copy, Default)]\npub struct Row<'a> {{")?;
    writeln!(code, "_table: ::core::marker::PhantomData<&'a ()>,")?;
    for (input, field) in declared.inputs.iter().zip(input_fields(declared)) {
        let value = match records_of(input) {
            Some(records) => format!("::kith_plugin_sdk::Records<{records}Fields<'a>>"),
            None => input.column_type.read.to_owned(),
        };
        writeln!(code, "#[doc = {:?}]\npub {field}: ::core::option::Option<{value}>,", input.words)?;
    }
    writeln!(code, "}}")
}

/// What the types of an input's records are named by.
fn records_of(input: &Input) -> Option<String> {
    (!input.fields.is_empty()).then(|| camel(&input.name))
}

/// The fields of an input's records as columns, and one record.
fn write_records(code: &mut String, input: &Input) -> std::fmt::Result {
    let Some(records) = records_of(input) else { return Ok(()) };
    let names = fields(&input.fields.iter().map(|field| &*field.name).collect::<Vec<_>>());
    let each = || input.fields.iter().zip(&names);
    let table = "_table: ::core::marker::PhantomData,";
    writeln!(
        code,
        "/// The fields of `[inputs.{}]` of the manifest, each over the records of all rows.\n{UNUSED}",
        input.name
    )?;
    writeln!(code, "#[derive(Debug, Clone, Copy)]\npub struct {records}Fields<'a> {{")?;
    writeln!(code, "_table: ::core::marker::PhantomData<&'a ()>,")?;
    for (field, name) in each() {
        writeln!(code, "/// `{}`\npub {name}: ::kith_plugin_sdk::{}<'a>,", field.name, field.column_type.column)?;
    }
    writeln!(
        code,
        "}}\n/// A record of `[inputs.{}]` of the manifest; what is not known is absent.\n{UNUSED}",
        input.name
    )?;
    writeln!(code, "#[derive(Debug, Clone, Copy, PartialEq, Default)]\npub struct {records}Record<'a> {{")?;
    writeln!(code, "_table: ::core::marker::PhantomData<&'a ()>,")?;
    for (field, name) in each() {
        let value = field.column_type.read;
        writeln!(code, "/// `{}`\npub {name}: ::core::option::Option<{value}>,", field.name)?;
    }
    writeln!(code, "}}\nimpl<'a> {records}Fields<'a> {{")?;
    writeln!(
        code,
        "fn read(table: &'a ::kith_plugin_sdk::Table)\n\
         -> ::core::result::Result<Self, ::kith_plugin_sdk::ColumnError> {{\n\
         ::core::result::Result::Ok({records}Fields {{ {table}"
    )?;
    for (field, name) in each() {
        writeln!(code, "{name}: table.{}({:?})?,", field.column_type.reader, field.name)?;
    }
    writeln!(code, "}})\n}}\n}}\nimpl<'a> ::kith_plugin_sdk::RecordFields for {records}Fields<'a> {{")?;
    writeln!(code, "type Record = {records}Record<'a>;")?;
    writeln!(code, "fn record(&self, place: usize) -> {records}Record<'a> {{\n{records}Record {{ {table}")?;
    for (_, name) in each() {
        writeln!(code, "{name}: self.{name}.get(place),")?;
    }
    writeln!(code, "}}\n}}\n}}")
}

/// The values of an output that declares them.
fn write_values(code: &mut String, output: &Output) -> std::fmt::Result {
    if output.values.is_empty() {
        return Ok(());
    }
    let (name, variants) = (value_type(&output.name), variants(&output.values));
    writeln!(code, "/// The values that `[outputs.{}]` of the manifest declares.\n{UNUSED}", output.name)?;
    writeln!(code, "#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]\npub enum {name} {{")?;
    for (variant, value) in variants.iter().zip(&output.values) {
        let words = format!("`{value}`");
        writeln!(code, "#[doc = {words:?}]\n{variant},")?;
    }
    writeln!(code, "}}\n{UNUSED}\nimpl {name} {{\n/// All values, as they are declared.")?;
    let all: Vec<String> = variants.iter().map(|variant| format!("{name}::{variant}")).collect();
    writeln!(code, "pub const ALL: [{name}; {}] = [{}];", variants.len(), all.join(", "))?;
    writeln!(code, "/// The value as the manifest writes it.\npub fn as_str(self) -> &'static str {{\nmatch self {{")?;
    for (variant, value) in all.iter().zip(&output.values) {
        writeln!(code, "{variant} => {value:?},")?;
    }
    writeln!(code, "}}\n}}\n}}\nimpl ::core::convert::AsRef<str> for {name} {{")?;
    writeln!(code, "fn as_ref(&self) -> &str {{ self.as_str() }}\n}}")
}

fn write_outputs(code: &mut String, declared: &Declared) -> std::fmt::Result {
    let names = fields(&declared.outputs.iter().map(|output| &*output.name).collect::<Vec<_>>());
    writeln!(code, "/// What one row comes to: a value for each of `[outputs]` of the manifest, or none.")?;
    writeln!(code, "/// Those of all rows are collected into a table, in their order.\n{UNUSED}")?;
    writeln!(code, "#[derive(Debug, Clone, PartialEq, Default)]\npub struct Outputs {{")?;
    for (output, field) in declared.outputs.iter().zip(&names) {
        let value = match (output.values.is_empty(), output.column_type.written) {
            (true, _) => output.column_type.owned.to_owned(),
            (false, "text-list") => format!("::std::vec::Vec<{}>", value_type(&output.name)),
            (false, _) => value_type(&output.name),
        };
        writeln!(code, "#[doc = {:?}]\npub {field}: ::core::option::Option<{value}>,", output.words)?;
    }
    writeln!(code, "}}\nimpl ::core::iter::FromIterator<Outputs> for ::kith_plugin_sdk::Table {{")?;
    writeln!(code, "fn from_iter<I: ::core::iter::IntoIterator<Item = Outputs>>(rows: I) -> Self {{")?;
    writeln!(code, "let rows = ::core::iter::IntoIterator::into_iter(rows);")?;
    writeln!(code, "let (room, mut count) = (::core::iter::Iterator::size_hint(&rows).0, 0_usize);")?;
    for place in 0..names.len() {
        writeln!(code, "let mut column_{place} = ::std::vec::Vec::with_capacity(room);")?;
    }
    writeln!(code, "for row in rows {{\ncount += 1;")?;
    for (place, field) in names.iter().enumerate() {
        writeln!(code, "column_{place}.push(row.{field});")?;
    }
    writeln!(code, "}}\n::kith_plugin_sdk::Table::new(count)")?;
    for (place, output) in declared.outputs.iter().enumerate() {
        writeln!(code, ".with_{}({:?}, column_{place})", output.column_type.reader, output.name)?;
    }
    writeln!(code, "}}\n}}")
}

/// What the test host holds tables against.
fn write_declared(code: &mut String, declared: &Declared) -> std::fmt::Result {
    writeln!(code, "/// What the manifest declares, for `kith_plugin_sdk::testing`.\n{UNUSED}")?;
    writeln!(code, "pub const DECLARED: ::kith_plugin_sdk::Declared = ::kith_plugin_sdk::Declared {{\ninputs: &[")?;
    for input in &declared.inputs {
        writeln!(code, "({:?}, ::kith_plugin_sdk::ColumnType::{}),", input.name, input.column_type.variant)?;
    }
    writeln!(code, "],\nrecords: &[")?;
    for input in declared.inputs.iter().filter(|input| !input.fields.is_empty()) {
        writeln!(code, "({:?}, &[", input.name)?;
        for field in &input.fields {
            writeln!(code, "({:?}, ::kith_plugin_sdk::ColumnType::{}),", field.name, field.column_type.variant)?;
        }
        writeln!(code, "]),")?;
    }
    writeln!(code, "],\noutputs: &[")?;
    for Output { name, column_type, values, .. } in &declared.outputs {
        let variant = column_type.variant;
        writeln!(code, "::kith_plugin_sdk::DeclaredOutput {{ name: {name:?}, values: &{values:?},")?;
        writeln!(code, "column_type: ::kith_plugin_sdk::ColumnType::{variant} }},")?;
    }
    writeln!(code, "],\nemits: &{:?},\nis_scorer: {},\n}};", declared.emits, declared.is_scorer)
}

/// The fields of columns, in their order. Every name may be written raw but four, of which those that columns may have get an
/// underscore more than any other column has.
fn fields(names: &[&str]) -> Vec<String> {
    let field = |name: &&str| {
        if !matches!(*name, "self" | "super" | "crate") {
            return format!("r#{name}");
        }
        let mut field = format!("{name}_");
        while names.contains(&field.as_str()) {
            field.push('_');
        }
        field
    };
    names.iter().map(field).collect()
}

fn input_fields(declared: &Declared) -> Vec<String> {
    fields(&declared.inputs.iter().map(|input| &*input.name).collect::<Vec<_>>())
}

/// `at_risk` → `AtRisk`. An underscore that no letter follows stays, so that two columns have two names.
fn camel(name: &str) -> String {
    let mut camel = String::new();
    let mut letters = name.chars().peekable();
    let mut begins = true;
    while let Some(letter) = letters.next() {
        if letter == '_' && letters.peek().is_some_and(char::is_ascii_lowercase) {
            begins = true;
        } else if begins {
            camel.extend(letter.to_uppercase());
            begins = false;
        } else {
            camel.push(letter);
        }
    }
    camel
}

/// The enum of an output's values.
fn value_type(name: &str) -> String {
    camel(name) + "Value"
}

/// A variant for each value, none twice: its words joined, and its place where that is no name.
fn variants(values: &[String]) -> Vec<String> {
    let mut variants: Vec<String> = Vec::new();
    for (place, value) in values.iter().enumerate() {
        let words = value.split(|letter: char| !is_of_a_name(letter)).filter(|word| !word.is_empty());
        let capital = |word: &str| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        };
        let mut variant: String = words.map(capital).collect();
        if variant.is_empty() {
            variant = format!("V{}", place + 1);
        } else if variant.starts_with(|first: char| first.is_ascii_digit()) {
            variant.insert(0, 'V');
        }
        while variants.contains(&variant) || variant == "Self" {
            variant = format!("{variant}_{}", place + 1);
        }
        variants.push(variant);
    }
    variants
}

/// Whether a letter may stand in a name of Rust; of other scripts than Latin none is taken.
fn is_of_a_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || (('\u{c0}'..='\u{24f}').contains(&letter) && letter.is_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_fields_whatever_they_are_called() {
        let names = ["spent", "type", "self", "self_", "crate"];
        assert_eq!(fields(&names), ["r#spent", "r#type", "self__", "r#self_", "crate_"]);
    }

    #[test]
    fn values_have_variants_whatever_they_say() {
        let values = ["at_risk", "won back", "Won-back", "3x", "self", "", "?", "Zürich", "high"].map(String::from);
        let expected = ["AtRisk", "WonBack", "WonBack_3", "V3x", "Self_5", "V6", "V7", "Zürich", "High"];
        assert_eq!(variants(&values), expected);
        assert_eq!(
            ["level", "big_spender", "a_1", "a1", "a_"].map(value_type),
            ["LevelValue", "BigSpenderValue", "A_1Value", "A1Value", "A_Value"]
        );
    }
}
