//! What people write who come from SQL, spreadsheets and other languages, and how it is written here.
//!
//! Looked at only where a text is no expression: nothing that is one is refused for what it looks like.

use super::words::{Kind, Piece, pieces};
use crate::functions::FUNCTIONS;

/// A sign of another language, and what to write.
const SIGNS: &[(&str, &str)] = &[
    ("=", "equality is written `==`"),
    ("===", "equality is written `==`"),
    ("<>", "inequality is written `!=`"),
    ("!==", "inequality is written `!=`"),
    ("=>", "at least is written `>=`"),
    ("=<", "at most is written `<=`"),
    ("≥", "at least is written `>=`"),
    ("≤", "at most is written `<=`"),
    ("≠", "inequality is written `!=`"),
    ("&", "and is written `&&`"),
    ("|", "or is written `||`"),
    ("=~", "a regular expression is written `x.matches('…')`"),
    ("!~", "a regular expression is written `!x.matches('…')`"),
    ("~", "a regular expression is written `x.matches('…')`"),
    ("−", "minus is written `-`"),
    ("–", "minus is written `-`"),
    ("×", "times is written `*`"),
    ("^", "there are no powers; multiply"),
    (";", "a condition is one expression and ends without `;`"),
    ("#", "comments are written `// …`"),
    ("$", "names stand without `$`"),
    ("@", "names stand without `@`"),
    ("`", "texts are written in straight quotes: `'…'`"),
];

/// Quotes that word processors make.
const QUOTES: [&str; 10] = ["‘", "’", "‚", "“", "”", "„", "«", "»", "‹", "›"];

/// A word between two operands, and what to write.
const WORDS: &[(&str, &str)] = &[
    ("and", "and is written `&&`"),
    ("or", "or is written `||`"),
    ("xor", "either, but not both, is written `a != b`"),
    ("like", "`like` is written `x.contains('…')`, `x.startsWith('…')`, `x.endsWith('…')` or `x.matches('…')`"),
    ("ilike", "`ilike` is written `x.lower().contains('…')`"),
    ("regexp", "a regular expression is written `x.matches('…')`"),
    ("rlike", "a regular expression is written `x.matches('…')`"),
    ("between", "`x between 1 and 5` is written `x >= 1 && x <= 5`"),
    ("contains", "write `x.contains('…')`"),
    ("includes", "write `x.contains('…')`, or `'…' in x` of a list"),
    ("has", "write `'…' in x` of a list, `has(x)` for whether it is there"),
    ("starts", "write `x.startsWith('…')`"),
    ("startswith", "write `x.startsWith('…')`"),
    ("ends", "write `x.endsWith('…')`"),
    ("endswith", "write `x.endsWith('…')`"),
    ("matches", "write `x.matches('…')`"),
    ("equals", "equality is written `==`"),
    ("eq", "equality is written `==`"),
    ("ne", "inequality is written `!=`"),
    ("neq", "inequality is written `!=`"),
    ("gt", "more than is written `>`"),
    ("gte", "at least is written `>=`"),
    ("lt", "less than is written `<`"),
    ("lte", "at most is written `<=`"),
    ("mod", "the remainder is written `%`"),
    ("where", "a condition stands alone, without `where`"),
    ("select", "a condition stands alone: what is after `where`"),
    ("from", "a condition stands alone: what is after `where`"),
    ("having", "a condition stands alone: what is after `where`"),
    ("group", "a condition stands alone: what is after `where`"),
    ("order", "a condition stands alone: what is after `where`"),
    ("limit", "a condition stands alone: what is after `where`"),
    ("union", "a condition stands alone: what is after `where`"),
    ("distinct", "write `list.distinct()`"),
    ("isnt", "inequality is written `!=`, is not null `has(x)`"),
    ("doesnt", "write `!x.contains('…')`"),
    ("case", "a choice is written `condition ? this : that`"),
    ("if", "a choice is written `condition ? this : that`"),
    ("then", "a choice is written `condition ? this : that`"),
    ("else", "a choice is written `condition ? this : that`"),
    ("interval", "a length of time is written `duration('30d')`"),
];

const CONSENT: &str = "no condition asks for consent: the `purpose` of the audience decides whom its messages go to, and the column \
                       `consent.PURPOSE` of searches and exports shows what is agreed to";

/// A name that means something elsewhere, and what to write.
const NAMES: &[(&str, &str)] = &[
    ("null", "write `null`, or `!has(x)` for what is absent"),
    ("none", "write `null`, or `!has(x)` for what is absent"),
    ("nil", "write `null`, or `!has(x)` for what is absent"),
    ("undefined", "write `null`, or `!has(x)` for what is absent"),
    ("true", "write `true`"),
    ("false", "write `false`"),
    ("yes", "write `true`, or `'yes'` for the text"),
    ("no", "write `false`, or `'no'` for the text"),
    ("today", "the present moment is `now`; events of today are `events('…', '1d')`"),
    ("current_date", "the present moment is `now`; events of today are `events('…', '1d')`"),
    ("current_timestamp", "the present moment is `now`"),
    ("sysdate", "the present moment is `now`"),
    ("yesterday", "a day ago is `now - duration('1d')`"),
    ("consent", CONSENT),
    ("tag", "tags are written `tags.x`"),
    ("score", "scores are written `scores.x`"),
    ("trait", "traits are written `traits.x`"),
    ("event", "events are written `events('Order Completed')`"),
    ("user", "what is known of a person is written `traits.x`, `tags.x`, `scores.x`"),
    ("person", "what is known of a person is written `traits.x`, `tags.x`, `scores.x`"),
    ("customer", "what is known of a person is written `traits.x`, `tags.x`, `scores.x`"),
    ("properties", "properties are those of an event: `events('Order Completed').exists(e, e.properties.total > 5)`"),
];

/// A function of another language, and what to write.
const CALLS: &[(&str, &str)] = &[
    ("not", "not is written `!x`"),
    ("and", "and is written `a && b`"),
    ("or", "or is written `a || b`"),
    ("if", "a choice is written `condition ? this : that`"),
    ("iif", "a choice is written `condition ? this : that`"),
    ("count", "how many is written `events('Order Completed').size()`"),
    ("length", "write `x.size()`"),
    ("len", "write `x.size()`"),
    ("average", "write `list.avg()`"),
    ("mean", "write `list.avg()`"),
    ("unique", "write `list.distinct()`"),
    ("now", "the present moment is `now`, without brackets"),
    ("today", "the present moment is `now`; events of today are `events('…', '1d')`"),
    ("getdate", "the present moment is `now`, without brackets"),
    ("current_date", "the present moment is `now`; events of today are `events('…', '1d')`"),
    ("current_timestamp", "the present moment is `now`, without brackets"),
    ("date", "a date is written `timestamp('2026-11-21')`, that of a trait `timestamp(traits.birthday)`"),
    ("to_date", "a date is written `timestamp('2026-11-21')`, that of a trait `timestamp(traits.birthday)`"),
    ("datetime", "a time is written `timestamp('2026-11-21T10:00:00Z')`"),
    ("datediff", "the time between is written `now - x > duration('30d')`"),
    ("date_diff", "the time between is written `now - x > duration('30d')`"),
    ("dateadd", "write `x + duration('30d')`"),
    ("date_add", "write `x + duration('30d')`"),
    ("interval", "a length of time is written `duration('30d')`"),
    ("curdate", "the present moment is `now`; events of today are `events('…', '1d')`"),
    ("timestampdiff", "the time between is written `now - x > duration('30d')`"),
    ("days_since", "the time between is written `now - x > duration('30d')`"),
    ("unix_timestamp", "times compare as they are: `x > now - duration('30d')`"),
    ("date_trunc", "write `x.year()`, `x.month()`, `x.day()`, or a window: `events('…', '1d')`"),
    ("extract", "write `x.year()`, `x.month()`, `x.day()`, `x.hour()`"),
    ("datepart", "write `x.year()`, `x.month()`, `x.day()`, `x.hour()`"),
    ("date_part", "write `x.year()`, `x.month()`, `x.day()`, `x.hour()`"),
    ("date_sub", "write `x - duration('30d')`"),
    ("datesub", "write `x - duration('30d')`"),
    ("subdate", "write `x - duration('30d')`"),
    ("ago", "a moment before is written `now - duration('30d')`"),
    ("nullif", "write `a == b ? null : a`"),
    ("char_length", "write `x.size()`"),
    ("convert", "write `double(x)`, `int(x)` or `string(x)`"),
    ("to_number", "write `double(x)`"),
    ("parsefloat", "write `double(x)`"),
    ("parseint", "write `int(x)`"),
    ("to_char", "write `string(x)`"),
    ("abs", "write `x < 0 ? -x : x`"),
    ("round", "`int(x + 0.5)` rounds, `int(x)` cuts"),
    ("floor", "`int(x)` cuts a number"),
    ("substring", "write `x.startsWith('…')`, `x.endsWith('…')` or `x.matches('…')`"),
    ("substr", "write `x.startsWith('…')`, `x.endsWith('…')` or `x.matches('…')`"),
    ("left", "write `x.startsWith('…')`"),
    ("right", "write `x.endsWith('…')`"),
    ("split", "write `x.contains('…')` or `x.matches('…')`"),
    ("trim", "spaces at the ends are passed over by `x.matches('^ *Rome *$')`"),
    ("where", "write `list.filter(e, …)`"),
    ("in_segment", "a tag is asked for with `tags.x == '…'`; audiences do not name each other"),
    ("segment", "a tag is asked for with `tags.x == '…'`; audiences do not name each other"),
    ("isnull", "what is absent is asked for with `!has(x)`"),
    ("is_null", "what is absent is asked for with `!has(x)`"),
    ("isset", "what is there is asked for with `has(x)`"),
    ("isnotnull", "what is there is asked for with `has(x)`"),
    ("exist", "what is there is asked for with `has(x)`"),
    ("defined", "what is there is asked for with `has(x)`"),
    ("empty", "absent or empty is written `x.size() == 0`"),
    ("isempty", "absent or empty is written `x.size() == 0`"),
    ("is_empty", "absent or empty is written `x.size() == 0`"),
    ("coalesce", "write `has(a) ? a : b`"),
    ("ifnull", "write `has(a) ? a : b`"),
    ("nvl", "write `has(a) ? a : b`"),
    ("concat", "texts are joined with `+`"),
    ("tolower", "write `x.lower()`"),
    ("tolowercase", "write `x.lower()`"),
    ("lowercase", "write `x.lower()`"),
    ("lcase", "write `x.lower()`"),
    ("toupper", "write `x.upper()`"),
    ("touppercase", "write `x.upper()`"),
    ("uppercase", "write `x.upper()`"),
    ("ucase", "write `x.upper()`"),
    ("starts_with", "write `x.startsWith('…')`"),
    ("startswith", "write `x.startsWith('…')`"),
    ("ends_with", "write `x.endsWith('…')`"),
    ("endswith", "write `x.endsWith('…')`"),
    ("includes", "write `x.contains('…')`, or `'…' in x` of a list"),
    ("indexof", "write `x.contains('…')`"),
    ("regexp", "a regular expression is written `x.matches('…')`"),
    ("regexp_like", "a regular expression is written `x.matches('…')`"),
    ("match", "a regular expression is written `x.matches('…')`"),
    ("test", "a regular expression is written `x.matches('…')`"),
    ("any", "write `list.exists(e, …)`"),
    ("some", "write `list.exists(e, …)`"),
    ("every", "write `list.all(e, …)`"),
    ("getmonth", "write `x.month()`, from 1 to 12"),
    ("getfullyear", "write `x.year()`"),
    ("getyear", "write `x.year()`"),
    ("getdayofmonth", "write `x.day()`"),
    ("dayofmonth", "write `x.day()`"),
    ("getday", "write `x.weekday()`, 1 for Monday"),
    ("dayofweek", "write `x.weekday()`, 1 for Monday"),
    ("getdayofweek", "write `x.weekday()`, 1 for Monday"),
    ("gethours", "write `x.hour()`"),
    ("gethour", "write `x.hour()`"),
    ("cast", "write `double(x)`, `int(x)` or `string(x)`"),
    ("number", "write `double(x)`"),
    ("float", "write `double(x)`"),
    ("integer", "write `int(x)`"),
    ("str", "write `string(x)`"),
    ("text", "write `string(x)`"),
    ("between", "`x between 1 and 5` is written `x >= 1 && x <= 5`"),
    ("event", "events are written `events('Order Completed')`"),
];

/// All habits by kind, for the reference and its test.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let of = |kind: &'static str, table: &'static [(&'static str, &'static str)]| {
        table.iter().map(move |(written, told)| (kind, *written, *told))
    };
    of("sign", SIGNS).chain(of("word", WORDS)).chain(of("name", NAMES)).chain(of("call", CALLS))
}

fn told(table: &'static [(&str, &str)], written: &str) -> Option<&'static str> {
    let lower = written.to_lowercase();
    table.iter().find(|(habit, _)| *habit == lower).map(|(_, told)| *told)
}

/// What to write in place of a name that there is not.
pub(super) fn name(name: &str) -> Option<&'static str> {
    told(NAMES, name)
}

/// The type of identifiers that a name is one of, as it is usually called.
pub(super) fn identifier(name: &str) -> Option<&'static str> {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    Some(match plain.as_str() {
        "email" | "mail" | "emailaddress" | "mailaddress" => "email",
        "phone" | "telephone" | "mobile" | "phonenumber" | "mobilenumber" => "phone",
        "userid" | "customerid" => "user_id",
        "anonymousid" => "anonymous_id",
        _ => return None,
    })
}

/// What to write in place of a field of `of` that is a function here or elsewhere: `traits.note.length`.
pub(crate) fn field(name: &str, of: &str) -> Option<String> {
    if matches!(name.to_lowercase().as_str(), "count" | "length" | "len" | "size") {
        return Some(format!("how long it is, or how many there are, is `{of}.size()`"));
    }
    let is_function = |name: &str| FUNCTIONS.iter().any(|spec| spec.name == name && spec.as_method && spec.others == 0);
    if is_function(name) {
        return Some(format!("write `{of}.{name}()`"));
    }
    call(name)
}

/// What to write in place of a function that there is not.
pub(super) fn call(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let is_known = lower != name && FUNCTIONS.iter().any(|spec| spec.name.to_lowercase() == lower);
    let known = || FUNCTIONS.iter().find(|spec| is_known && spec.name.to_lowercase() == lower);
    told(CALLS, name)
        .map(str::to_owned)
        .or_else(|| known().map(|spec| format!("the function is written `{}`", spec.name)))
}

/// The first habit in a text that is no expression: where it stands, and what to write.
pub(super) fn first(text: &str) -> Option<(usize, String)> {
    let pieces = pieces(text);
    (0..pieces.len()).find_map(|place| {
        let around = PieceContext { pieces: &pieces, place };
        around.habit().map(|told| (pieces[place].at, told))
    })
}

/// A piece with its neighbours.
struct PieceContext<'p> {
    pieces: &'p [Piece<'p>],
    place: usize,
}

impl PieceContext<'_> {
    fn before(&self, steps: usize) -> Option<&Piece<'_>> {
        self.place.checked_sub(steps).and_then(|place| self.pieces.get(place))
    }

    fn after(&self, steps: usize) -> Option<&Piece<'_>> {
        self.pieces.get(self.place + steps)
    }

    fn habit(&self) -> Option<String> {
        let piece = &self.pieces[self.place];
        match piece.kind {
            Kind::Quoted => self.doubled_quote(piece),
            Kind::Sign if QUOTES.contains(&piece.text) => {
                Some(format!("`{}` is not a straight quote; texts are written `'…'` or `\"…\"`", piece.text))
            }
            Kind::Sign => self.signs(piece).or_else(|| told(SIGNS, piece.text)).map(str::to_owned),
            Kind::Word => self.word(piece),
        }
    }

    /// Signs that stand directly behind each other, and those that mean something only where they stand.
    fn signs(&self, piece: &Piece<'_>) -> Option<&'static str> {
        let joined = self.after(1).filter(|next| next.kind == Kind::Sign && next.at == piece.end());
        let both = (piece.text, joined.map_or("", |next| next.text));
        let is_item = || {
            let (name, open) = (self.before(1), self.before(2));
            name.is_some_and(|name| name.kind == Kind::Word) && open.is_some_and(|open| open.is("("))
        };
        match both {
            ("=>", _) | ("-", ">" | ">=") if is_item() => {
                Some("an item has its name in front: `.exists(e, e.total > 5)`")
            }
            ("-", ">") => Some("a field is written `a.b`"),
            ("?", "?") => Some("write `has(a) ? a : b`"),
            ("?", ":") => Some("write `has(a) ? a : b`"),
            ("?", ".") => Some("write `a.b`: a field of what is absent is absent"),
            (":", ":") => Some("write `double(x)`, `int(x)` or `string(x)`"),
            ("{", "{") | ("{", "%") => Some("names stand alone, without `{{ }}`"),
            ("/", "*") => Some("comments are written `// …`"),
            ("-", "-") if self.place == 0 => Some("comments are written `// …`"),
            (":", _) if !self.pieces[..self.place].iter().any(|before| before.is("?")) => {
                Some("names stand without `:`")
            }
            ("%", _) if self.place == 0 => Some("names stand without `%`"),
            (",", _) if self.depth() <= 0 => Some("and is written `&&`"),
            _ => None,
        }
    }

    /// `'O''Brien'`
    fn doubled_quote(&self, piece: &Piece<'_>) -> Option<String> {
        let next = self.after(1).filter(|next| next.kind == Kind::Quoted && next.at == piece.end())?;
        let is_same = piece.text.ends_with('\'') && next.text.starts_with('\'');
        is_same.then(|| "a quote in a text is written `\\'`: `'O\\'Brien'`, or `\"O'Brien\"`".to_owned())
    }

    /// How many brackets are open before this piece.
    fn depth(&self) -> i32 {
        self.pieces[..self.place].iter().fold(0_i32, |depth, piece| match piece.text {
            "(" | "[" => depth + 1,
            ")" | "]" => depth - 1,
            _ => depth,
        })
    }

    fn word(&self, piece: &Piece<'_>) -> Option<String> {
        let is_member = self.before(1).is_some_and(|before| before.is("."));
        if is_member {
            return None;
        }
        let next_is = |word: &str| self.after(1).is_some_and(|next| next.is_word(word));
        let is_called = self.after(1).is_some_and(|next| next.is("("));
        if piece.is_word("not") {
            let told = match self.after(1).map(|next| next.text.to_lowercase()).as_deref() {
                Some("in") => "not in is written `!(x in ['a', 'b'])`",
                Some("like" | "ilike" | "contains" | "contain") => "not like is written `!x.contains('…')`",
                Some("between") => "`x not between 1 and 5` is written `x < 1 || x > 5`",
                _ => "not is written `!x`",
            };
            return Some(told.to_owned());
        }
        if piece.is_word("does") && next_is("not") {
            return Some("write `!x.contains('…')`".to_owned());
        }
        if piece.is_word("is") {
            let is_absent = |piece: &Piece<'_>| ["null", "empty", "none"].iter().any(|word| piece.is_word(word));
            return Some(match (next_is("not"), self.after(1).is_some_and(is_absent)) {
                (true, _) if !self.after(2).is_some_and(is_absent) => "inequality is written `!=`".to_owned(),
                (true, _) => "is not null is written `has(x)`".to_owned(),
                (false, true) => "is null is written `!has(x)`".to_owned(),
                (false, false) => "equality is written `==`".to_owned(),
            });
        }
        if piece.is_word("in") && (is_called || piece.text != "in") {
            return Some("a list stands in square brackets: `x in ['a', 'b']`".to_owned());
        }
        // A variable may be called like a word of another language.
        let is_variable = self.after(1).is_some_and(|next| next.is(".") || next.is(","));
        let told = match (is_called, is_variable) {
            (true, _) => told(CALLS, piece.text),
            (false, true) => None,
            (false, false) => told(WORDS, piece.text),
        };
        told.map(str::to_owned)
            .or_else(|| self.name_in_pieces(piece))
            .or_else(|| self.number_in_pieces(piece))
            .or_else(|| self.length_of_time(piece))
            .or_else(|| self.date(piece))
            .or_else(|| self.number_with_more(piece))
    }

    /// `30d`, `30 days`.
    fn length_of_time(&self, piece: &Piece<'_>) -> Option<String> {
        let digits = piece.text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, own) = piece.text.split_at(digits);
        let next = self.after(1).filter(|next| next.kind == Kind::Word).map_or("", |next| next.text);
        let unit = if own.is_empty() { next } else { own };
        let lower = unit.to_lowercase();
        if digits > 0 && (unit == "M" || matches!(lower.as_str(), "mo" | "month" | "months")) {
            let days = number.parse::<u64>().ok()?.checked_mul(30)?;
            return Some(format!("months have no fixed length; write days: `duration('{days}d')`"));
        }
        let unit = match lower.as_str() {
            "d" | "day" | "days" => "d",
            "h" | "hour" | "hours" => "h",
            "w" | "week" | "weeks" => "w",
            "m" | "min" | "minute" | "minutes" => "m",
            "s" | "sec" | "second" | "seconds" => "s",
            _ => return None,
        };
        (digits > 0).then(|| format!("a length of time is written `duration('{number}{unit}')`"))
    }

    /// `DATE '2026-11-01'`, `01.11.2026`.
    fn date(&self, piece: &Piece<'_>) -> Option<String> {
        let is_typed = ["date", "timestamp", "datetime"].iter().any(|word| piece.is_word(word));
        let before_text = is_typed && self.after(1).is_some_and(|next| next.kind == Kind::Quoted);
        let is_number = |piece: Option<&Piece<'_>>, most: usize| {
            piece.is_some_and(|piece| piece.text.len() <= most && piece.text.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let is_sign = |steps: usize| self.after(steps).is_some_and(|sign| sign.is(".") || sign.is("/"));
        let has_points = is_number(Some(piece), 2) && is_sign(1) && is_number(self.after(2), 2) && is_sign(3);
        (before_text || (has_points && is_number(self.after(4), 4)))
            .then(|| "a date is written in quotes, the year in front: `'2026-11-21'`".to_owned())
    }

    /// `1_000`, `5 EUR`.
    fn number_with_more(&self, piece: &Piece<'_>) -> Option<String> {
        let digits: String = piece.text.chars().filter(char::is_ascii_digit).collect();
        let is_number = piece.text.starts_with(|letter: char| letter.is_ascii_digit());
        let is_in_groups = piece.text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
        if is_number && is_in_groups && piece.text.contains('_') {
            return Some(format!("numbers are written without signs between: `{digits}`"));
        }
        let unit = self.after(1).filter(|next| next.kind == Kind::Word && !next.is("in"))?;
        let is_unit = unit.text.len() <= 4 && !unit.text.starts_with(|letter: char| letter.is_ascii_digit());
        let is_known = told(WORDS, unit.text).is_some() || ["not", "is"].iter().any(|word| unit.is_word(word));
        (is_number && is_in_groups && is_unit && !is_known)
            .then(|| format!("a number stands alone, without `{}`", unit.text))
    }

    /// `traits.first name`: a word right behind a member's name.
    fn name_in_pieces(&self, piece: &Piece<'_>) -> Option<String> {
        let (name, dot) = (self.before(1)?, self.before(2)?);
        let is_name = name.kind == Kind::Word && dot.is(".") && piece.at == name.end() + 1;
        let (name, rest) = (name.text, piece.text);
        is_name.then(|| format!("a name with a space is written in brackets: `['{name} {rest}']`"))
    }

    /// `1,000` outside of brackets.
    fn number_in_pieces(&self, piece: &Piece<'_>) -> Option<String> {
        let is_number = |piece: &Piece<'_>| piece.text.bytes().all(|byte| byte.is_ascii_digit());
        let (comma, rest) = (self.after(1)?, self.after(2)?);
        let joined = comma.is(",") && is_number(piece) && is_number(rest) && rest.at == piece.end() + 1;
        let whole = format!("{}{}", piece.text, rest.text);
        (joined && self.depth() <= 0)
            .then(|| format!("numbers have a point and no commas: `{whole}` or `{}.{}`", piece.text, rest.text))
    }
}
