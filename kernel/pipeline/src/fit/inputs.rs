//! What a fit read of each input. Where a later fit reads otherwise, the one in use learnt from people who were not as people are
//! now.

use kith_model::table::{Cell, Column, Table, Values};
use parking_lot::Mutex;

/// What a fit read of one input.
#[derive(Debug, Clone, PartialEq)]
pub struct FitInput {
    /// The column's name.
    pub name: String,
    /// How many people had a value, and how many had none.
    pub present: u64,
    pub absent: u64,
    /// Of numbers, and of truth values with 1 for what is true; `None` of what is neither, and where nobody has a value.
    pub mean: Option<f64>,
    /// The standard deviation of the same values; `None` where no float can hold it, too.
    pub deviation: Option<f64>,
}

/// The inputs of a fit under way, in the order of the columns.
#[derive(Default)]
pub(super) struct InputFigures(Mutex<Vec<Figures>>);

/// One input, as far as it has been read.
struct Figures {
    name: String,
    present: u64,
    absent: u64,
    is_number: bool,
    mean: f64,
    /// The sum of the squares of how far each value is from the mean.
    squares: f64,
}

impl InputFigures {
    /// Add the rows of a table that the plugin takes.
    pub(super) fn add(&self, table: &Table) {
        let mut figures = self.0.lock();
        for column in &table.columns {
            let place = figures.iter().position(|input| input.name == column.name).unwrap_or_else(|| {
                figures.push(Figures::of(column));
                figures.len() - 1
            });
            (0..table.rows).for_each(|row| figures[place].take(column, row));
        }
    }

    /// What was read till now.
    pub(super) fn read(&self) -> Vec<FitInput> {
        self.0.lock().iter().map(Figures::read).collect()
    }
}

impl Figures {
    fn of(column: &Column) -> Figures {
        let is_number = matches!(column.values, Values::Boolean(_) | Values::Int64(_) | Values::Float64(_));
        Figures { name: column.name.clone(), present: 0, absent: 0, is_number, mean: 0.0, squares: 0.0 }
    }

    fn take(&mut self, column: &Column, row: usize) {
        match (column.is_valid(row), self.is_number) {
            (false, _) => self.absent += 1,
            // A text or a list need not be copied to be counted.
            (true, false) => self.present += 1,
            (true, true) => match number(column.cell(row)).filter(|value| value.is_finite()) {
                Some(value) => self.take_number(value),
                None => self.absent += 1,
            },
        }
    }

    /// Mean and squares in one pass, as B. P. Welford has them: "Note on a method for calculating corrected sums of squares and
    /// products", Technometrics 4 (1962).
    fn take_number(&mut self, value: f64) {
        self.present += 1;
        #[allow(clippy::cast_precision_loss, reason = "a number of people")]
        let count = self.present as f64;
        let from_mean = value - self.mean;
        // A sum of many large values would pass what a float can hold.
        self.mean += value / count - self.mean / count;
        self.squares += from_mean * (value - self.mean);
    }

    fn read(&self) -> FitInput {
        #[allow(clippy::cast_precision_loss, reason = "a number of people")]
        let count = self.present as f64;
        let mean = (self.is_number && self.present > 0).then_some(self.mean);
        // Where all are the same, what rounding leaves may be below nothing.
        let deviation = mean.map(|_| (self.squares / count).max(0.0).sqrt()).filter(|_| self.squares.is_finite());
        FitInput { name: self.name.clone(), present: self.present, absent: self.absent, mean, deviation }
    }
}

fn number(cell: Cell) -> Option<f64> {
    match cell {
        Cell::Boolean(value) => Some(f64::from(u8::from(value))),
        #[allow(clippy::cast_precision_loss, reason = "of a mean nobody reads the last digits")]
        Cell::Int64(value) => Some(value as f64),
        Cell::Float64(value) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kith_model::table::{ColumnBuilder, ColumnType};

    use super::*;

    fn column(name: &str, column_type: ColumnType, cells: &[Cell]) -> Column {
        let mut column = ColumnBuilder::new(name, &column_type);
        cells.iter().for_each(|cell| column.push(cell.clone()).unwrap());
        column.finish()
    }

    #[test]
    fn each_input_has_a_number_of_people_without_it_and_a_mean_where_there_can_be_one() {
        let figures = InputFigures::default();
        for (orders, spent, is_member) in [
            ([Cell::Int64(1), Cell::Null], [Cell::Float64(0.5), Cell::Float64(1.5)], [Cell::Boolean(true), Cell::Null]),
            ([Cell::Int64(2), Cell::Int64(6)], [Cell::Null, Cell::Null], [Cell::Boolean(false), Cell::Boolean(true)]),
        ] {
            let city = [Cell::Text("Oslo".to_owned()), Cell::Null];
            let columns = vec![
                column("orders", ColumnType::Int64, &orders),
                column("city", ColumnType::Text, &city),
                column("spent", ColumnType::Float64, &spent),
                column("is_member", ColumnType::Boolean, &is_member),
            ];
            figures.add(&Table { rows: 2, columns });
        }
        let read = figures.read();
        let seen: Vec<_> =
            read.iter().map(|input| (input.name.as_str(), input.present, input.absent, input.mean)).collect();
        assert_eq!(seen[..3], [("orders", 3, 1, Some(3.0)), ("city", 2, 2, None), ("spent", 2, 2, Some(1.0))]);
        assert_eq!((seen[3].0, seen[3].1, seen[3].2), ("is_member", 3, 1));
        let near = |figure: Option<f64>, wanted: f64| (figure.unwrap() - wanted).abs() < 1e-12;
        assert!(near(read[3].mean, 2.0 / 3.0));
        // Of 1, 2 and 6, the squares of 2, 1 and 3 are 14 in all.
        assert!(near(read[0].deviation, (14.0_f64 / 3.0).sqrt()));
        assert_eq!(read[1].deviation, None);
        assert!(near(read[2].deviation, 0.5));
        assert!(near(read[3].deviation, (2.0_f64 / 9.0).sqrt()), "of a share p it is the root of p (1 − p)");
    }

    #[test]
    fn values_at_the_end_of_the_range_have_a_mean() {
        let figures = InputFigures::default();
        let cells = [Cell::Float64(f64::MAX), Cell::Float64(f64::MAX), Cell::Float64(f64::MIN)];
        let columns = vec![column("spent", ColumnType::Float64, &cells)];
        figures.add(&Table { rows: 3, columns });
        let read = figures.read();
        assert!(read[0].mean.unwrap().is_finite());
        assert_eq!(read[0].deviation, None);
    }
}
