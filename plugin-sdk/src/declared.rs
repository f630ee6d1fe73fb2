//! What a manifest declares of its columns, as [`manifest!`](crate::manifest) writes it down: tests hold tables against it.

use crate::Emitted;
use crate::table::{Column, ColumnType, Table, Texts, Values, bit};

/// The columns of a manifest.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// The inputs, each with its type.
    pub inputs: &'static [(&'static str, ColumnType)],
    /// The fields of the inputs of records, each with its type.
    pub records: &'static [(&'static str, &'static [(&'static str, ColumnType)])],
    /// The tags or scores.
    pub outputs: &'static [DeclaredOutput],
    /// The names of the events that it may emit, `*` for any.
    pub emits: &'static [&'static str],
    /// Whether the plugin gives scores, which are finite.
    pub is_scorer: bool,
}

/// A tag or a score of a manifest.
#[derive(Debug, Clone, Copy)]
pub struct DeclaredOutput {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub column_type: ColumnType,
    /// The values that a text may take; none where it may take any.
    pub values: &'static [&'static str],
}

impl Declared {
    /// Whether a table is one that the kernel could hand over.
    ///
    /// # Errors
    /// The first column that is not declared, is missing or is of another type.
    pub fn check_inputs(&self, table: &Table) -> Result<(), String> {
        let names = || self.inputs.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        if let Some((unknown, _)) = table.columns().find(|(name, _)| !self.inputs.iter().any(|input| input.0 == *name))
        {
            return Err(format!("no input `{unknown}`; it has {}", names()));
        }
        for (name, column_type) in self.inputs {
            match table.columns().find(|(found, _)| found == name) {
                None => return Err(format!("the input `{name}` is missing; the kernel hands over {}", names())),
                Some((_, found)) if found != *column_type => {
                    return Err(format!("the input `{name}` is of type {found:?}; the manifest says {column_type:?}"));
                }
                Some(_) => {}
            }
        }
        self.check_fields(table)
    }

    /// The first input of records that has other fields than the manifest says.
    fn check_fields(&self, table: &Table) -> Result<(), String> {
        let words = |fields: &[(&str, ColumnType)]| {
            fields.iter().map(|(name, column_type)| format!("{name} ({column_type})")).collect::<Vec<_>>().join(", ")
        };
        for (name, fields) in self.records {
            let column = table.columns.iter().find(|column| column.name == *name);
            let Some(Column { values: Values::Records(lists), .. }) = column else { continue };
            let found: Vec<(&str, ColumnType)> = lists.items.columns().collect();
            if found.len() != fields.len() || fields.iter().any(|field| !found.contains(field)) {
                let (found, declared) = (words(&found), words(fields));
                return Err(format!("the records of the input `{name}` have {found}; the manifest says {declared}"));
            }
        }
        Ok(())
    }

    /// Whether a table is an answer that the host would take for as many rows, in the host's words.
    ///
    /// # Errors
    /// The first thing that is not as the manifest says.
    pub fn check_outputs(&self, rows: usize, table: &Table) -> Result<(), String> {
        if table.rows != rows {
            return Err(format!("{} rows came back for {rows}", table.rows));
        }
        let is_declared = |name: &str| self.outputs.iter().any(|output| output.name == name);
        if let Some(column) = table.columns.iter().find(|column| !is_declared(&column.name)) {
            return Err(format!("the column `{}` is not among the manifest's outputs", column.name));
        }
        for output in self.outputs {
            match table.columns.iter().find(|column| column.name == output.name) {
                None => return Err(format!("the output `{}` is missing", output.name)),
                Some(column) => self.check_output(output, rows, column)?,
            }
        }
        Ok(())
    }

    /// Whether these are events of as many rows that the host would take, in the host's words.
    ///
    /// # Errors
    /// The first one that is of no row, or not as the manifest says.
    pub fn check_events(&self, rows: usize, events: &[(usize, Emitted)]) -> Result<(), String> {
        for (row, event) in events {
            let name = event.name.as_str();
            if !self.emits.iter().any(|declared| *declared == name || *declared == "*") {
                return Err(format!(
                    "the event `{name}` is not among those that `emits` under [capabilities] of the manifest names"
                ));
            }
            if *row >= rows {
                return Err(format!("an event of row {row} was emitted, and there are {rows}"));
            }
        }
        Ok(())
    }

    fn check_output(&self, output: &DeclaredOutput, rows: usize, column: &Column) -> Result<(), String> {
        let (name, found) = (output.name, column.values.column_type());
        if found != output.column_type {
            return Err(format!(
                "the output `{name}` is of type {found:?}; the manifest says {:?}",
                output.column_type
            ));
        }
        let is_there = |row: &usize| column.validity.as_ref().is_none_or(|bits| bit(bits, *row));
        if let (true, Values::Float64(values)) = (self.is_scorer, &column.values) {
            let bad = (0..rows).filter(is_there).find(|row| !values[*row].is_finite());
            if let Some(row) = bad {
                return Err(format!("the score `{name}` of row {row} is {}; it must be finite or null", values[row]));
            }
        }
        let undeclared = match &column.values {
            _ if output.values.is_empty() => None,
            Values::Text(texts) => undeclared(output, texts, (0..rows).filter(is_there)),
            Values::TextList(lists) => undeclared(output, &lists.items, 0..lists.items.offsets.len() - 1),
            _ => None,
        };
        match undeclared {
            Some(value) => Err(format!("`{value}` is not among the declared values of `{name}`")),
            None => Ok(()),
        }
    }
}

/// The first of the texts at these places that is not declared.
fn undeclared(output: &DeclaredOutput, texts: &Texts, places: impl Iterator<Item = usize>) -> Option<String> {
    let text = |place: usize| {
        let [start, end] =
            [texts.offsets[place], texts.offsets[place + 1]].map(|offset| offset.unsigned_abs() as usize);
        String::from_utf8_lossy(&texts.data[start..end]).into_owned()
    };
    places.map(text).find(|text| !output.values.contains(&text.as_str()))
}

#[cfg(test)]
mod tests {
    use crate::{Emitted, Failure, Table, TagModel, emit, testing};

    crate::manifest!("src/declared/level.toml");

    /// Every type that a row may be made of, and those of outputs.
    struct Level;

    impl TagModel for Level {
        fn evaluate(_state: &[u8], rows: &Table) -> Result<Table, Failure> {
            let tags = |row: Row<'_>| Outputs {
                level: row.spent.map(|spent| if spent >= 100.0 { LevelValue::High } else { LevelValue::AtRisk }),
                r#type: row.r#type.map(str::to_uppercase),
                orders: row.orders,
                share: row.totals.map(|totals| totals.iter().sum()),
                buyer: row.self_,
                last: row.times.and_then(<[i64]>::last).copied().or(row.last),
                marks: row.cities.map(|cities| {
                    let is_loyal = cities.iter().count() > 1 || row.counts.is_some_and(|counts| counts.len() > 1);
                    vec![if is_loyal { MarksValue::Loyal } else { MarksValue::New }]
                }),
            };
            let inputs = Inputs::read(rows)?;
            assert_eq!((inputs.len(), inputs.is_empty()), (rows.len(), false));
            Ok(inputs.rows().map(tags).collect())
        }
    }

    /// Answers with columns that no type holds against the manifest.
    struct Careless;

    impl TagModel for Careless {
        fn evaluate(state: &[u8], rows: &Table) -> Result<Table, Failure> {
            let table: Table = (0..rows.len()).map(|_| Outputs::default()).collect();
            let table =
                Table { columns: table.columns.into_iter().filter(|column| column.name != "level").collect(), ..table };
            match state {
                b"event" => emit(1, Emitted::new("Level Reached").with_properties(r#"{"level":"high"}"#)),
                b"other event" => emit(0, Emitted::new("Level Raeched")),
                b"event of no row" => emit(2, Emitted::new("Level Reached")),
                _ => {}
            }
            Ok(match state {
                b"missing" => table,
                b"unknown" => table.with_text("levle", [Some("high"), None]),
                b"type" => table.with_boolean("level", [Some(true), None]),
                b"value" => table.with_text("level", [None, Some("hihg")]),
                b"rows" => Table::new(0),
                _ => table.with_text("level", [None, Some("high")]),
            })
        }
    }

    fn purchases() -> Table {
        Table::new(2)
            .with_timestamp("time", [Some(1), Some(5)])
            .with_float64("amount", [Some(1.5), None])
            .with_text("type", [None, Some("tea")])
    }

    fn rows() -> Table {
        Table::new(2)
            .with_float64("spent", [Some(250.0), None])
            .with_int64("orders", [Some(2), None])
            .with_text("type", [Some("a"), None])
            .with_boolean("self", [Some(true), None])
            .with_timestamp("last", [Some(1), Some(7)])
            .with_text_list("cities", [Some(vec!["Oslo", "Rome"]), None])
            .with_float64_list("totals", [Some(vec![1.5, 2.0]), None])
            .with_int64_list("counts", [Some(vec![1]), None])
            .with_records("purchases", [Some(2), None], purchases())
            .with_timestamp_list("times", [Some(vec![1, 5]), None])
    }

    #[test]
    fn rows_are_read_and_tags_are_written_by_their_types() {
        let tags = testing::Host::new().evaluate::<Level>(&DECLARED, &[], &rows()).0.unwrap();
        assert_eq!(tags.text("level").unwrap().iter().collect::<Vec<_>>(), [Some("high"), None]);
        assert_eq!(tags.text("type").unwrap().get(0), Some("A"));
        assert_eq!(tags.int64("orders").unwrap().get(0), Some(2));
        assert_eq!(tags.float64("share").unwrap().get(0), Some(3.5));
        assert_eq!(tags.boolean("buyer").unwrap().get(0), Some(true));
        assert_eq!(tags.timestamp("last").unwrap().iter().collect::<Vec<_>>(), [Some(5), Some(7)]);
        assert_eq!(tags.text_list("marks").unwrap().get(0).unwrap().get(0), Some("loyal"));
        assert!(tags.text_list("marks").unwrap().get(1).is_none());
        assert_eq!(LevelValue::ALL.map(LevelValue::as_str), ["high", "at_risk"]);
        let one = Table::new(1).with_text("spent", [Some("much")]);
        let failure = Inputs::read(&one).unwrap_err();
        assert!(failure.to_string().contains("the column `spent` is text, not float64"), "{failure}");
    }

    #[test]
    fn records_are_read_by_their_types_and_absent_fields_stay_in_their_place() {
        let table = rows();
        let inputs = Inputs::read(&table).unwrap();
        let read: Vec<_> =
            inputs.row(0).purchases.unwrap().iter().map(|one| (one.time, one.amount, one.r#type)).collect();
        assert_eq!(read, [(Some(1), Some(1.5), None), (Some(5), None, Some("tea"))]);
        assert!(inputs.row(1).purchases.is_none() && inputs.row(0).purchases.unwrap().get(2).is_none());
        assert_eq!(inputs.purchases.fields().amount.iter().flatten().sum::<f64>(), 1.5);
        let mut without = rows();
        without.columns.retain(|column| column.name != "purchases");
        let few = Table::new(2).with_timestamp("time", [Some(1), Some(5)]).with_int64("amount", [None, None]);
        let other = without.clone().with_records("purchases", [Some(0), Some(2)], few);
        let failure = Inputs::read(&other).unwrap_err().to_string();
        assert!(failure.contains("the column `purchases.amount` is int64, not float64"), "{failure}");
        let said = DECLARED.check_inputs(&other).unwrap_err();
        assert_eq!(
            said,
            "the records of the input `purchases` have time (timestamp), amount (int64); the manifest says time (timestamp), amount \
             (float64), type (text)"
        );
        assert_eq!(DECLARED.check_inputs(&rows()), Ok(()));
    }

    #[test]
    fn the_test_host_holds_tables_against_the_manifest() {
        let ask = |state: &str, rows: &Table| {
            let host = testing::Host::new();
            let asked = || host.evaluate::<Careless>(&DECLARED, state.as_bytes(), rows).0.unwrap();
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(asked))
                .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
        };
        assert!(ask("well", &rows()).is_ok() && ask("event", &rows()).is_ok());
        for (state, said) in [
            ("missing", "the output `level` is missing"),
            ("unknown", "the column `levle` is not among the manifest's outputs"),
            ("type", "the output `level` is of type Boolean; the manifest says Text"),
            ("value", "`hihg` is not among the declared values of `level`"),
            ("rows", "0 rows came back for 2"),
            (
                "other event",
                "the event `Level Raeched` is not among those that `emits` under [capabilities] of the manifest names",
            ),
            ("event of no row", "an event of row 2 was emitted, and there are 2"),
        ] {
            assert_eq!(ask(state, &rows()).unwrap_err(), said);
        }
        let mistyped = Table { columns: rows().columns.into_iter().rev().skip(1).collect(), ..rows() };
        let said = ask("well", &mistyped.with_int64("times", [None, None])).unwrap_err();
        assert_eq!(said, "the input `times` is of type Int64; the manifest says TimestampList");
        assert!(ask("well", &Table::new(1)).unwrap_err().starts_with("the input `spent` is missing; "));
        let said = ask("well", &rows().with_int64("spend", [None, None])).unwrap_err();
        assert!(said.starts_with("no input `spend`; it has spent, orders, "), "{said}");
    }
}
