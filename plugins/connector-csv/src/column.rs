//! What the values of a column show about how it is written, from the file's beginning on: the decimal sign of its numbers, the order
//! of its dates. It is part of the progress, so that a file in pieces reads as it does in one.
//!
//! A value that can be read one way only is read that way. One that can be read in two is read as the column's other values are,
//! where all of those that show a way show the same; otherwise it is set aside, with the setting that decides.

use serde::{Deserialize, Serialize};

use crate::event::Problem;
use crate::number::{self, Decimal, Number, NumberError, Style};
use crate::time::{self, DateOrder, Order, TimeError, TimeFormat};
use crate::zone::Zone;

/// The two ways in which a column may be written, with the first value that shows each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ways {
    first: Option<String>,
    second: Option<String>,
}

impl Ways {
    fn note(&mut self, is_first: bool, text: &str) {
        let way = if is_first { &mut self.first } else { &mut self.second };
        way.get_or_insert_with(|| crop(text).to_owned());
    }

    /// What is shown: `Some(true)` for the first way alone, `Some(false)` for the second alone.
    fn shown(&self) -> Option<bool> {
        match (&self.first, &self.second) {
            (Some(_), None) => Some(true),
            (None, Some(_)) => Some(false),
            _ => None,
        }
    }
}

/// Currencies that are noted of a column; beyond that it is a column of all.
const MAX_CURRENCIES: usize = 8;

/// What is seen of a column of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbers {
    /// A decimal point, a decimal comma.
    decimal: Ways,
    currencies: Vec<String>,
    ambiguous: u64,
}

/// What is seen of the column of times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Times {
    /// Day first, month first.
    order: Ways,
    ambiguous: u64,
}

impl Numbers {
    /// Read a number of the column.
    pub(crate) fn read(&mut self, text: &str, style: Style) -> Result<String, Problem> {
        match number::read(text, style) {
            Ok(Number { json, decimal, currency }) => {
                if let Some(decimal) = decimal {
                    self.decimal.note(decimal == Decimal::Point, text);
                }
                if let Some(currency) = currency.filter(|currency| !self.currencies.contains(currency))
                    && self.currencies.len() < MAX_CURRENCIES
                {
                    self.currencies.push(currency);
                }
                Ok(json)
            }
            Err(NumberError::Ambiguous { with_point, with_comma }) => match self.decimal.shown() {
                Some(true) => Ok(with_point),
                Some(false) => Ok(with_comma),
                None => {
                    self.ambiguous += 1;
                    Err(self.ambiguous(text, &with_point, &with_comma))
                }
            },
            Err(NumberError::Percent) => {
                let message = format!(
                    "`{}` is in percent; set `percent` to `fraction` for 19 % as 0.19, or to `number` for 19",
                    crop(text)
                );
                Err(Problem::new("bad-number", message))
            }
            Err(NumberError::NotANumber) => {
                Err(Problem::new("bad-number", format!("`{}` is not a number", crop(text))))
            }
        }
    }

    fn ambiguous(&self, text: &str, with_point: &str, with_comma: &str) -> Problem {
        let others = match (&self.decimal.first, &self.decimal.second) {
            (Some(point), Some(comma)) => format!("and the column holds both `{point}` and `{comma}`"),
            _ => "and no other value of the column shows which".to_owned(),
        };
        let message = format!(
            "`{}` is {with_point} with a decimal point and {with_comma} with a decimal comma, {others}; set `decimal` to `.` or `,`",
            crop(text)
        );
        Problem::new("ambiguous-number", message)
    }

    /// What a person is told of the column; `None` where nothing was assumed.
    pub(crate) fn note(&self) -> Option<String> {
        let mut notes = Vec::new();
        match (&self.decimal.first, &self.decimal.second) {
            (Some(point), None) => notes.push(format!("decimal point, as in `{point}`")),
            (None, Some(comma)) => notes.push(format!("decimal comma, as in `{comma}`")),
            (Some(point), Some(comma)) => {
                notes.push(format!("decimal points and commas, as in `{point}` and `{comma}`"))
            }
            (None, None) => {}
        }
        if self.ambiguous > 0 {
            notes.push(format!("{} ambiguous; set `decimal` to `.` or `,`", self.ambiguous));
        }
        match &self.currencies[..] {
            [] => {}
            [one] => notes.push(format!("in {one}")),
            several => notes.push(format!("in several currencies ({}), which are not told apart", several.join(", "))),
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// The same without counts: what the file's beginning shows before its first row is read.
    pub(crate) fn evidence(self) -> Numbers {
        Numbers { decimal: self.decimal, ..Numbers::default() }
    }
}

impl Times {
    /// Read a time of the column. `set` is the configuration's order.
    pub(crate) fn read(
        &mut self,
        text: &str,
        formats: &[TimeFormat],
        zone: &Zone,
        set: Option<DateOrder>,
    ) -> Result<i64, Problem> {
        let shown = self.order.shown().map(|is_day| if is_day { DateOrder::DayFirst } else { DateOrder::MonthFirst });
        let order = set.map_or(Order::Auto(shown), Order::Set);
        match time::read(text, formats, zone, order) {
            Ok(time) => {
                if let (Some(order), None) = (time.order, set) {
                    self.order.note(order == DateOrder::DayFirst, text);
                }
                Ok(time.at)
            }
            Err(TimeError::Ambiguous { day_first, month_first }) => {
                self.ambiguous += 1;
                Err(self.ambiguous(text, day_first, month_first))
            }
            Err(TimeError::NotATime) => {
                let message = format!("the time `{}` has none of the configured formats", crop(text));
                Err(Problem::new("bad-time", message))
            }
        }
    }

    fn ambiguous(&self, text: &str, day_first: i64, month_first: i64) -> Problem {
        let others = match (&self.order.first, &self.order.second) {
            (Some(day), Some(month)) => format!("and the column holds both `{day}` and `{month}`"),
            _ => "and no other value of the column shows which".to_owned(),
        };
        let message = format!(
            "the time `{}` is {} with the day first and {} with the month first, {others}; set its `order` to `day-first` or `month-first`",
            crop(text),
            day(day_first),
            day(month_first)
        );
        Problem::new("ambiguous-time", message)
    }

    /// What a person is told of the column; `None` where nothing was assumed.
    pub(crate) fn note(&self) -> Option<String> {
        let order = match (&self.order.first, &self.order.second) {
            (Some(day), None) => Some(format!("day first, as in `{day}`")),
            (None, Some(month)) => Some(format!("month first, as in `{month}`")),
            (Some(day), Some(month)) => Some(format!("day first and month first, as in `{day}` and `{month}`")),
            (None, None) => None,
        };
        let ambiguous = (self.ambiguous > 0)
            .then(|| format!("{} ambiguous; set its `order` to `day-first` or `month-first`", self.ambiguous));
        let notes: Vec<String> = order.into_iter().chain(ambiguous).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// The same without counts.
    pub(crate) fn evidence(self) -> Times {
        Times { order: self.order, ambiguous: 0 }
    }
}

/// The day of a moment, for a message.
fn day(at: i64) -> String {
    crate::zone::Local::from_utc(at)
        .map_or_else(|| at.to_string(), |local| format!("{:04}-{:02}-{:02}", local.year, local.month, local.day))
}

/// The beginning of a value for a message to a person.
pub(crate) fn crop(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}
