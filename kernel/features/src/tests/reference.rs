//! The reference: its examples are evaluated, its habits are written, and the page is compared with the tables.

use kith_model::event::Event;

use super::{Someone, at, event};
use crate::reference::{CREATED_AT, EVENTS, NOW, SCORES, TAGS, TRAITS, ZONE, examples};
use crate::syntax::habits;
use crate::{EventFacts, Expression, LeafId, LeafState, Program, Value, Zone, naive, reference};

fn ada() -> Someone {
    let facts = |facts: &[(&str, &str)]| {
        facts.iter().map(|(name, json)| ((*name).to_owned(), Value::from_json_text(json))).collect()
    };
    Someone { traits: facts(TRAITS), tags: facts(TAGS), scores: facts(SCORES), created_at: Some(at(CREATED_AT)) }
}

/// The value both ways; they must agree.
fn evaluate(text: &str) -> Value {
    let (now, zone) = (at(NOW), Zone::parse(ZONE).unwrap());
    let expression = Expression::parse_in(text, ZONE).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let history: Vec<Event> = EVENTS
        .iter()
        .enumerate()
        .map(|(number, (name, time, properties))| event(name, at(time), &format!("m{number}"), properties))
        .collect();
    let events: Vec<EventFacts<'_>> = history.iter().map(|event| EventFacts::new(event, "shop")).collect();
    let program = Program::new([&expression]);
    let leaf_value = |id: LeafId| {
        let leaf = program.leaf(id).unwrap();
        let mut state = LeafState::default();
        for event in &events {
            leaf.apply(&mut state, event, now, &zone);
        }
        leaf.value(&state, now, &zone)
    };
    let compiled = expression.evaluate(&ada(), &leaf_value, now);
    assert_eq!(compiled, naive::evaluate(&expression, &ada(), &events, now, &zone), "{text}");
    compiled
}

#[test]
fn every_example_of_the_reference_gives_what_it_says() {
    for (text, gives) in examples() {
        assert_eq!(evaluate(text).to_string(), gives, "{text}");
    }
}

/// Each function of texts over each kind that a trait may have come in: a number is read as it is written, and nothing else is a text.
#[test]
fn functions_of_texts_read_numbers_and_nothing_else() {
    const CALLS: [&str; 7] = [
        "lower(x)",
        "upper(x)",
        "string(x)",
        "x.contains('4')",
        "x.startsWith('4')",
        "x.endsWith('1')",
        "x.matches('^4')",
    ];
    let nothing = ["null", "null", "null", "false", "false", "false", "false"];
    for (target, gives) in [
        ("'4X1'", ["'4x1'", "'4X1'", "'4X1'", "true", "true", "true", "true"]),
        ("traits.age", ["'41'", "'41'", "'41'", "true", "true", "true", "true"]),
        ("scores.clv", ["'120.5'", "'120.5'", "'120.5'", "false", "false", "false", "false"]),
        ("traits.vip", ["null", "null", "'true'", "false", "false", "false", "false"]),
        ("[null].first()", nothing),
        ("traits.nothing", nothing),
        ("traits.likes", nothing),
        ("traits.address", nothing),
    ] {
        for (call, gives) in CALLS.into_iter().zip(gives) {
            let text = call.replacen("x)", &format!("{target})"), 1).replacen("x.", &format!("{target}."), 1);
            assert_eq!(evaluate(&text).to_string(), gives, "{text}");
        }
    }
    assert_eq!(evaluate("traits.likes.contains('tea')").to_string(), "true", "an item of a list");
    // Without thousands, and without a fraction that is none.
    for (number, written) in [("5", "'5'"), ("2.50", "'2.5'"), ("-3", "'-3'"), ("4.0", "'4'")] {
        assert_eq!(evaluate(&format!("lower({number})")).to_string(), written, "{number}");
    }
}

/// The page is written anew with `KITH_WRITE_DOCS=1 cargo test --workspace --release --lib reference`.
#[test]
fn the_page_is_that_of_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/conditions.md");
    if std::env::var_os("KITH_WRITE_DOCS").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page == reference(), "docs/conditions.md differs from the tables; write it anew");
}

/// What is written by habit, and the message at its place.
fn refusal(text: &str, at: usize) -> String {
    let error = match Expression::parse(text) {
        Err(error) => error,
        Ok(_) => panic!("{text} is an expression"),
    };
    let column = text[..at].chars().count() + 1;
    assert_eq!((error.line, error.column), (1, column), "{text}\n{error}");
    error.message
}

/// Whole conditions as they are written elsewhere, the place of the first habit, and what is said of it.
const FOREIGN: &[(&str, usize, &str)] = &[
    ("traits.a = 1", 9, "`==`"),
    ("traits.a == 1 AND traits.b == 2", 14, "`&&`"),
    ("traits.a == 1 or traits.b == 2", 14, "`||`"),
    ("not (traits.a == 1)", 0, "`!x`"),
    ("traits.a <> 1", 9, "`!=`"),
    ("traits.a NOT IN ('x')", 9, "`!(x in"),
    ("traits.a is none", 9, "`!has(x)`"),
    ("traits.a is not 1", 9, "`!=`"),
    ("traits.a is 1", 9, "`==`"),
    ("traits.a isnt 1", 9, "`!=`"),
    ("traits.a like 'x%'", 9, "`x.startsWith('…')`"),
    ("traits.a not like 'x%'", 9, "`!x.contains('…')`"),
    ("traits.a does not contain 'x'", 9, "`!x.contains('…')`"),
    ("traits.a contains 'x'", 9, "`x.contains('…')`"),
    ("traits.a between 1 and 5", 9, "`x >= 1 && x <= 5`"),
    ("traits.a not between 1 and 5", 9, "`x < 1 || x > 5`"),
    ("count(*) > 1", 0, "size()"),
    ("count() > 1", 0, "size()"),
    ("count(distinct traits.a) > 1", 0, "size()"),
    ("today() > traits.a", 0, "`now`"),
    ("now() > traits.a", 0, "`now`"),
    ("curdate() > traits.a", 0, "`now`"),
    ("CURRENT_DATE > traits.a", 0, "`now`"),
    ("date_sub(traits.a, 30)", 0, "`x - duration('30d')`"),
    ("DATE_SUB(traits.a, INTERVAL 30 DAY)", 0, "`x - duration('30d')`"),
    ("traits.a > now - interval '30 days'", 17, "`duration('30d')`"),
    ("traits.a > now - 30d", 17, "`duration('30d')`"),
    ("traits.a > now - 30 days", 17, "`duration('30d')`"),
    ("traits.a > now - 2 hours", 17, "`duration('2h')`"),
    ("DATEDIFF(traits.a, now) > 3", 0, "`now - x > duration('30d')`"),
    ("timestampdiff(day, traits.a, now) > 3", 0, "`now - x > duration('30d')`"),
    ("LOWER(traits.a) == 'x'", 0, "`lower`"),
    ("traits.a.StartsWith('x')", 9, "`x.startsWith('…')`"),
    ("traits.a.toLowerCase() == 'x'", 9, "`x.lower()`"),
    ("traits.a === 1", 9, "`==`"),
    ("traits.a !== 1", 9, "`!=`"),
    ("traits.a | traits.b", 9, "`||`"),
    ("traits.a & traits.b", 9, "`&&`"),
    ("`traits.a` == 1", 0, "straight quotes"),
    ("$.a == 1", 0, "without `$`"),
    ("${a} == 1", 0, "without `$`"),
    ("@a == 1", 0, "without `@`"),
    (":a == 1", 0, "without `:`"),
    ("%a% == 1", 0, "without `%`"),
    ("{{traits.a}} == 1", 0, "`{{ }}`"),
    ("{% if a %}", 0, "`{{ }}`"),
    ("traits.a == 'O''Brien'", 12, r"`'O\'Brien'`"),
    ("traits->a == 1", 6, "`a.b`"),
    ("traits.a->>'b' == 'x'", 8, "`a.b`"),
    ("traits.a::int > 1", 8, "`int(x)`"),
    ("traits.a ?? 'x' == 'x'", 9, "`has(a) ? a : b`"),
    ("traits.a ?: 'x'", 9, "`has(a) ? a : b`"),
    ("traits?.a == 1", 6, "`a.b`"),
    ("traits.a == 'x';", 15, "without `;`"),
    ("-- all\ntraits.a == 1 and 2", 0, "`// …`"),
    ("/* all */ traits.a == 1", 0, "`// …`"),
    ("# all", 0, "`// …`"),
    ("traits.a == TRUE", 12, "`true`"),
    ("traits.a == None", 12, "`null`"),
    ("select * from people where a = 1", 0, "stands alone"),
    ("traits.a == 1 order by traits.b", 14, "stands alone"),
    ("traits.a == 1 limit 10", 14, "stands alone"),
    ("case when traits.a then 1 else 2 end", 0, "`condition ? this : that`"),
    ("traits.a in (1, 2)", 9, "square brackets"),
    ("traits.a => 1", 9, "`>=`"),
    ("traits.a.filter(e => e.x > 5)", 18, "`.exists(e, e.total > 5)`"),
    ("traits.a.exists(e -> e.x > 5)", 18, "`.exists(e, e.total > 5)`"),
    ("traits.a == 1, traits.b == 2", 13, "`&&`"),
    ("traits.a > DATE '2026-11-01'", 11, "`'2026-11-21'`"),
    ("traits.a > 01.11.2026", 11, "`'2026-11-21'`"),
    ("traits.a > 1_000", 11, "`1000`"),
    ("traits.a > 5 EUR", 11, "without `EUR`"),
    ("traits.a =~ 'x'", 9, "`x.matches('…')`"),
    ("traits.a regexp 'x'", 9, "`x.matches('…')`"),
    ("extract(traits.a) == 2026", 0, "`x.year()`"),
    ("coalesce(traits.a, 1) == 1", 0, "`has(a) ? a : b`"),
    ("isnull(traits.a)", 0, "`!has(x)`"),
    ("substring(traits.a, 1, 2) == 'x'", 0, "`x.startsWith('…')`"),
    ("round(traits.a) == 1", 0, "rounds"),
    ("events('a').where(total > 5)", 12, "`list.filter(e, …)`"),
];

#[test]
fn every_habit_is_answered_at_its_place_with_what_to_write() {
    for (kind, written, told) in habits::all() {
        let texts = match kind {
            "sign" => vec![format!("traits.a {written} 3"), format!("has(traits.b) && traits.a{written}'x'")],
            "word" => {
                vec![format!("traits.a {written} traits.b"), format!("traits.x > 1 {} 'y'", written.to_uppercase())]
            }
            "name" => vec![format!("traits.a == {}", written.to_uppercase())],
            _ => vec![format!("{written}(traits.a)"), format!("traits.b == {}(1)", written.to_uppercase())],
        };
        for text in texts {
            let at = text.rfind(written).max(text.rfind(&written.to_uppercase())).unwrap();
            assert_eq!(refusal(&text, at), told, "{text}");
        }
    }
    for (text, at, told) in [
        ("traits.a not in ['x']", 9, "`!(x in ['a', 'b'])`"),
        ("NOT traits.a", 0, "not is written `!x`"),
        ("traits.a is null", 9, "`!has(x)`"),
        ("traits.a IS NOT NULL", 9, "`has(x)`"),
        ("traits.a is empty", 9, "`!has(x)`"),
        ("traits.a in ('x', 'y')", 9, "square brackets"),
        ("traits.a IN ['x']", 9, "square brackets"),
        ("traits.a == ‘x’", 12, "straight quote"),
        ("traits.a == “x”", 12, "straight quote"),
        ("traits.first name == 'x'", 13, "`['first name']`"),
        ("traits.first-name == 'x'", 13, "`traits['first-name']`"),
        ("traits.a > 1,000", 11, "`1000`"),
        ("city == 'x'", 0, "`traits.city`"),
        ("email == 'x'", 0, "`'…' in profile.identifiers.email`"),
        ("E_Mail == 'x'", 0, "`'…' in profile.identifiers.email`"),
        ("customerId == 'x'", 0, "`'…' in profile.identifiers.user_id`"),
        ("consent.news == true", 0, "the `purpose` of the audience"),
        ("traits.a > now - 3M", 17, "`duration('90d')`"),
        ("traits.a > now - 2 months", 17, "`duration('60d')`"),
        ("profile.email == 'x'", 8, "`traits.email`"),
        ("events('a').count() > 1", 12, "size()"),
        ("events('a', 'last 30 days').size() > 1", 12, "'30d'"),
    ] {
        let message = refusal(text, at);
        assert!(message.contains(told), "{text}: {message}");
    }
    for (text, at, told) in FOREIGN {
        let message = refusal(text, *at);
        assert!(message.contains(told), "{text}: {message}");
    }
    for text in [
        "traits.and == 1",
        "traits.a == 'x and y'",
        "\"a\" == traits.like",
        "traits.not && true // and so on",
        "traits.l.exists(order, order.x == 1)",
        "traits.a ? 1 == 1 : 2 == 1",
    ] {
        assert!(Expression::parse(text).is_ok(), "{text}");
    }
}

/// What is always a list.
const LISTS: &[&str] = &[
    "profile.identifiers.email",
    "profile.identifiers['crm id']",
    "events('A').map(e, e.total)",
    "events('A', '30d').filter(e, e.x > 1).map(e, e.total)",
    "traits.likes.filter(x, x != 'a')",
    "traits.likes.map(x, x.upper())",
    "traits.likes.distinct()",
    "(profile.identifiers.email + ['a'])",
    "(traits.vip ? profile.identifiers.email : profile.identifiers.phone)",
];

/// Where one value belongs, and what is said of a list there.
const LIST_USES: &[(&str, &str)] = &[
    ("{} == 'x'", "`'x' in "),
    ("'x' == {}", "`'x' in "),
    ("{} == traits.x", "`traits.x in "),
    ("{} != 'x'", "`!('x' in "),
    ("!({} == 'x')", "`'x' in "),
    ("{} == 5", "`5 in "),
    ("{} > 5", ".size()"),
    ("5 <= {}", ".size()"),
    ("{} >= {}", ".size()"),
    ("{} + 1 > 5", ".size()"),
    ("2 * {} > 5", ".size()"),
    ("-{} > 5", ".size()"),
    ("{} in ['a', 'b']", ".exists(i, i in ['a', 'b'])"),
    ("!({} in traits.x)", ".exists(i, i in traits.x)"),
    ("{}.endsWith('x')", ".exists(i, i.endsWith('x'))"),
    ("!{}.startsWith('x')", ".exists(i, i.startsWith('x'))"),
    ("{}.contains('x')", ".exists(i, i.contains('x'))"),
    ("{}.matches('x')", ".exists(i, i.matches('x'))"),
    ("{}.lower() == 'x'", ".map(i, i.lower())"),
    ("int({}) == 1", ".map(i, int(i))"),
    ("{}.month() == 1", ".map(i, i.month())"),
    ("traits.a.contains({})", ".exists(i, traits.a.contains(i))"),
    ("{}.length > 2", ".size()"),
    ("{}.domain == 'x'", ".map(i, i.domain)"),
    ("{} && true", "never true or false"),
    ("!{}", "never true or false"),
    ("{} ? true : false", "never true or false"),
];

/// What is always a list stood where one value belongs, and the condition held for nobody, or its opposite for everybody, without a
/// word: whoever was to be excluded was written to.
#[test]
fn a_list_where_one_value_belongs_is_refused_with_what_to_write() {
    for list in LISTS {
        for (written, told) in LIST_USES {
            let text = written.replace("{}", list);
            let error = Expression::parse(&text).unwrap().check_condition();
            let error = error.expect_err(&format!("{text} is taken"));
            assert!(error.message.contains(told), "{text}: {error}");
        }
        for fine in [
            "'x' in {}",
            "!('x' in {})",
            "{}.exists(i, i.endsWith('x'))",
            "{}.size() > 1",
            "{}.first() == 'x'",
            "{}.max() > 5",
            "{} == ['x']",
            "{} == {}",
            "{}[0] == 'x'",
            "{}.distinct().size() > 1",
            "({} + ['x']).size() > 1",
        ] {
            let text = fine.replace("{}", list);
            assert!(Expression::parse(&text).unwrap().check_condition().is_ok(), "{text}");
        }
    }
    for fine in [
        "has(profile.identifiers.email)",
        "profile.identifiers.email != null",
        "traits.likes == ['tea', 'figs']",
        "traits.likes.contains('tea')",
        "['Oslo', 'Rome'].contains(traits.city)",
        "traits.note.length > 2",
        "events('A').exists(e, e.items.map(i, i.sku).size() > 1)",
        "[1] in [[1], [2]]",
    ] {
        assert!(Expression::parse(fine).unwrap().check_condition().is_ok(), "{fine}");
    }
    // Nobody's list is absent but that of identifiers.
    for (text, told) in [
        ("has(events('A').map(e, e.x))", "`events('A').map(e, e.x).size() > 0`"),
        ("traits.a.filter(x, x > 1) == null", "`traits.a.filter(e, e > 1).size() == 0`"),
        ("events('A').exists(e, e.items.map(i, i.sku) == 'a')", "`'a' in e.items.map(e1, e1.sku)`"),
    ] {
        let error = Expression::parse(text).unwrap().check_condition().unwrap_err();
        assert!(error.message.contains(told), "{text}: {error}");
    }
}

#[test]
fn what_cannot_mean_what_it_reads_like_is_no_condition() {
    for (text, column, told) in [
        ("1", 1, "traits.age > 40"),
        ("'x'", 1, "traits.city == 'Oslo'"),
        ("events('A').size()", 13, "size() > 0"),
        ("traits.city == 'Oslo' || 'Rome'", 26, "traits.city in ['Oslo', 'Rome']"),
        ("traits.a && 5", 13, "never true or false"),
        ("!events('A').size()", 14, "never true or false"),
        ("events('A').exists(e, 'x')", 23, "never true or false"),
        ("!traits.city in ['Oslo']", 14, "`!(a in b)`"),
        ("!traits.city == 'Oslo'", 14, "`!(a == b)`"),
        ("!traits.age > 5", 13, "`!(a < b)`"),
        ("has(traits.a) && ['x']", 18, "traits.city in"),
        ("traits.a > now - 30", 16, "`now - duration('30d')`"),
        ("traits.a > now - '30d'", 16, "`now - duration('30d')`"),
        ("traits.a > now + 1.5", 16, "`now - duration('30d')`"),
        ("1 < traits.a < 5", 14, "`1 < x && x < 5`"),
        ("\"traits.a\" == 1", 12, "without quotes"),
        ("1 == 'Tags.a'", 3, "without quotes"),
        ("traits.a > '30 days ago'", 10, "without quotes"),
        ("traits.a > 'now-30d'", 10, "without quotes"),
        ("traits.a > 'NOW() - 3'", 10, "without quotes"),
        ("traits.a > 2026-11-01", 19, "in quotes"),
    ] {
        let error = Expression::parse(text).unwrap().check_condition().unwrap_err();
        assert!(error.message.contains(told), "{text}: {error}");
        assert_eq!((error.line, error.column), (1, column), "{text}: {error}");
    }
    for text in [
        "!traits.a == true",
        "!traits.a == !traits.b",
        "!(traits.city in ['Oslo'])",
        "traits.a || tags.b",
        "now - '2026-11-01' > duration('1d')",
        "now - traits.a > duration('1d')",
        "traits.a == 'nowhere'",
        "traits.a == 'years ago'",
        "traits.a == '3 days ago' || traits.a == 'now-tv'",
        "traits.page == 'profile.html' || 'tags.csv' == traits.file",
        "traits.page > 'profile.html'",
        "traits.a > 5 - 3 - 1",
        "(traits.a < 5) == true",
    ] {
        assert!(Expression::parse(text).unwrap().check_condition().is_ok(), "{text}");
    }
}
