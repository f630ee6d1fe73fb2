//! Responsible for the words of mistakes that a reader finds in a request: it speaks of types of Rust, and whoever sent the request
//! wrote JSON, or a query. And which name was meant by one that is near it.

/// What the reader says before what it wanted.
const WANTED: &str = ", expected ";

/// A reader's message about a value, without its line: the place is named beside it.
pub(super) fn plain(message: &str) -> String {
    let message = without_line(message);
    if message.starts_with("data did not match any variant of") {
        return "is of no form that is taken here".to_owned();
    }
    // What was sent may say the same words, and stands before them.
    let Some((found, wanted)) = message.rsplit_once(WANTED) else { return message.to_owned() };
    if let Some(length) = found.strip_prefix("invalid length ") {
        return format!("has {length} entries; write {}", as_json(wanted));
    }
    match ["invalid type: ", "invalid value: "].iter().find_map(|kind| found.strip_prefix(kind)) {
        Some(found) => format!("is {}; write {}", sent(found), as_json(wanted)),
        None => message.to_owned(),
    }
}

/// A message without ` at line 1 column 2`.
fn without_line(message: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match message.rsplit_once(" at line ") {
        Some((rest, place))
            if place.split_once(" column ").is_some_and(|(line, at)| is_number(line) && is_number(at)) =>
        {
            rest
        }
        _ => message,
    }
}

/// What was sent.
fn sent(found: &str) -> String {
    let named =
        [("string ", "the text "), ("integer ", "the number "), ("floating point ", "the number "), ("boolean ", "")];
    match found {
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        "unit" | "unit value" | "null" => "null".to_owned(),
        _ => {
            let value = named.iter().find_map(|(kind, words)| Some(format!("{words}{}", found.strip_prefix(kind)?)));
            value.unwrap_or_else(|| found.to_owned())
        }
    }
}

/// What is wanted.
fn as_json(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number of 0 or more",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a map" => "an object",
        "a sequence" => "a list",
        "unit" => "null",
        "string or map" => "a text or an object",
        _ if wanted.starts_with("struct ") || wanted.contains("tagged enum ") => "an object",
        _ if wanted.starts_with("a tuple") || wanted.starts_with("tuple ") => "a list",
        _ if wanted.starts_with("enum ") => "a text",
        _ => wanted,
    }
}

/// The same of a parameter of a query.
pub(super) fn of_query(message: &str) -> &str {
    match message {
        "invalid digit found in string" | "cannot parse integer from empty string" => "is no whole number",
        "number too large to fit in target type" => "is too large a number",
        "number too small to fit in target type" => "is too small a number",
        "invalid float literal" | "cannot parse float from empty string" => "is no number",
        "provided string was not `true` or `false`" => "is neither `true` nor `false`",
        _ => message,
    }
}

/// The name that was meant, if one is near; case and what stands between words count nothing.
pub(super) fn nearest<'k>(written: &str, known: &'k [String]) -> Option<&'k str> {
    let plain = |name: &str| -> String {
        name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let written = plain(written);
    let near = known.iter().map(|name| (strsim::osa_distance(&written, &plain(name)), name)).min()?;
    (near.0 <= (near.1.len() / 3).clamp(1, 2)).then_some(near.1.as_str())
}

#[cfg(test)]
mod tests {
    use kith_model::objects;

    use super::*;

    #[test]
    fn near_names_are_told() {
        let known = ["import", "from", "dry_run", "trait.NAME"].map(str::to_owned);
        for (written, near) in [
            ("dryrun", Some("dry_run")),
            ("dry-run", Some("dry_run")),
            ("DryRun", Some("dry_run")),
            ("form", Some("from")),
            ("imports", Some("import")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, &known), near, "{written}");
        }
    }

    #[derive(Debug, serde::Deserialize)]
    struct Wanted {
        #[allow(dead_code, reason = "only its reading is tested")]
        number: Option<u64>,
        #[allow(dead_code, reason = "only its reading is tested")]
        names: Option<Vec<String>>,
        #[allow(dead_code, reason = "only its reading is tested")]
        is_so: Option<bool>,
        #[allow(dead_code, reason = "only its reading is tested")]
        inner: Option<Box<Wanted>>,
    }

    #[test]
    fn what_the_reader_says_names_no_type_of_rust() {
        for (text, words) in [
            ("[]", "is a list; write an object"),
            (r#"{"inner":[1,[],true,null]}"#, "is a list; write an object"),
            ("7", "is the number `7`; write an object"),
            (r#"{"number":-1}"#, "is the number `-1`; write a whole number of 0 or more"),
            (r#"{"number":"x, expected y"}"#, r#"is the text "x, expected y"; write a whole number of 0 or more"#),
            (r#"{"names":{}}"#, "is an object; write a list"),
            (r#"{"names":[null]}"#, "is null; write a text"),
            (r#"{"is_so":1.5}"#, "is the number `1.5`; write true or false"),
            (r#"{"inner":true}"#, "is `true`; write an object"),
        ] {
            let said = objects::from_json::<Wanted>(text).unwrap_err().to_string();
            assert_eq!(plain(&said), words, "{text}: {said}");
        }
        assert_eq!(plain("missing field `name` at line 1 column 2"), "missing field `name`");
        assert_eq!(plain("it is due at line 7 column x"), "it is due at line 7 column x");
        assert_eq!(plain("data did not match any variant of untagged enum X"), "is of no form that is taken here");
    }

    #[test]
    fn a_parameter_that_is_no_number_is_told_so() {
        let said = |text: &str| of_query(&text.parse::<u8>().unwrap_err().to_string()).to_owned();
        assert_eq!(
            [said("x"), said(""), said("300")],
            ["is no whole number", "is no whole number", "is too large a number"]
        );
        assert_eq!(of_query(&"x".parse::<bool>().unwrap_err().to_string()), "is neither `true` nor `false`");
        assert_eq!(of_query("is not between 1 and 500"), "is not between 1 and 500");
    }
}
