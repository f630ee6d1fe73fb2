//! What a message says: each text inside a payload's JSON is a template over the channel's declared inputs.
//!
//! Templates are minijinja's, without any access to files or other templates. Every rendering has fuel, which bounds its time
//! and its memory, and an end to its output, because a loop over a person's data is as long as that data.

mod subset;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::LazyLock;

use kith_model::budget::table;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, ErrorKind};
use serde_json::Value;
use serde_json::value::RawValue;

/// A payload as an audience has it. Each of its messages keeps it until the message is settled.
const MAX_PAYLOAD_BYTES: usize = table::PAYLOAD_TEXT.default as usize;

/// All rendered texts of one payload together.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// Work of one text: about so many instructions, or 64 bytes for each.
const MAX_FUEL: u64 = 20_000;

/// Texts with templates in one payload, since each has fuel of its own.
const MAX_TEMPLATES: usize = 128;

/// Levels of a payload, as readers of JSON take them.
const MAX_DEPTH: usize = 127;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(MAX_FUEL));
    subset::restrict(&mut environment);
    environment.set_formatter(|output, state, value| match value.kind() {
        // A fact that a person does not have is no text `none` in a message.
        ValueKind::None | ValueKind::Undefined => Ok(()),
        _ => minijinja::escape_formatter(output, state, value),
    });
    environment
});

/// A payload that cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the payload has {bytes} bytes where {MAX_PAYLOAD_BYTES} are allowed; every message keeps a copy of it")]
    TooLarge { bytes: usize },
    #[error("the payload is not a JSON text: {0}")]
    Json(String),
    #[error("{path}, line {line}: {problem}")]
    Syntax { path: String, line: usize, problem: String },
    #[error("{path}, line {line}: {problem}")]
    Unfit { path: String, line: usize, problem: String },
    #[error("{path}: `{name}` is no input that the channel declares (it declares: {declared})")]
    Undeclared { path: String, name: String, declared: String },
    #[error("{path}: a payload may hold at most {MAX_TEMPLATES} templates")]
    TooMany { path: String },
    #[error("{path}, line {line}: {problem}")]
    Rendering { path: String, line: usize, problem: String },
    #[error("{path}: the rendered texts are longer than {MAX_OUTPUT_BYTES} bytes")]
    TooLong { path: String },
}

/// Check a payload against the inputs that its channel declares, before anything is sent.
///
/// # Errors
/// [`TemplateError`] names the JSON path of the text and the place in it.
pub fn check_payload(payload: &str, inputs: &BTreeSet<String>) -> Result<(), TemplateError> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(TemplateError::TooLarge { bytes: payload.len() });
    }
    each_template(payload, |path, text| {
        check_text(path, &text, inputs)?;
        Ok(text)
    })?;
    Ok(())
}

fn check_text(path: &str, text: &str, inputs: &BTreeSet<String>) -> Result<(), TemplateError> {
    // Which inputs are lists is known when they are there.
    check_subset(path, text, &|_| false)?;
    let template = ENVIRONMENT.template_from_str(text).map_err(|error| TemplateError::Syntax {
        path: path.to_owned(),
        line: error.line().unwrap_or(1),
        problem: problem(&error),
    })?;
    let globals: BTreeSet<&str> = ENVIRONMENT.globals().map(|(name, _)| name).collect();
    let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    names.sort();
    let unknown = names.into_iter().find(|name| !inputs.contains(name) && !globals.contains(name.as_str()));
    if let Some(name) = unknown {
        let declared = inputs.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let declared = if declared.is_empty() { "none".to_owned() } else { declared };
        return Err(TemplateError::Undeclared { path: path.to_owned(), name, declared });
    }
    // Names of filters, tests and functions are looked up only while rendering. With nothing filled in the rest may well fail.
    match template.render(Serde(serde_json::Map::new())) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction
            ) =>
        {
            let line = error.line().unwrap_or(1);
            Err(TemplateError::Syntax { path: path.to_owned(), line, problem: problem(&error) })
        }
        _ => Ok(()),
    }
}

fn check_subset(path: &str, text: &str, is_list: &dyn Fn(&str) -> bool) -> Result<(), TemplateError> {
    let unfit =
        |unfit: subset::Unfit| TemplateError::Unfit { path: path.to_owned(), line: unfit.line, problem: unfit.problem };
    subset::check(text, is_list).map_err(unfit)
}

/// Fill a payload in. One without templates comes back byte for byte; of others everything but the texts does, so that numbers keep
/// their digits.
pub(super) fn render(payload: &str, inputs: &[(String, Value)]) -> Result<String, TemplateError> {
    if !is_template(payload) {
        return Ok(payload.to_owned());
    }
    // What a person does not have is not defined, so that `default` stands in for it.
    let known = inputs.iter().filter(|(_, value)| !value.is_null()).cloned();
    let context = minijinja::Value::from(Serde(serde_json::Map::from_iter(known)));
    let is_list = |name: &str| inputs.iter().any(|(own, value)| own == name && (value.is_array() || value.is_object()));
    let mut room = MAX_OUTPUT_BYTES;
    each_template(payload, |path, text| {
        check_subset(path, &text, &is_list)?;
        let mut output = BoundedBuffer { bytes: Vec::new(), room };
        let failed = |error: &minijinja::Error| {
            let line = error.line().unwrap_or(1);
            TemplateError::Rendering { path: path.to_owned(), line, problem: problem(error) }
        };
        let template = ENVIRONMENT.template_from_str(&text).map_err(|error| failed(&error))?;
        if let Err(error) = template.render_captured_to(context.clone(), &mut output) {
            let too_long = error.kind() == ErrorKind::WriteFailure;
            return Err(if too_long { TemplateError::TooLong { path: path.to_owned() } } else { failed(&error) });
        }
        room -= output.bytes.len();
        Ok(String::from_utf8_lossy(&output.bytes).into_owned())
    })
}

fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn parse(payload: &str) -> Result<&RawValue, TemplateError> {
    serde_json::from_str(payload).map_err(|error| TemplateError::Json(error.to_string()))
}

fn problem(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}

/// The payload with each of its texts that is a template, of which there may be so many, as `look` makes it.
fn each_template(
    payload: &str,
    mut look: impl FnMut(&str, String) -> Result<String, TemplateError>,
) -> Result<String, TemplateError> {
    let mut count = 0;
    each_text(parse(payload)?, &mut "$".to_owned(), 0, &mut |path, text| {
        if !is_template(&text) {
            return Ok(text);
        }
        count += 1;
        if count > MAX_TEMPLATES {
            return Err(TemplateError::TooMany { path: path.to_owned() });
        }
        look(path, text)
    })
}

/// The payload with each of its texts, though no name of a field, as `look` makes it. What is no text stays byte for byte.
fn each_text(
    value: &RawValue,
    path: &mut String,
    depth: usize,
    look: &mut impl FnMut(&str, String) -> Result<String, TemplateError>,
) -> Result<String, TemplateError> {
    let length = path.len();
    let failed = |error: serde_json::Error| TemplateError::Json(error.to_string());
    if depth > MAX_DEPTH {
        return Err(TemplateError::Json(format!("it has more than {MAX_DEPTH} levels")));
    }
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => {
            let text = look(path, serde_json::from_str(text).map_err(failed)?)?;
            Ok(Value::from(text).to_string())
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(failed)?;
            let mut parts = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                parts.push(each_text(item, path, depth + 1, look)?);
                path.truncate(length);
            }
            Ok(format!("[{}]", parts.join(",")))
        }
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(failed)?;
            let mut parts = Vec::with_capacity(fields.len());
            for (name, field) in fields {
                path.push('.');
                path.push_str(&name);
                parts.push(format!("{}:{}", Value::from(name), each_text(field, path, depth + 1, look)?));
                path.truncate(length);
            }
            Ok(format!("{{{}}}", parts.join(",")))
        }
        _ => Ok(text.to_owned()),
    }
}

/// Takes bytes as long as there is room.
struct BoundedBuffer {
    bytes: Vec<u8>,
    room: usize,
}

impl io::Write for BoundedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.room {
            return Err(io::Error::other("the output is full"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inputs(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn filled(payload: &str) -> Result<String, TemplateError> {
        let values = [
            ("name".to_owned(), json!("Zoë <b>")),
            ("orders".to_owned(), json!([{ "id": 7 }, { "id": 8 }])),
            ("city".to_owned(), Value::Null),
        ];
        render(payload, &values)
    }

    #[test]
    fn texts_are_filled_in_and_nothing_else_is_touched() {
        let plain = "{ \"text\" :\"hello {name}\", \"n\": 1.10 }";
        assert_eq!(filled(plain).unwrap(), plain, "byte for byte");
        assert_eq!(filled(r#"{"text":"Hi {{ name }}","n":1}"#).unwrap(), r#"{"n":1,"text":"Hi Zoë <b>"}"#);
        let digits = r#"{"a":123456789012345678901,"b":[0.1234567890123456789,1.10],"c":{"d":1e400},"t":"{{ name }}"}"#;
        assert_eq!(filled(digits).unwrap(), digits.replace("{{ name }}", "Zoë <b>"), "digit by digit");
        let list = r#"{"a":["{% for order in orders %}{{ order.id }};{% endfor %}"]}"#;
        assert_eq!(filled(list).unwrap(), r#"{"a":["7;8;"]}"#);
        assert_eq!(filled(r#"{"a":"{{ city }}|{{ city|default('?') }}"}"#).unwrap(), r#"{"a":"|?"}"#);
        // A value that looks like a template or like JSON stays a value.
        let values = [("name".to_owned(), json!("{{ 7 * 7 }}\",\"x\":\""))];
        let rendered = render(r#"{"t":"{{ name }}"}"#, &values).unwrap();
        let read: Value = serde_json::from_str(&rendered).unwrap();
        assert_eq!(read, json!({ "t": "{{ 7 * 7 }}\",\"x\":\"" }));
    }

    #[test]
    fn mistakes_are_found_with_their_place_before_anything_is_sent() {
        let check = |payload: &str| check_payload(payload, &inputs(&["name", "orders"]));
        assert_eq!(check(r#"{"text":"Hi {{ name }}, {{ range(3)|length }}"}"#), Ok(()));
        assert_eq!(check(r#"{"text":"{% for o in orders %}{{ o.id }}{{ loop.index }}{% endfor %}"}"#), Ok(()));
        assert!(matches!(check("{"), Err(TemplateError::Json(_))));
        let of_size = |bytes: usize| format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes - r#"{"text":""}"#.len()));
        assert_eq!(check(&of_size(MAX_PAYLOAD_BYTES)), Ok(()));
        assert_eq!(check(&of_size(MAX_PAYLOAD_BYTES + 1)), Err(TemplateError::TooLarge { bytes: 65_537 }));
        let undeclared = check(r#"{"a":[{"b":"{{ nmae }}"}]}"#).unwrap_err();
        assert_eq!(
            undeclared.to_string(),
            "$.a[0].b: `nmae` is no input that the channel declares (it declares: name, orders)"
        );
        let syntax = check("{\"a\":\"one\\n{{ name \"}").unwrap_err();
        assert!(matches!(&syntax, TemplateError::Syntax { path, line: 2, .. } if path == "$.a"), "{syntax:?}");
        let filter = check(r#"{"a":"{{ name|shout }}"}"#).unwrap_err();
        assert!(filter.to_string().contains("shout"), "{filter}");
        let many = serde_json::to_string(&vec!["{{ name }}"; MAX_TEMPLATES + 1]).unwrap();
        assert!(matches!(check(&many), Err(TemplateError::TooMany { .. })));
    }

    #[test]
    fn a_rendering_ends_whatever_the_template() {
        let endless = r#"{"a":"{% for x in range(100000) %}{% for y in range(100000) %}.{% endfor %}{% endfor %}"}"#;
        assert!(matches!(filled(endless), Err(TemplateError::Rendering { .. } | TemplateError::TooLong { .. })));
        let doubling = format!("{{% set x = 'abcdefgh' %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(40));
        let doubling = json!({ "a": doubling }).to_string();
        assert!(matches!(filled(&doubling), Err(TemplateError::Rendering { .. })));
        let long = json!({ "name": "x".repeat(MAX_OUTPUT_BYTES / 2 + 1) });
        let values = [("name".to_owned(), long["name"].clone())];
        let twice = r#"["{{ name }}","{{ name }}"]"#;
        assert_eq!(render(twice, &values), Err(TemplateError::TooLong { path: "$[1]".into() }));
    }

    /// Whatever repeats in a template is refused long before its tree is too deep for the stack of a thread, which ended the
    /// process; and what is just taken fits, in the deepest blocks that the engine takes.
    #[test]
    fn what_repeats_without_an_end_is_refused_and_what_is_taken_fits_on_the_stack() {
        let forms: [(&str, &str, &str); 18] = [
            ("{{ ", "not ", "1 }}"),
            ("{{ ", "-", "1 }}"),
            ("{{ 1", "+1", " }}"),
            ("{{ 1", "~1", " }}"),
            ("{{ 1", " and 1", " }}"),
            ("{{ 0", " or 0", " }}"),
            ("{{ 1", "<1", " }}"),
            ("{{ 1", "**1", " }}"),
            ("{{ name", ".a", " }}"),
            ("{{ name", "[0]", " }}"),
            ("{{ name", "()", " }}"),
            ("{{ name", "|string", " }}"),
            ("{{ name", " is none", " }}"),
            ("{{ 1", " if 1 else 1", " }}"),
            ("{% if 0 %}", "{% elif 0 %}", "{% endif %}"),
            ("{{ 1", " in 1", " }}"),
            ("{{ 1", " not in 1", " }}"),
            ("{{ 1", "//1", " }}"),
        ];
        let blocks = 140;
        for (begin, again, end) in forms {
            let of = |times: usize| format!("{begin}{}{end}", again.repeat(times));
            let payload = |text: &str| serde_json::json!({ "a": text }).to_string();
            let long = check_payload(&payload(&of(60_000 / again.len())), &inputs(&["name"])).unwrap_err();
            assert!(matches!(long, TemplateError::Unfit { .. }), "{again}: {long}");
            let most = (1..400).rev().find(|times| {
                let error = check_payload(&payload(&of(*times)), &inputs(&["name"])).err();
                !matches!(error, Some(TemplateError::Unfit { .. }))
            });
            let deep = format!("{}{}{}", "{% if 1 %}".repeat(blocks), of(most.unwrap()), "{% endif %}".repeat(blocks));
            drop(check_payload(&payload(&deep), &inputs(&["name"])));
            drop(render(&payload(&deep), &[("name".to_owned(), serde_json::json!("Ada"))]));
        }
    }

    /// Each costs a few steps of fuel and would take all memory, or all time.
    #[test]
    fn lists_are_not_put_together() {
        let refused = [
            "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}{{ ns.a|length }}",
            "{{ ['x' * 15000] * 100000000 }}",
            "{{ [1] * 100000000 }}",
            "{{ 100000000 * [1] }}",
            "{{ (1,) * 100000000 }}",
            "{{ (range(100000) * 100000)|length }}",
            "{% set a = orders %}{{ a * 100000000 }}",
            "{{ orders|list * 2 }}",
            "{{ orders[0:] * 2 }}",
            "{% for a in [1] %}{{ a * 2 }}{% endfor %}",
            "{% with a = orders %}{{ a + a }}{% endwith %}",
            "{% set a | list %}abc{% endset %}{{ a * 100000000 }}",
            "{% set a | split(',') %}a,b{% endset %}{{ [a, a] }}",
            "{% set a = [1] %}{% set a = [a, a] %}{{ a }}",
            "{% set a = [1] %}{% set a = (a, a) %}{{ a }}",
            "{% set a = [1] %}{% set a = {'x': a, 'y': a} %}{{ a }}",
            "{% if [1] * 100000000 == [1] * 100000000 %}{% endif %}",
            "{{ name|join([1] * 100000000) }}",
            "{{ orders|zip(orders)|list }}",
            "{{ orders|chain(orders)|list }}",
            "{{ dict(a=orders, b=orders) }}",
            "{{ debug() }}",
        ];
        // Which inputs are lists is known when there is somebody to write to.
        let refused_later = [
            "{{ orders * 100000000 }}",
            "{{ orders + orders }}",
            "{{ (orders or 1) + (orders or 1) }}",
            "{{ (orders if name else 1) * 2 }}",
            "{{ orders|default(1) * 2 }}",
            "{{ name|default(orders) * 2 }}",
            "{{ [orders, orders] }}",
        ];
        let declared = inputs(&["name", "orders"]);
        for template in refused.iter().chain(&refused_later) {
            let payload = json!({ "a": template }).to_string();
            assert!(filled(&payload).is_err(), "{template}");
            assert_eq!(check_payload(&payload, &declared).is_err(), refused.contains(template), "{template}");
        }
        let fine = [
            ("{{ 2 * 3 + 1 }}", "7"),
            ("{{ name + '!' }}", "Zoë <b>!"),
            ("{{ orders|length * 2 }}", "4"),
            ("{% for o in orders %}{{ o.id|int * 2 }},{{ loop.index + 1 }};{% endfor %}", "14,2;16,3;"),
            ("{{ 'x' * 3 }}", "xxx"),
            ("{% if name in ['Zoë <b>', 'Ada'] %}yes{% endif %}", "yes"),
            ("{{ orders|map(attribute='id')|join('+') }}", "7+8"),
            ("{{ orders|sum(attribute='id') }}", "15"),
        ];
        for (template, expected) in fine {
            let payload = json!({ "a": template }).to_string();
            assert_eq!(check_payload(&payload, &declared), Ok(()), "{template}");
            let rendered = filled(&payload).unwrap_or_else(|error| panic!("{template}: {error}"));
            assert_eq!(serde_json::from_str::<Value>(&rendered).unwrap()["a"], expected, "{template}");
        }
    }

    #[test]
    fn there_is_nothing_to_include() {
        let error = filled(r#"{"a":"{% include 'secret' %}{{ name }}"}"#).unwrap_err();
        assert!(matches!(error, TemplateError::Rendering { .. }), "{error:?}");
    }
}
