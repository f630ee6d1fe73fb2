//! The value of one cell as JSON, by the type that the mapping gives it.

use std::borrow::Cow;

use serde_json::Value;

use crate::column::{Numbers, crop};
use crate::event::{Cell, Problem};
use crate::number;
use crate::settings::{Field, ValueType};

/// What databases, data frames and spreadsheets write where there is nothing. It is that in cells that are no texts; in a text it may
/// be somebody's name.
const NOTHING: [&str; 13] = ["null", "nil", "none", "na", "n/a", "#n/a", "#na", "nan", "<na>", "nat", "\\n", "-", "–"];

/// Whether a cell that is to be a number, truth value or time says that there is none.
pub(crate) fn is_nothing(text: &str) -> bool {
    let trimmed = text.trim();
    trimmed.is_empty() || NOTHING.contains(&trimmed.to_lowercase().as_str())
}

/// The value as JSON; `None` for an empty cell. `seen` is what the column's other values show.
pub(crate) fn json<'c>(cell: &Cell<'c>, field: &Field, seen: &mut Numbers) -> Result<Option<Cow<'c, str>>, Problem> {
    Ok(match (cell, field.value_type) {
        (Cell::Absent, _) => None,
        // Without a type a JSON value stays what it is, and so it does where the type is its own.
        (Cell::Json(value), None) => Some(Cow::Owned(value.to_string())),
        (Cell::Json(value), Some(ValueType::Text)) => Some(json_text(&value.to_string())),
        (Cell::Exact(text), None) => Some(Cow::Borrowed(*text)),
        (Cell::Text(text) | Cell::Exact(text), None | Some(ValueType::Text)) => Some(json_text(text)),
        (Cell::Json(Value::Number(exact)), Some(value_type)) => {
            Some(typed_exact(&exact.to_string(), value_type)?.into())
        }
        (Cell::Exact(text), Some(value_type)) => Some(typed_exact(text, value_type)?.into()),
        (Cell::Text(text), Some(_)) if is_nothing(text) => None,
        (Cell::Text(text), Some(ValueType::Boolean)) => Some(Cow::Borrowed(boolean(text.trim())?)),
        (Cell::Text(text), Some(value_type)) => {
            let number = seen.read(text, field.style)?;
            Some(typed_exact(&number, value_type)?.into())
        }
        (Cell::Json(value), Some(ValueType::Boolean)) => Some(Cow::Borrowed(boolean(&value.to_string())?)),
        (Cell::Json(value), Some(_)) => {
            let text = value.to_string();
            return Err(Problem::new("bad-number", format!("`{}` is not a number", crop(&text))));
        }
    })
}

fn json_text(text: &str) -> Cow<'static, str> {
    Cow::Owned(Value::from(text).to_string())
}

/// A number in JSON's spelling as a value of the type. It keeps its digits.
fn typed_exact(number: &str, value_type: ValueType) -> Result<String, Problem> {
    match value_type {
        ValueType::Text => Ok(Value::from(number).to_string()),
        ValueType::Boolean => boolean(number).map(str::to_owned),
        ValueType::Integer => number::whole(number)
            .map(|whole| whole.to_string())
            .ok_or_else(|| Problem::new("bad-number", format!("`{}` is not a whole number of 64 bits", crop(number)))),
        ValueType::Number => match number.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(number.to_owned()),
            Ok(_) => Err(Problem::new("bad-number", format!("`{}` is not a finite number", crop(number)))),
            Err(_) => Err(Problem::new("bad-number", format!("`{}` is not a number", crop(number)))),
        },
    }
}

/// Words for yes and no that spreadsheets and shops write, in the languages of `names`, in lower case.
const YES: &str = "true t yes y on 1 wahr ja j vrai oui verdadero si sí vero sim verdadeiro waar prawda tak sant ano kyllä evet da да истина \
    是 はい 真 √ ✓ ✔ x";
const NO: &str = "false f no n off 0 falsch nein faux non falso não nao onwaar nee fałsz nie falskt nej nei ne ei hayır hayir nu нет ложь \
    否 いいえ 假 ✗ ✘";

/// A truth value.
fn boolean(text: &str) -> Result<&'static str, Problem> {
    let lower = text.to_lowercase();
    // A number is one whichever way it is written: `1`, `1.0`, `0,00`.
    let plain = match lower.split_once(['.', ',']) {
        Some((whole @ ("0" | "1"), fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
        _ => lower.as_str(),
    };
    let is_in = |words: &str| words.split_ascii_whitespace().any(|word| word == plain);
    if is_in(YES) {
        Ok("true")
    } else if is_in(NO) {
        Ok("false")
    } else {
        let message = format!("`{}` is not true or false, yes or no, on or off, 1 or 0", crop(text));
        Err(Problem::new("bad-boolean", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Style;

    fn typed(text: &str, value_type: ValueType) -> Result<Option<String>, &'static str> {
        let field = Field { key: String::new(), column: 0, value_type: Some(value_type), style: Style::default() };
        let written = json(&Cell::Text(text), &field, &mut Numbers::default());
        written.map(|value| value.map(Cow::into_owned)).map_err(|problem| problem.code)
    }

    #[test]
    fn numbers_keep_their_digits_and_are_json() {
        for (text, expected) in [
            ("29.33", "29.33"),
            ("-0.10", "-0.10"),
            ("1e3", "1e3"),
            ("0", "0"),
            ("12345678901234567890.5", "12345678901234567890.5"),
            ("00012.50", "12.50"),
            ("+5", "5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1.e3", "1e3"),
            ("1,5", "1.5"),
            ("1 000", "1000"),
        ] {
            let written = typed(text, ValueType::Number).unwrap().unwrap();
            assert_eq!(written, expected, "{text}");
            assert!(serde_json::from_str::<Value>(&written).unwrap().is_number());
        }
        for text in ["x", "inf", "-infinity", "1e999", "0x10", "12 %"] {
            assert_eq!(typed(text, ValueType::Number), Err("bad-number"), "{text}");
        }
        for text in ["NaN", "n/a", "NULL", "-", " "] {
            assert_eq!(typed(text, ValueType::Number), Ok(None), "{text}");
        }
        for (text, expected) in
            [("007", "7"), ("12.0", "12"), ("12,00", "12"), ("1e3", "1000"), ("(5)", "-5"), ("-0", "0")]
        {
            assert_eq!(typed(text, ValueType::Integer), Ok(Some(expected.to_owned())), "{text}");
        }
        for text in ["7.5", "1e-1", "9223372036854775808", "1e30"] {
            assert_eq!(typed(text, ValueType::Integer), Err("bad-number"), "{text}");
        }
    }

    #[test]
    fn truth_values_are_those_of_many_languages() {
        for text in ["Yes", "on", "TRUE", "1.0", "1", "Ja", "OUI", "Sí", "tak", "WAHR", "Vrai", "да"] {
            assert_eq!(typed(text, ValueType::Boolean), Ok(Some("true".to_owned())), "{text}");
        }
        for text in ["No", "off", "False", "0.0", "0,00", "Nein", "non", "falsch", "FAUX", "nie", "нет"] {
            assert_eq!(typed(text, ValueType::Boolean), Ok(Some("false".to_owned())), "{text}");
        }
        for text in ["maybe", "2", "1.5", "0.01", "jawohl"] {
            assert_eq!(typed(text, ValueType::Boolean), Err("bad-boolean"), "{text}");
        }
    }
}
