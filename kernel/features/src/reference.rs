//! The reference of the language for people who are not programmers: `docs/conditions.md`, written from the tables that the
//! checker goes by. A test compares the two and evaluates every example.

use std::fmt::Write as _;

use crate::functions::{FUNCTIONS, FunctionSpec};
use crate::syntax::{MAX_EXPRESSION_BYTES, MAX_OPERATORS, habits};
use crate::window::MAX_WINDOW_DAYS;

/// The present moment and the zone of the examples.
pub(crate) const NOW: &str = "2026-11-21T10:00:00Z";
pub(crate) const ZONE: &str = "Europe/Berlin";
pub(crate) const CREATED_AT: &str = "2026-01-02T03:04:05Z";

/// The traits of the person of the examples, in JSON.
pub(crate) const TRAITS: &[(&str, &str)] = &[
    ("city", r#""Rome""#),
    ("age", "41"),
    ("vip", "true"),
    ("zip", r#""00184""#),
    ("paid", r#""120.50""#),
    ("birthday", r#""1985-11-30""#),
    ("last visit", r#""2026-11-20""#),
    ("likes", r#"["tea","figs"]"#),
    ("tags", r#""loyal""#),
    ("address", r#"{"street":"Via Appia","floor":3}"#),
    ("note", r#""""#),
];

/// Her tags and scores.
pub(crate) const TAGS: &[(&str, &str)] = &[("lifecycle", r#""loyal""#)];
pub(crate) const SCORES: &[(&str, &str)] = &[("clv", "120.5")];

/// Her events: name, time, properties.
pub(crate) const EVENTS: &[(&str, &str, &str)] = &[
    ("Order Completed", "2026-10-01T09:00:00Z", r#"{"total":10.5}"#),
    ("Order Completed", "2026-11-10T19:30:00Z", r#"{"total":20,"shipping cost":4.9}"#),
    (
        "Order Completed",
        "2026-11-20T09:00:00Z",
        r#"{"total":"30.00","coupon":"X","items":[{"sku":"a","price":5},{"sku":"b","price":25}]}"#,
    ),
    ("Page Viewed", "2026-11-21T09:30:00Z", r#"{"path":"/figs","name":"Figs"}"#),
];

/// An expression about her, and what it gives.
pub(crate) type Example = (&'static str, &'static str);

/// What is written, what it is, an example.
type Row = (&'static str, &'static str, Example);

const NAMES: &[Row] = &[
    ("`traits.city`", "a trait, its newest value", ("traits.city == 'Rome'", "true")),
    ("`traits['last visit']`", "a trait whose name is no plain word", ("has(traits['last visit'])", "true")),
    ("`traits.address.street`", "a field of an object", ("traits.address.street.startsWith('Via')", "true")),
    ("`tags.lifecycle`", "what a tag model says", ("tags.lifecycle in ['loyal', 'champion']", "true")),
    ("`scores.clv`", "what a scorer says", ("scores.clv > 100", "true")),
    (
        "`profile.created_at`",
        "when Kith first received something of the person: of a backfill the time of the import",
        ("profile.created_at < now - duration('30d')", "true"),
    ),
    (
        "`profile.identifiers.email`",
        "the list of the person's addresses; of each type of identifier alike",
        ("has(profile.identifiers.email)", "true"),
    ),
    ("`now`", "the present moment", ("now > '2026-11-21'", "true")),
    (
        "`events('Order Completed')`",
        "the person's events of that name, earliest first",
        ("events('Order Completed').size()", "3"),
    ),
    ("`events('Order Completed', '30d')`", "those in a window", ("events('Order Completed', '30d').size()", "2")),
    (
        "`events('*')`",
        "all that was sent of the person, `identify` and page views among it; what Kith tells of its own messages (`Message Delivered`, …) is found by its name",
        ("events('*').size()", "4"),
    ),
];

const FIELDS: &[Row] = &[
    ("`e.total`", "a property by its bare name", ("events('Order Completed').exists(e, e.total > 15)", "true")),
    (
        "`e.properties['shipping cost']`",
        "any property, whatever its name",
        ("events('Order Completed').exists(e, e.properties['shipping cost'] > 4)", "true"),
    ),
    (
        "`e.name`, `e.time`, `e.kind`, `e.source`",
        "the event's own fields. A property that is called so is `e.properties.name`",
        ("events('Page Viewed').last().properties.name", "'Figs'"),
    ),
    (
        "`e.properties`, `e.traits`, `e.context`",
        "the objects that came with the event",
        ("events('Page Viewed').exists(e, has(e.context.ip))", "false"),
    ),
];

const OPERATORS: &[Row] = &[
    ("`==` `!=`", "equal, not equal", ("traits.city != 'Oslo'", "true")),
    ("`<` `<=` `>` `>=`", "less, at most, more, at least; of numbers, times and texts", ("traits.age >= 18", "true")),
    ("`in`", "whether a list has an item", ("traits.city in ['Oslo', 'Rome']", "true")),
    (
        "`&&` `\\|\\|` `!`",
        "and, or, not; `!` stands for what is directly behind it",
        ("traits.vip && !(traits.city in ['Oslo', 'Bergen'])", "true"),
    ),
    (
        "`( )`",
        "what belongs together; `&&` goes before `\\|\\|`",
        ("(traits.age < 18 || traits.age > 40) && traits.vip", "true"),
    ),
    (
        "`+` `-` `*` `/` `%`",
        "sums, differences, products, quotients, remainders; `+` joins texts and lists, too",
        ("traits.age / 2", "20.5"),
    ),
    ("`c ? a : b`", "`a` where `c` holds, else `b`", ("traits.age >= 18 ? 'adult' : 'minor'", "'adult'")),
    (
        "`has( )`",
        "whether something is there: any value, or an event",
        ("has(traits.city) && has(events('Order Completed', '1mo'))", "true"),
    ),
    (
        "`.matches('…')`",
        "whether a regular expression is found in a text",
        ("traits.zip.matches('^[0-9]{5}$')", "true"),
    ),
];

const MACROS: &[Row] = &[
    (
        "`.exists(e, …)`",
        "whether it holds for one of them at least",
        ("events('Order Completed').exists(e, e.coupon == 'X')", "true"),
    ),
    (
        "`.all(e, …)`",
        "whether it holds for each; true of none",
        ("events('Order Completed').all(e, e.total > 5)", "true"),
    ),
    (
        "`.exists_one(e, …)`",
        "whether it holds for exactly one",
        ("events('Order Completed').exists_one(e, has(e.coupon))", "true"),
    ),
    ("`.filter(e, …)`", "those for which it holds", ("events('Order Completed').filter(e, e.total > 15).size()", "2")),
    ("`.map(e, …)`", "a value of each", ("events('Order Completed').map(e, e.total)", "[10.5, 20, '30.00']")),
    (
        "`.filter(e, …).map(e, …)`",
        "a value of those for which it holds",
        ("events('Order Completed').filter(e, e.total > 15).map(e, e.total).sum()", "50.0"),
    ),
    (
        "`.map(e, {'a': …, 'b': …})`",
        "an object of each, of 1 to 16 fields; what is absent is null in its field. Plugins take such a list as records",
        (
            "events('Order Completed').map(e, {'total': e.total, 'coupon': e.coupon})",
            "[{'coupon': null, 'total': 10.5}, {'coupon': null, 'total': 20}, {'coupon': 'X', 'total': '30.00'}]",
        ),
    ),
    (
        "`.exists(i, …)` in `.exists(e, …)`",
        "lists in events",
        ("events('Order Completed').exists(e, e.items.exists(i, i.sku == 'b'))", "true"),
    ),
];

/// What is asked, an expression, what it gives.
const MEANINGS: &[(&str, &[Example])] = &[
    (
        "What is absent equals nothing but `null`, and is not equal to everything else.",
        &[
            ("traits.plan == 'gold'", "false"),
            ("traits.plan != 'gold'", "true"),
            ("traits.plan == null", "true"),
            ("has(traits.plan)", "false"),
        ],
    ),
    (
        "A value that was sent as `null` is absent. An empty text is there; `size` is 0 of both.",
        &[
            ("has(traits.note)", "true"),
            ("traits.note == ''", "true"),
            ("traits.plan == ''", "false"),
            ("traits.note.size() == 0 && traits.plan.size() == 0", "true"),
        ],
    ),
    (
        "What is absent is neither less nor more than anything.",
        &[("traits.visits < 5", "false"), ("traits.visits >= 5", "false")],
    ),
    (
        "`!` turns what holds into what does not: whoever never said is among those who did not.",
        &[
            ("!traits.subscribed", "true"),
            ("!(traits.visits >= 5)", "true"),
            ("!(traits.plan in ['gold'])", "true"),
            ("!('tea' in traits.dislikes)", "true"),
        ],
    ),
    ("To leave out who never said, ask with `has`.", &[("has(traits.subscribed) && !traits.subscribed", "false")]),
    (
        "What is neither true nor false does not hold.",
        &[("traits.city && true", "false"), ("traits.plan || false", "false")],
    ),
    (
        "A text that is written exactly as a number counts as the number beside a number: in comparisons, in calculations, in `in`, and in `sum`, `avg`, `min`, `max`.",
        &[
            ("traits.paid > 100", "true"),
            ("traits.paid == 120.5", "true"),
            ("'7.0' == 7", "true"),
            ("traits.paid * 2", "241.0"),
            ("7 in ['7', 'x']", "true"),
            ("['19.90', 0.1].sum()", "20.0"),
        ],
    ),
    (
        "Exactly means as JSON writes it: no spaces, no zeros before it, a point for fractions, no thousands. Other texts are no numbers; `double( )` takes more.",
        &[
            ("traits.zip == 184", "false"),
            ("'1,5' == 1.5", "false"),
            ("double(traits.zip) == 184", "true"),
            ("['1,5', '2'].sum()", "2"),
        ],
    ),
    (
        "Two texts compare letter by letter, capitals before small letters, whatever they look like.",
        &[
            ("'100' > '5'", "false"),
            ("double('100') > 5", "true"),
            ("'Rome' == 'rome'", "false"),
            ("traits.city.lower() == 'rome'", "true"),
        ],
    ),
    (
        "Kinds that do not go together are not equal, and neither is less.",
        &[
            ("traits.vip == 'true'", "false"),
            ("traits.vip == 1", "false"),
            ("traits.city > 5", "false"),
            ("traits.city != 5", "true"),
        ],
    ),
    (
        "Where a list belongs, what is absent is the empty list and what is no list is a list of itself alone.",
        &[
            ("'loyal' in traits.tags", "true"),
            ("traits.tags.exists(t, t == 'loyal')", "true"),
            ("'tea' in traits.nothing", "false"),
            ("traits.nothing.size()", "0"),
            ("traits.nothing.all(x, x > 1)", "true"),
        ],
    ),
    (
        "What is always a list (identifiers, `map`, `filter`, `distinct`) is compared with lists alone: beside one value, in a calculation and \
         before a function of one value it is refused, with what to write. A text is asked for with `in`, a part of one with `exists`.",
        &[
            ("'ada@example.org' in profile.identifiers.email", "true"),
            ("profile.identifiers.email.exists(i, i.endsWith('@example.org'))", "true"),
            ("events('Order Completed').map(e, e.total).sum() > 5", "true"),
        ],
    ),
    (
        "Calculating with what is absent, or with kinds that do not go together, gives nothing.",
        &[("traits.visits + 1", "null"), ("1 + 'a'", "null"), ("1 / 0", "null"), ("'a' + 'b'", "'ab'")],
    ),
    (
        "Functions of texts (`contains`, `startsWith`, `endsWith`, `matches`, `lower`, `upper`) read a number as it is written, without thousands. \
         Of what is absent, true or false, a time, a list or an object the tests do not hold and `lower` and `upper` give nothing; `contains` alone asks a list for an item.",
        &[
            ("lower(traits.age)", "'41'"),
            ("traits.age.startsWith('4')", "true"),
            ("string(scores.clv).endsWith('.5')", "true"),
            ("traits.city.contains(5)", "false"),
            ("traits.nothing.contains('')", "false"),
            ("lower(traits.nothing)", "null"),
            ("lower(traits.vip)", "null"),
            ("traits.likes.startsWith('te')", "false"),
            ("traits.likes.contains('tea')", "true"),
            ("upper(traits.likes)", "null"),
        ],
    ),
    (
        "A text that is a date or a time compares with times: `2026-11-21`, `2026-11-21T10:00:00Z`, `2026-11-21 10:00`. A date is its midnight in the workspace's zone, a time without a zone one of its clocks. Dates of other ways of writing (`21.11.2026`) are texts.",
        &[
            ("traits['last visit'] < now", "true"),
            ("timestamp('2026-11-21 10:00') == timestamp('2026-11-21T09:00:00Z')", "true"),
            ("now - traits['last visit'] == duration('35h')", "true"),
            ("timestamp('2026-11-21') == timestamp('2026-11-20T23:00:00Z')", "true"),
        ],
    ),
    (
        "A whole number beyond 9223372036854775807, and every number with a fraction, is the nearest one of 64-bit floating point: some 16 digits decide. Ids are better sent as texts, which compare letter by letter.",
        &[
            ("123456789012345678901 == 123456789012345678902", "true"),
            ("9007199254740993 == 9007199254740992", "false"),
            ("'123456789012345678901' == '123456789012345678902'", "false"),
        ],
    ),
    ("Quotients are exact.", &[("7 / 2", "3.5"), ("6 / 3", "2.0")]),
];

/// A window, what it holds, and how many of her orders.
const WINDOWS: &[Row] = &[
    (
        "`'30d'`, `'1d'`, `'3w'`",
        "days of the calendar in the workspace's zone: today and those before it, so many in all; a week is seven",
        ("events('Order Completed', '2d').size()", "1"),
    ),
    (
        "`'6mo'`, `'1y'`",
        "months and years of the calendar: on 26 November `'1mo'` begins on 27 October",
        ("events('Order Completed', '1mo').size()", "2"),
    ),
    (
        "`'36h'`, `'90m'`, `'45s'`",
        "exactly that long, up to this moment",
        ("events('Order Completed', '24h').size()", "0"),
    ),
    (
        "`'30d rolling'`, `'2w rolling'`",
        "the same with days of 24 hours",
        ("events('Order Completed', '2d rolling').size()", "1"),
    ),
    ("none", "all time", ("events('Order Completed').size()", "3")),
];

/// Whole conditions that people ask for.
const RECIPES: &[(&str, Example)] = &[
    ("Bought twice in 90 days", ("events('Order Completed', '90d').size() >= 2", "true")),
    ("Spent more than 50", ("events('Order Completed').map(e, e.total).sum() > 50", "true")),
    (
        "Put into the cart, not bought",
        ("has(events('Product Added', '14d')) && !has(events('Order Completed', '14d'))", "false"),
    ),
    ("Not seen for a week", ("!has(events('*', '7d'))", "false")),
    (
        "Bought, and not in the last half year",
        ("has(events('Order Completed')) && !has(events('Order Completed', '6mo'))", "false"),
    ),
    ("Birthday this month", ("traits.birthday.month() == now.month()", "true")),
    ("Birthday today", ("traits.birthday.month() == now.month() && traits.birthday.day() == now.day()", "false")),
    ("Last visit in the last 30 days", ("traits['last visit'] > now - duration('30d')", "true")),
    ("Bought this article", ("events('Order Completed').exists(e, e.items.exists(i, i.sku == 'b'))", "true")),
    ("Buys in the evening", ("events('Order Completed').exists(e, e.time.hour() >= 18)", "true")),
    ("First order this month", ("events('Order Completed').first().time >= timestamp('2026-11-01')", "false")),
    ("Everybody but one address", ("!('ada@example.org' in profile.identifiers.email)", "false")),
    ("Not known to live in Oslo", ("!(traits.city == 'Oslo')", "true")),
];

/// All examples.
#[cfg(test)]
pub(crate) fn examples() -> impl Iterator<Item = Example> {
    let rows = [NAMES, FIELDS, OPERATORS, MACROS, WINDOWS].into_iter().flatten().map(|(_, _, example)| *example);
    let meanings = MEANINGS.iter().flat_map(|(_, examples)| examples.iter().copied());
    let functions = FUNCTIONS.iter().map(|spec| spec.example);
    rows.chain(meanings).chain(functions).chain(RECIPES.iter().map(|(_, example)| *example))
}

/// The page.
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    person(&mut page);
    page.push_str("## What people ask for\n\n| | condition |\n| --- | --- |\n");
    for (what, (text, _)) in RECIPES {
        line(&mut page, format_args!("| {what} | {} |", code(text)));
    }
    rows(&mut page, "Names", "", NAMES);
    rows(&mut page, "An event's fields", FIELDS_TEXT, FIELDS);
    rows(&mut page, "Operators", "", OPERATORS);
    rows(&mut page, "Lists and events", MACROS_TEXT, MACROS);
    meanings(&mut page);
    rows(&mut page, "Windows", "", WINDOWS);
    line(&mut page, format_args!("\nThe longest is `'{MAX_WINDOW_DAYS}d'`, `'10y'`. {WINDOWS_TEXT}"));
    functions(&mut page);
    habits_of_others(&mut page);
    line(
        &mut page,
        format_args!(
            "\n## Bounds\n\nAn expression has at most {MAX_EXPRESSION_BYTES} bytes, {MAX_OPERATORS} operators and 100 levels. {BOUNDS_TEXT}"
        ),
    );
    page
}

const HEAD: &str = "# Conditions

A condition says of each person whether it holds: who is in an audience, whom a message goes to. The same language gives plugins their inputs.
The syntax is that of [CEL](https://cel.dev). This page is written from the tables that the checker goes by, and every example on it runs in a test.

";

const FIELDS_TEXT: &str = "Inside `filter`, `map`, `exists`, `all` and `exists_one`, and after `first()` and `last()`. \
`now`, traits, tags and scores cannot be used there: a window, or a comparison after `map`, says the same.";

const MACROS_TEXT: &str = "`e` is a name of your choice for one of them.";

const WINDOWS_TEXT: &str = "A person leaves a window by time alone, without an event. Each spelling has one meaning: `h`, `m`, `s` \
and `rolling` go to the second, `d`, `w`, `mo` and `y` by the calendar of the workspace's zone, whose days have 23 or 25 hours when clocks are set.";

const BOUNDS_TEXT: &str = "What cannot be kept up to date is refused with its line and column when it is written, never later. \
Nothing fails while it is evaluated.\n\nMembership of another audience cannot be asked for; write its condition.";

const HABITS_TEXT: &str = "What other languages write is answered with its place and with what to write here. Texts stand in `'…'` or `\"…\"`.";

const PENDING_TEXT: &str = "A tag or score whose model has not answered yet is pending, and so is a condition that depends on it: the person neither enters nor \
leaves meanwhile, counts as `pending`, and an explanation says `unknown`. Where the rest decides, the condition is known all the same.";

const NAMES_TEXT: &str = "A name that nobody has written so far (an event, a property, a trait, a tag, a score, a value) is no error, because it may still come. \
Counts, previews and saved audiences say so under `warnings`, with the name that may be meant; `\"strict\": true` (`kith audience create --strict`) refuses it. \
`kith catalog` and `GET /api/v1/catalog` list the names that there are.";

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text does not fail.
    let _ = writeln!(page, "{text}");
}

/// A text as code in a cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn person(page: &mut String) {
    page.push_str("## The person of the examples\n\n");
    line(page, format_args!("It is {NOW} and the workspace's zone is {ZONE}. This is known of her:\n"));
    page.push_str("| | |\n| --- | --- |\n");
    for (root, facts) in [("traits", TRAITS), ("tags", TAGS), ("scores", SCORES)] {
        for (name, json) in facts {
            line(page, format_args!("| {root} | `{name}`: `{json}` |"));
        }
    }
    line(page, format_args!("| profile | created at {CREATED_AT}, e-mail `ada@example.org` |"));
    for (name, time, properties) in EVENTS {
        line(page, format_args!("| {name} | {time}, `{properties}` |"));
    }
    page.push('\n');
}

fn rows(page: &mut String, title: &str, text: &str, rows: &[Row]) {
    line(page, format_args!("\n## {title}\n"));
    if !text.is_empty() {
        line(page, format_args!("{text}\n"));
    }
    page.push_str("| written | is | example | gives |\n| --- | --- | --- | --- |\n");
    for (written, about, (text, gives)) in rows {
        line(page, format_args!("| {written} | {about} | {} | `{gives}` |", code(text)));
    }
}

fn meanings(page: &mut String) {
    page.push_str("\n## What is absent, and what kinds mean beside each other\n\n");
    page.push_str("| rule | example | gives |\n| --- | --- | --- |\n");
    for (rule, examples) in MEANINGS {
        for (place, (text, gives)) in examples.iter().enumerate() {
            let rule = if place == 0 { rule } else { "" };
            line(page, format_args!("| {rule} | {} | `{gives}` |", code(text)));
        }
    }
    line(page, format_args!("\n{PENDING_TEXT}\n\n{NAMES_TEXT}"));
}

fn functions(page: &mut String) {
    page.push_str("\n## Functions\n\n| written | gives | example | which gives |\n| --- | --- | --- | --- |\n");
    for FunctionSpec { name, others, as_function, as_method, about, example: (text, gives), .. } in &FUNCTIONS {
        let written = match (as_method, as_function, others) {
            (true, true, _) => format!("`x.{name}()`, `{name}(x)`"),
            (true, false, 0) => format!("`x.{name}()`"),
            (true, false, _) => format!("`x.{name}(y)`"),
            (false, ..) => format!("`{name}(x)`"),
        };
        line(page, format_args!("| {written} | {about} | {} | `{gives}` |", code(text)));
    }
}

fn habits_of_others(page: &mut String) {
    line(page, format_args!("\n## What is written otherwise\n\n{HABITS_TEXT}\n"));
    page.push_str("| written elsewhere | here |\n| --- | --- |\n");
    line(page, format_args!("| `x not in list` | not in is written `!(x in ['a', 'b'])` |"));
    line(page, format_args!("| `x is null`, `x is not null` | `!has(x)`, `has(x)` |"));
    line(page, format_args!("| `x in ('a', 'b')` | a list stands in square brackets: `x in ['a', 'b']` |"));
    line(
        page,
        format_args!("| `traits.first name` | a name with a space is written in brackets: `traits['first name']` |"),
    );
    for (kind, written, told) in habits::all() {
        let shown = match kind {
            "call" => format!("{written}( )"),
            _ => written.to_owned(),
        };
        let shown = if written == "`" { "`` ` ``".to_owned() } else { code(&shown) };
        line(page, format_args!("| {shown} | {} |", told.replace('|', "\\|")));
    }
}
