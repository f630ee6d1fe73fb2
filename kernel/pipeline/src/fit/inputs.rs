//! What a fit read of each numeric input. Where a later fit reads otherwise, the one in use learnt from people who were not as people
//! are now.

use kith_model::table::{Table, Values};
use parking_lot::Mutex;

/// What a fit read of one numeric input.
#[derive(Debug, Clone, PartialEq)]
pub struct FitInput {
    /// The column's name.
    pub name: String,
    /// How many people had a value, and how many had none.
    pub present: u64,
    pub absent: u64,
    /// Of the values; 0 where there is none.
    pub mean: f64,
}

/// The inputs of a fit under way, in the order of the columns.
#[derive(Default)]
pub(super) struct InputFigures(Mutex<Vec<FitInput>>);

impl InputFigures {
    /// Add the rows of a table that the plugin takes.
    pub(super) fn add(&self, table: &Table) {
        let mut figures = self.0.lock();
        for column in &table.columns {
            if !matches!(column.values, Values::Int64(_) | Values::Float64(_)) {
                continue;
            }
            let place = figures.iter().position(|input| input.name == column.name).unwrap_or_else(|| {
                figures.push(FitInput { name: column.name.clone(), present: 0, absent: 0, mean: 0.0 });
                figures.len() - 1
            });
            let input = &mut figures[place];
            for row in 0..table.rows {
                let value = if column.is_valid(row) { number(&column.values, row) } else { None };
                match value.filter(|value| value.is_finite()) {
                    Some(value) => input.take(value),
                    None => input.absent += 1,
                }
            }
        }
    }

    /// What was read till now.
    pub(super) fn read(&self) -> Vec<FitInput> {
        self.0.lock().clone()
    }
}

fn number(values: &Values, row: usize) -> Option<f64> {
    match values {
        #[allow(clippy::cast_precision_loss, reason = "of a mean nobody reads the last digits")]
        Values::Int64(values) => values.get(row).map(|value| *value as f64),
        Values::Float64(values) => values.get(row).copied(),
        _ => None,
    }
}

impl FitInput {
    fn take(&mut self, value: f64) {
        self.present += 1;
        // A sum of many large values would pass what a float can hold.
        #[allow(clippy::cast_precision_loss, reason = "a number of people")]
        let count = self.present as f64;
        self.mean += value / count - self.mean / count;
    }
}

#[cfg(test)]
mod tests {
    use kith_model::table::{Cell, ColumnBuilder, ColumnType};

    use super::*;

    fn column(name: &str, column_type: ColumnType, cells: &[Cell]) -> kith_model::table::Column {
        let mut column = ColumnBuilder::new(name, &column_type);
        cells.iter().for_each(|cell| column.push(cell.clone()).unwrap());
        column.finish()
    }

    #[test]
    fn each_numeric_input_has_a_mean_and_a_number_of_people_without_it() {
        let figures = InputFigures::default();
        for (orders, spent) in [
            ([Cell::Int64(1), Cell::Null], [Cell::Float64(0.5), Cell::Float64(1.5)]),
            ([Cell::Int64(2), Cell::Int64(6)], [Cell::Null, Cell::Null]),
        ] {
            let city = [Cell::Text("Oslo".to_owned()), Cell::Null];
            let columns = vec![
                column("orders", ColumnType::Int64, &orders),
                column("city", ColumnType::Text, &city),
                column("spent", ColumnType::Float64, &spent),
            ];
            figures.add(&Table { rows: 2, columns });
        }
        let input = |name: &str, present, absent, mean| FitInput { name: name.to_owned(), present, absent, mean };
        assert_eq!(figures.read(), [input("orders", 3, 1, 3.0), input("spent", 2, 2, 1.0)]);
    }

    #[test]
    fn values_at_the_end_of_the_range_have_a_mean() {
        let figures = InputFigures::default();
        let cells = [Cell::Float64(f64::MAX), Cell::Float64(f64::MAX), Cell::Float64(f64::MIN)];
        let columns = vec![column("spent", ColumnType::Float64, &cells)];
        figures.add(&Table { rows: 3, columns });
        assert!(figures.read()[0].mean.is_finite());
    }
}
