//! The functions: one table for the checker, the texts of its answers, and the reference in `docs/conditions.md`.

/// A function on values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Size,
    Sum,
    Min,
    Max,
    Average,
    First,
    Last,
    Distinct,
    Contains,
    StartsWith,
    EndsWith,
    Lower,
    Upper,
    Int,
    Double,
    Text,
    Timestamp,
    Duration,
    Year,
    Month,
    Day,
    Weekday,
    Hour,
}

impl Function {
    /// Whether it is a part of a date or of the time of day.
    pub(crate) fn is_of_calendar(self) -> bool {
        matches!(self, Function::Year | Function::Month | Function::Day | Function::Weekday | Function::Hour)
    }

    /// Whether it is one of lists: how many items there are, or what they come to.
    pub(crate) fn is_of_lists(self) -> bool {
        matches!(
            self,
            Function::Size
                | Function::Sum
                | Function::Min
                | Function::Max
                | Function::Average
                | Function::First
                | Function::Last
                | Function::Distinct
        )
    }
}

/// What there is to know of a function.
pub(crate) struct FunctionSpec {
    pub(crate) function: Function,
    pub(crate) name: &'static str,
    /// How many arguments it takes beside its target.
    pub(crate) others: usize,
    /// Whether it may be written `f(x)`.
    pub(crate) as_function: bool,
    /// Whether it may be written `x.f()`.
    pub(crate) as_method: bool,
    /// Whether what it gives is no truth value, whatever it is given.
    pub(crate) is_never_bool: bool,
    /// What it gives, for the reference.
    pub(crate) about: &'static str,
    /// An example about the reference's person, and what it gives.
    pub(crate) example: (&'static str, &'static str),
}

/// How a function may be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Method,
    Function,
    Both,
}

/// A function that gives something other than true or false.
const fn valued(
    function: Function,
    name: &'static str,
    style: Style,
    about: &'static str,
    example: (&'static str, &'static str),
) -> FunctionSpec {
    FunctionSpec {
        function,
        name,
        others: 0,
        as_function: !matches!(style, Style::Method),
        as_method: !matches!(style, Style::Function),
        is_never_bool: true,
        about,
        example,
    }
}

/// A test of a text or list with one argument.
const fn test(
    function: Function,
    name: &'static str,
    about: &'static str,
    example: (&'static str, &'static str),
) -> FunctionSpec {
    let style = Style::Method;
    FunctionSpec { others: 1, is_never_bool: false, ..valued(function, name, style, about, example) }
}

/// An item of a list, which may be anything.
const fn item(
    function: Function,
    name: &'static str,
    about: &'static str,
    example: (&'static str, &'static str),
) -> FunctionSpec {
    FunctionSpec { is_never_bool: false, ..valued(function, name, Style::Method, about, example) }
}

/// All functions, in the order in which the reference has them.
pub(crate) const FUNCTIONS: [FunctionSpec; 23] = [
    valued(
        Function::Size,
        "size",
        Style::Both,
        "how many: events or items of a list, letters of a text, fields of an object; 0 of what is absent",
        ("events('Order Completed').size()", "3"),
    ),
    valued(
        Function::Sum,
        "sum",
        Style::Method,
        "the numbers of a list added up, texts that are numbers among them; 0 of none",
        ("events('Order Completed').map(e, e.total).sum()", "60.5"),
    ),
    item(
        Function::Min,
        "min",
        "the least of a list; absent of none",
        ("events('Order Completed').map(e, e.total).min()", "10.5"),
    ),
    item(
        Function::Max,
        "max",
        "the greatest of a list, of numbers if there are any; absent of none",
        ("events('Order Completed').map(e, e.total).max()", "30.0"),
    ),
    valued(
        Function::Average,
        "avg",
        Style::Method,
        "the mean of the numbers of a list, texts that are numbers among them; absent of none",
        ("[1, 2, '4.5', null].avg()", "2.5"),
    ),
    item(
        Function::First,
        "first",
        "the first item of a list, the earliest of events; absent of none",
        ("events('Order Completed').first().total", "10.5"),
    ),
    item(
        Function::Last,
        "last",
        "the last item of a list, the newest of events; absent of none",
        ("events('Order Completed').last().coupon", "'X'"),
    ),
    valued(
        Function::Distinct,
        "distinct",
        Style::Method,
        "the different items of a list, each once and in order",
        ("[2, 1, 2, null].distinct()", "[1, 2]"),
    ),
    test(
        Function::Contains,
        "contains",
        "whether a text has the other text in it, with the same letters large and small; of a trait that is a list, whether it has the item",
        ("traits.city.contains('om')", "true"),
    ),
    test(Function::StartsWith, "startsWith", "whether a text begins so", ("traits.city.startsWith('Ro')", "true")),
    test(Function::EndsWith, "endsWith", "whether a text ends so", ("traits.city.endsWith('ME')", "false")),
    valued(Function::Lower, "lower", Style::Both, "a text in small letters", ("traits.city.lower() == 'rome'", "true")),
    valued(Function::Upper, "upper", Style::Both, "a text in capitals", ("traits.city.upper()", "'ROME'")),
    valued(
        Function::Int,
        "int",
        Style::Function,
        "a whole number, of a number (cut), a text, or a time (milliseconds); absent where it is none",
        ("int('12') + int(3.9)", "15"),
    ),
    valued(
        Function::Double,
        "double",
        Style::Function,
        "a number, also of a text with spaces around or zeros before it; absent where it is none",
        ("double(' 007.50 ')", "7.5"),
    ),
    valued(Function::Text, "string", Style::Function, "a text", ("string(traits.age) + '!'", "'41!'")),
    valued(
        Function::Timestamp,
        "timestamp",
        Style::Function,
        "a time, of a text; a date is its midnight in the workspace's zone",
        ("timestamp('2026-11-21')", "timestamp('2026-11-20T23:00:00.000Z')"),
    ),
    valued(
        Function::Duration,
        "duration",
        Style::Function,
        "a length of time: weeks `w`, days of 24 hours `d`, `h`, `m`, `s`, `ms`, also several",
        ("now - traits['last visit'] > duration('1d6h')", "true"),
    ),
    valued(Function::Year, "year", Style::Both, "the year of a date or time", ("traits.birthday.year()", "1985")),
    valued(
        Function::Month,
        "month",
        Style::Both,
        "the month of a date or time, 1 to 12",
        ("traits.birthday.month() == now.month()", "true"),
    ),
    valued(Function::Day, "day", Style::Both, "the day of the month, 1 to 31", ("traits.birthday.day()", "30")),
    valued(
        Function::Weekday,
        "weekday",
        Style::Both,
        "the day of the week, 1 for Monday to 7 for Sunday",
        ("now.weekday() >= 6", "true"),
    ),
    valued(
        Function::Hour,
        "hour",
        Style::Both,
        "the hour of the day, 0 to 23",
        ("events('Order Completed').filter(e, e.time.hour() >= 18).size()", "1"),
    ),
];

/// The entry of a function.
pub(crate) fn spec(function: Function) -> &'static FunctionSpec {
    let of_that = FUNCTIONS.iter().find(|spec| spec.function == function);
    of_that.unwrap_or(&FUNCTIONS[0])
}
