//! Puts configuration values in the place of `${config.key}` in a manifest's expressions.

use serde_json::Value;

/// The expression with the configuration's values in place. A text is put in as it is, with quotes and backslashes
/// escaped, so that inside quotes it can never end them; numbers and booleans as CEL writes them.
///
/// # Errors
/// Says which key is missing or cannot stand in an expression.
pub(crate) fn config(expression: &str, config: &Value) -> Result<String, String> {
    const OPEN: &str = "${config.";
    let (mut rest, mut done) = (expression, String::with_capacity(expression.len()));
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (key, after) = after.split_once('}').ok_or("`${config.` has no `}` behind it")?;
        done.push_str(before);
        let pointer: String = key.split('.').flat_map(|part| ["/", part]).collect();
        match config.pointer(&pointer) {
            Some(Value::String(text)) => text.chars().for_each(|letter| push_escaped(&mut done, letter)),
            Some(Value::Number(number)) => done.push_str(&number.to_string()),
            Some(Value::Bool(flag)) => done.push_str(if *flag { "true" } else { "false" }),
            Some(Value::Null) | None => return Err(format!("the configuration has no `{key}`, which it needs")),
            Some(Value::Array(_) | Value::Object(_)) => {
                return Err(format!(
                    "`{key}` of the configuration is a list or an object; only a single value can stand here"
                ));
            }
        }
        rest = after;
    }
    done.push_str(rest);
    Ok(done)
}

fn push_escaped(text: &mut String, letter: char) {
    match letter {
        '\'' | '"' | '\\' => text.extend(['\\', letter]),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        other => text.push(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_stand_in_the_place_of_their_keys() {
        let values = json!({ "event": "Order Completed", "days": 90, "deep": { "key": "revenue" } });
        let put = |text| config(text, &values);
        assert_eq!(
            put("events('${config.event}').map(e, e.${config.deep.key}).sum()").unwrap(),
            "events('Order Completed').map(e, e.revenue).sum()"
        );
        assert_eq!(put("traits.age > ${config.days}").unwrap(), "traits.age > 90");
        assert_eq!(put("traits.city").unwrap(), "traits.city");
        assert!(put("${config.missing}").unwrap_err().contains("missing"));
        assert!(put("${config.deep}").is_err());
        assert!(put("${config.event").is_err());
    }

    #[test]
    fn a_text_never_ends_its_quotes() {
        let values = json!({ "event": "x') || traits.secret == ('" });
        assert_eq!(config("events('${config.event}')", &values).unwrap(), r"events('x\') || traits.secret == (\'')");
    }
}
