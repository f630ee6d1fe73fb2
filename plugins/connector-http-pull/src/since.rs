//! What the API is asked with for what changed: the greatest value of a field up to the last complete run, less an overlap.

use std::borrow::Cow;

use kith_plugin_sdk::{Timestamp, time};
use serde_json::Value;

use crate::path;
use crate::settings::{Since, SinceFormat, SinceType};

/// A date has no zone, and the API reads it as a day of its own: behind UTC that begins up to twelve hours later.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// The value of a record in the unit of marks: milliseconds, or a number; `None` where it has none that can be read.
pub(crate) fn value_of(record: &[u8], since: &Since) -> Option<i64> {
    let text: Cow<'_, str> = path::plain(path::find(record, &since.field)?)?;
    match since.value_type {
        SinceType::Time => time::parse(&text),
        SinceType::Number => text.trim().parse().ok(),
    }
}

/// The greater of two values. A time behind the beginning of the run counts as that: what changes while pages are read may be missed
/// on pages that were read already, and a record from the future would hide all others until then. Of a number nothing says that it is
/// too great.
pub(crate) fn greatest(highest: Option<i64>, value: i64, since: &Since, started_at: Timestamp) -> Option<i64> {
    let value = match since.value_type {
        SinceType::Time => value.min(started_at),
        SinceType::Number => value,
    };
    highest.max(Some(value))
}

/// The parameter for a mark; without one what the first run asks with, if anything.
pub(crate) fn parameter(since: &Since, mark: Option<i64>) -> Option<Value> {
    let Some(mark) = mark else { return since.start.as_deref().map(Value::from) };
    let from = mark.saturating_sub(since.overlap());
    Some(match (since.value_type, since.format) {
        (SinceType::Number, _) => Value::from(from),
        (SinceType::Time, SinceFormat::Unix) => Value::from(from.max(0) / 1_000),
        (SinceType::Time, SinceFormat::UnixMs) => Value::from(from.max(0)),
        (SinceType::Time, SinceFormat::Rfc3339) => Value::from(time::rfc3339(from.max(0))?),
        (SinceType::Time, SinceFormat::Date) => {
            Value::from(time::rfc3339(from.saturating_sub(DAY_MS).max(0))?.get(..10)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn since(extra: &Value) -> Since {
        let mut config = json!({ "parameter": "since", "field": "meta.at" });
        let extra = extra.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(extra);
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn values_are_times_in_any_form_or_whole_numbers() {
        let value = |record: &str, extra: &Value| value_of(record.as_bytes(), &since(extra));
        let time = json!({});
        for (record, expected) in [
            (r#"{"meta":{"at":"2023-11-14T22:13:20Z"}}"#, Some(1_700_000_000_000)),
            (r#"{"meta":{"at":"2023-11-14T23:13:20.5+01:00"}}"#, Some(1_700_000_000_500)),
            (r#"{"meta":{"at":1700000000}}"#, Some(1_700_000_000_000)),
            (r#"{"meta":{"at":"soon"}}"#, None),
            (r#"{"meta":{"at":null}}"#, None),
            (r#"{"meta":{}}"#, None),
        ] {
            assert_eq!(value(record, &time), expected, "{record}");
        }
        let number = json!({ "type": "number" });
        assert_eq!(value(r#"{"meta":{"at":9007199254740993}}"#, &number), Some(9_007_199_254_740_993));
        assert_eq!(value(r#"{"meta":{"at":"17"}}"#, &number), Some(17));
        for far in ["1e400", "123456789012345678901234567890", "1.5"] {
            assert_eq!(value(&format!(r#"{{"meta":{{"at":{far}}}}}"#), &number), None, "{far}");
        }
    }

    #[test]
    fn a_time_from_the_future_counts_as_now() {
        let time = since(&json!({}));
        assert_eq!(greatest(None, 500, &time, 400), Some(400));
        assert_eq!(greatest(Some(300), 200, &time, 400), Some(300));
        assert_eq!(greatest(None, 500, &since(&json!({ "type": "number" })), 400), Some(500));
    }

    #[test]
    fn the_parameter_is_written_as_the_api_wants_it() {
        let mark = 1_700_000_000_999;
        for (extra, expected) in [
            (json!({}), json!("2023-11-14T22:12:20Z")),
            (json!({ "overlap": 0 }), json!("2023-11-14T22:13:20Z")),
            (json!({ "overlap": 0, "format": "date" }), json!("2023-11-13")),
            (json!({ "overlap": 20, "format": "unix" }), json!(1_699_999_980)),
            (json!({ "overlap": 1, "format": "unix_ms" }), json!(1_699_999_999_999_i64)),
            (json!({ "overlap": 10, "type": "number" }), json!(1_700_000_000_989_i64)),
        ] {
            assert_eq!(parameter(&since(&extra), Some(mark)), Some(expected), "{extra}");
        }
        for mark in [1, i64::MIN] {
            assert_eq!(parameter(&since(&json!({})), Some(mark)), Some(json!("1970-01-01T00:00:00Z")));
            assert_eq!(parameter(&since(&json!({ "format": "date" })), Some(mark)), Some(json!("1970-01-01")));
        }
        assert_eq!(parameter(&since(&json!({})), None), None);
        assert_eq!(parameter(&since(&json!({ "start": "2020-01-01" })), None), Some(json!("2020-01-01")));
    }
}
