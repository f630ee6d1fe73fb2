//! What the values of a column show about how it is written, from the file's beginning on: the decimal sign of its numbers, the order
//! of its dates. It is part of the progress, so that a file in pieces reads as it does in one.
//!
//! A value that can be read one way only is read that way. One that can be read in two is read as the column's other values are,
//! where all of those that show a way show the same; otherwise it is set aside, with the setting that decides.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::event::{Exactness, Problem};
use crate::number::{self, Decimal, Number, NumberError, Style};
use crate::time::{self, DateOrder, Moments, Order, Orders, TimeError, TimeFormat};
use crate::zone::{Local, OddHour, Zone};

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
#[serde(default)]
pub(crate) struct Times {
    /// The first value that is no date with the day first, with the month first, and with the year first. What is left is the order of
    /// the column: so `13/01/26` and `01/02/85` together show that the day is first, and neither does alone.
    excluded: [Option<String>; 3],
    ambiguous: u64,
    /// The first value in which the day was taken to be first because of points.
    assumed: Option<String>,
    /// The year in which the file is read, where that is known; no part of what is seen.
    #[serde(skip)]
    year: Option<i64>,
    /// Values whose year of two digits is of the century before, and the first of them with its year.
    earlier: u64,
    first_earlier: Option<(String, i64)>,
    /// Times that no clock of the zone showed, or that one showed twice, and the first of each.
    skipped: u64,
    first_skipped: Option<String>,
    doubled: u64,
    first_doubled: Option<String>,
}

/// What is seen of a column of ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ids {
    /// How many had `.0` behind them, and the first of them.
    floats: u64,
    float: Option<String>,
}

impl Ids {
    /// Read an id. A whole number with `.0` behind it is that number, since a data frame or a spreadsheet makes `5001.0` of the id
    /// `5001` where another row of the column has none; the two would be two people.
    ///
    /// A number of a sheet is as near to the id as a spreadsheet's numbers can be, which is not near enough from sixteen digits on.
    pub(crate) fn read<'t>(&mut self, text: Cow<'t, str>, exactness: Exactness) -> Result<Cow<'t, str>, Problem> {
        let trimmed = text.trim();
        if exactness == Exactness::Unquoted && is_beyond_spreadsheets(trimmed) {
            let message = format!(
                "`{}` is an id that stands as a number in the sheet, of which spreadsheets keep {SPREADSHEET_DIGITS} digits: the others \
                 are lost, and other ids would be the same; make the column a text before the ids are put in, or import the export itself",
                crop(trimmed)
            );
            return Err(Problem::new("lost-digits", message));
        }
        if is_cut(trimmed) {
            let message = format!(
                "`{}` is an id that a spreadsheet has cut: its last digits are lost, and other ids would be the same; make the column \
                 a text where the file comes from and export it again",
                crop(trimmed)
            );
            return Err(Problem::new("lost-digits", message));
        }
        let Some(whole) = whole_of_float(trimmed).map(str::to_owned) else { return Ok(text) };
        self.floats += 1;
        self.float.get_or_insert_with(|| crop(trimmed).to_owned());
        Ok(Cow::Owned(whole))
    }

    /// What a person is told of the column; `None` where nothing was changed.
    pub(crate) fn note(&self) -> Option<String> {
        let float = self.float.as_ref()?;
        let whole = whole_of_float(float).unwrap_or_default();
        Some(format!("{} ids such as `{float}` are taken as the whole number, `{whole}`", self.floats))
    }
}

/// The whole number of `5001.0`; `None` for what may be another id, such as `007.0` or `5001.5`.
fn whole_of_float(text: &str) -> Option<&str> {
    let (whole, fraction) = text.split_once('.')?;
    let is_whole = whole == "0" || !whole.starts_with('0');
    let is_number = !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit());
    (is_whole && is_number && !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0')).then_some(whole)
}

/// Of a number spreadsheets keep so many digits.
const SPREADSHEET_DIGITS: usize = 15;

/// Whether a number has more digits before its point than spreadsheets keep.
fn is_beyond_spreadsheets(number: &str) -> bool {
    let digits = number.trim_start_matches('-');
    let whole = digits.bytes().take_while(u8::is_ascii_digit).count();
    whole > SPREADSHEET_DIGITS || digits[whole..].contains(['e', 'E'])
}

/// Whether a text is a number as spreadsheets show one of more than eleven digits: `4.91512E+12`.
fn is_cut(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once("E+") else { return false };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, "0"));
    let is_mantissa = whole.len() == 1 && are_digits(whole) && !fraction.is_empty() && are_digits(fraction);
    is_mantissa && (1..=3).contains(&exponent.len()) && are_digits(exponent)
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
    /// The same, as it is read in a year.
    pub(crate) fn read_in(self, year: Option<i64>) -> Times {
        Times { year, ..self }
    }

    /// Read a time of the column. `set` is the configuration's order.
    pub(crate) fn read(
        &mut self,
        text: &str,
        formats: &[TimeFormat],
        zone: &Zone,
        set: Option<DateOrder>,
    ) -> Result<i64, Problem> {
        let order = set.map_or(Order::Auto(self.left()), Order::Set);
        // What a value before it left there is no longer asked for.
        zone.odd_hour(i64::MIN);
        match time::read(text, formats, zone, order) {
            Ok(time) => {
                if set.is_none() {
                    self.note_orders(time.orders, text);
                    if time.is_assumed {
                        self.assumed.get_or_insert_with(|| crop(text).to_owned());
                    }
                }
                // A date alone is a day, whenever that begins.
                self.note_odd_hour(text, zone.odd_hour(time.at).filter(|_| text.contains(':')));
                Ok(self.not_ahead(text, time.at, zone))
            }
            Err(TimeError::Ambiguous(moments)) => {
                self.ambiguous += 1;
                let problem = self.ambiguous(text, moments, zone);
                self.note_orders(Orders(moments.map(|moment| moment.is_some())), text);
                Err(problem)
            }
            Err(error) => Err(Problem::new("bad-time", time::reason(text, formats, error, set))),
        }
    }

    /// A year of two digits is one of the hundred that end with the year in which the file is read: people are born, buy and sign
    /// before it is written.
    fn not_ahead(&mut self, text: &str, at: i64, zone: &Zone) -> i64 {
        let local = Local::from_utc(zone.local_ms(at));
        let Some(Local { year, .. }) = local.filter(|local| self.year.is_some_and(|now| local.year > now)) else {
            return at;
        };
        let earlier = local.map(|local| Local { year: year - 100, ..local }).and_then(|local| zone.moment(local));
        let Some(earlier) = earlier.filter(|_| has_short_year(text, year)) else { return at };
        self.earlier += 1;
        self.first_earlier.get_or_insert_with(|| (crop(text).to_owned(), year - 100));
        earlier
    }

    fn note_odd_hour(&mut self, text: &str, odd: Option<OddHour>) {
        let (count, first) = match odd {
            None => return,
            Some(OddHour::Skipped) => (&mut self.skipped, &mut self.first_skipped),
            Some(OddHour::Doubled) => (&mut self.doubled, &mut self.first_doubled),
        };
        *count += 1;
        first.get_or_insert_with(|| crop(text).to_owned());
    }

    /// The orders that all values so far can have.
    fn left(&self) -> Orders {
        Orders([0, 1, 2].map(|order| self.excluded[order].is_none()))
    }

    fn note_orders(&mut self, orders: Orders, text: &str) {
        for order in DateOrder::ALL.into_iter().filter(|order| !orders.has(*order)) {
            self.excluded[order as usize].get_or_insert_with(|| crop(text).to_owned());
        }
    }

    /// Two values between which the column's orders contradict one another.
    fn contradiction(&self) -> Option<(&str, &str)> {
        let [day, month, year] = &self.excluded;
        let (not_day, not_month, not_year) = (day.as_deref()?, month.as_deref()?, year.as_deref()?);
        Some((not_month, if not_day == not_month { not_year } else { not_day }))
    }

    fn ambiguous(&self, text: &str, moments: Moments, zone: &Zone) -> Problem {
        let others = match self.contradiction() {
            Some((one, other)) => format!("and the column holds both `{one}` and `{other}`"),
            None => "and no other value of the column shows which".to_owned(),
        };
        let orders = Orders(moments.map(|moment| moment.is_some()));
        let readings = orders
            .iter()
            .filter_map(|order| Some(format!("{} with the {}", day(moments[order as usize]?, zone), order.words())));
        let message = format!(
            "the time `{}` is {}, {others}; set its `order` to {}",
            crop(text),
            listed(&readings.collect::<Vec<_>>(), "and"),
            settings(orders)
        );
        Problem::new("ambiguous-time", message)
    }

    /// What a person is told of the column; `None` where nothing was assumed.
    pub(crate) fn note(&self) -> Option<String> {
        let order = match (self.left().only(), self.contradiction()) {
            (Some(only), _) => {
                // What rules out the other one of the two usual orders shows this one.
                let shown = [&self.excluded[usize::from(only == DateOrder::Day)], &self.excluded[2]];
                let shown = shown.into_iter().flatten().next().map(String::as_str).unwrap_or_default();
                Some(format!("{}, as in `{shown}`", only.words()))
            }
            (None, Some((one, other))) => {
                Some(format!("several orders of day, month and year, as in `{one}` and `{other}`"))
            }
            (None, None) => None,
        };
        let left = if self.left() == Orders([false; 3]) { Orders::ALL } else { self.left() };
        let ambiguous = (self.ambiguous > 0)
            .then(|| format!("{} ambiguous; set its `order` to {}", self.ambiguous, settings(left)));
        let assumed = self.assumed.as_ref().map(|text| {
            format!("the day first between points, as in `{text}`; set its `order` to `year-first` where the year is")
        });
        let earlier = self.first_earlier.as_ref().map(|(text, year)| {
            format!(
                "{} years of two digits that would be to come are of the century before, as in `{text}`, which is {year}; write such years \
                 with four digits where they are to come",
                self.earlier
            )
        });
        let skipped = self.first_skipped.as_ref().map(|text| {
            format!(
                "{} times that no clock showed, because clocks were put forward, are taken for an hour later, as in `{text}`",
                self.skipped
            )
        });
        let doubled = self.first_doubled.as_ref().map(|text| {
            format!(
                "{} times that clocks showed twice, because they were put back, are taken for the first, as in `{text}`",
                self.doubled
            )
        });
        let odd = earlier.into_iter().chain(skipped).chain(doubled);
        let notes: Vec<String> = order.into_iter().chain(ambiguous).chain(assumed).chain(odd).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// The same without counts.
    pub(crate) fn evidence(self) -> Times {
        let Times { excluded, assumed, .. } = self;
        Times { excluded, assumed, ..Times::default() }
    }
}

/// Whether a text writes this year with its last two digits, and not with four.
fn has_short_year(text: &str, year: i64) -> bool {
    let numbers = || text.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let short = format!("{:02}", year.rem_euclid(100));
    // A text of digits alone is a count, or a date that is written with all of its year.
    numbers().count() > 1
        && numbers().any(|digits| digits == short)
        && !numbers().any(|digits| digits == year.to_string())
}

/// `a`, `a and b`, `a, b and c`.
fn listed(items: &[String], word: &str) -> String {
    match items {
        [before @ .., last] if !before.is_empty() => format!("{} {word} {last}", before.join(", ")),
        items => items.join(""),
    }
}

/// The values of `order` to choose from.
fn settings(orders: Orders) -> String {
    listed(&orders.iter().map(|order| format!("`{}`", order.name())).collect::<Vec<_>>(), "or")
}

/// The day of a moment where the column's times are from, for a message: that which is written.
fn day(at: i64, zone: &Zone) -> String {
    crate::zone::Local::from_utc(zone.local_ms(at))
        .map_or_else(|| at.to_string(), |local| format!("{:04}-{:02}-{:02}", local.year, local.month, local.day))
}

/// The beginning of a value for a message to a person.
pub(crate) fn crop(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}
