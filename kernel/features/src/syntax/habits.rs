//! What people write who come from SQL, spreadsheets and other languages, and how it is written here.
//!
//! Looked at only where a text is no expression: nothing that is one is refused for what it looks like.

use super::words::{Kind, Piece, pieces};

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
    ("case", "a choice is written `condition ? this : that`"),
    ("if", "a choice is written `condition ? this : that`"),
    ("then", "a choice is written `condition ? this : that`"),
    ("else", "a choice is written `condition ? this : that`"),
    ("interval", "a length of time is written `duration('30d')`"),
];

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

/// What to write in place of a function that there is not.
pub(super) fn call(name: &str) -> Option<&'static str> {
    told(CALLS, name)
}

/// The first habit in a text that is no expression: where it stands, and what to write.
pub(super) fn first(text: &str) -> Option<(usize, String)> {
    let pieces = pieces(text);
    (0..pieces.len()).find_map(|place| {
        let around = Around { pieces: &pieces, place };
        around.habit().map(|told| (pieces[place].at, told))
    })
}

/// A piece with its neighbours.
struct Around<'p> {
    pieces: &'p [Piece<'p>],
    place: usize,
}

impl Around<'_> {
    fn before(&self, steps: usize) -> Option<&Piece<'_>> {
        self.place.checked_sub(steps).and_then(|place| self.pieces.get(place))
    }

    fn after(&self, steps: usize) -> Option<&Piece<'_>> {
        self.pieces.get(self.place + steps)
    }

    fn habit(&self) -> Option<String> {
        let piece = &self.pieces[self.place];
        match piece.kind {
            Kind::Quoted => None,
            Kind::Sign if QUOTES.contains(&piece.text) => {
                Some(format!("`{}` is not a straight quote; texts are written `'…'` or `\"…\"`", piece.text))
            }
            Kind::Sign => told(SIGNS, piece.text).map(str::to_owned),
            Kind::Word => self.word(piece),
        }
    }

    fn word(&self, piece: &Piece<'_>) -> Option<String> {
        let is_member = self.before(1).is_some_and(|before| before.is("."));
        if is_member {
            return None;
        }
        let next_is = |word: &str| self.after(1).is_some_and(|next| next.is_word(word));
        let is_called = self.after(1).is_some_and(|next| next.is("("));
        if piece.is_word("not") {
            return Some(match next_is("in") {
                true => "not in is written `!(x in ['a', 'b'])`".to_owned(),
                false => "not is written `!x`".to_owned(),
            });
        }
        if piece.is_word("is") {
            return Some(match (next_is("not"), next_is("null") || next_is("empty")) {
                (true, _) => "is not null is written `has(x)`".to_owned(),
                (false, true) => "is null is written `!has(x)`".to_owned(),
                (false, false) => "equality is written `==`".to_owned(),
            });
        }
        if piece.is_word("in") && (is_called || piece.text != "in") {
            return Some("a list stands in square brackets: `x in ['a', 'b']`".to_owned());
        }
        let told = if is_called { told(CALLS, piece.text) } else { told(WORDS, piece.text) };
        told.map(str::to_owned).or_else(|| self.name_in_pieces(piece)).or_else(|| self.number_in_pieces(piece))
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
        let depth = self.pieces[..self.place].iter().fold(0_i32, |depth, piece| match piece.text {
            "(" | "[" => depth + 1,
            ")" | "]" => depth - 1,
            _ => depth,
        });
        let whole = format!("{}{}", piece.text, rest.text);
        (joined && depth <= 0)
            .then(|| format!("numbers have a point and no commas: `{whole}` or `{}.{}`", piece.text, rest.text))
    }
}
