//! The installation's configuration, and the digest by which a cursor knows whether a resource is still the one that it was for.
//!
//! Leaves what the JSON Schema in `plugin.toml` can say (types, known keys) to the kernel, which has already checked it, and the rest
//! to `validate`.

use std::collections::BTreeMap;

use kith_plugin_sdk::json;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::hash::hash;

/// The configuration as it is written; each resource by itself, so that a mistake in one is told with its place.
#[derive(Deserialize)]
struct Written {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    resources: Vec<Box<RawValue>>,
    #[serde(default)]
    upsert: bool,
}

/// The configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What all paths stand behind, without a slash at its end.
    pub(crate) url: String,
    /// Of every request.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) resources: Vec<Resource>,
}

/// A list that the API gives, page by page.
#[derive(Debug, Deserialize)]
pub(crate) struct Resource {
    pub(crate) name: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) method: Method,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Of a `POST`.
    #[serde(default)]
    pub(crate) body: Map<String, Value>,
    /// Where the parameters of paging and of the time go.
    #[serde(default)]
    pub(crate) parameters: Place,
    /// The path to the list of records; empty where the whole answer is the list.
    #[serde(default)]
    pub(crate) records: String,
    #[serde(default)]
    pub(crate) paging: Paging,
    pub(crate) since: Option<Since>,
    #[serde(default)]
    pub(crate) kind: Kind,
    #[serde(default)]
    pub(crate) event: EventName,
    pub(crate) identifiers: BTreeMap<String, Paths>,
    /// The path to the record's id.
    pub(crate) id: String,
    /// The path to what is another value with each change of the record.
    pub(crate) version: Option<String>,
    pub(crate) time: Option<TimeAt>,
    pub(crate) properties: Option<Selection>,
    pub(crate) traits: Option<Selection>,
    /// Purposes, or what else a consent is of, each with the path to what says yes or no.
    #[serde(default)]
    pub(crate) consent: BTreeMap<String, String>,
    /// Paths that are left out where all of a record is taken.
    #[serde(default)]
    pub(crate) omit: Vec<String>,
    /// Of what is asked for: the keys of [`ASKED`], the address and the headers of all requests.
    #[serde(skip)]
    pub(crate) digest: u64,
    /// `upsert` of the whole configuration: a changed record corrects its event, which therefore has the record's id alone.
    #[serde(skip)]
    pub(crate) corrects: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) enum Method {
    #[default]
    #[serde(rename = "GET")]
    Get,
    #[serde(rename = "POST")]
    Post,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    #[default]
    Query,
    Body,
}

/// How one page leads to the next.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Paging {
    #[serde(default)]
    pub(crate) style: Style,
    /// The path in the answer to the next cursor, or to the next page's address.
    pub(crate) next: Option<String>,
    /// The path in the last record to what the next page begins behind.
    pub(crate) last: Option<String>,
    /// The path in the answer to whether there is another page.
    pub(crate) has_more: Option<String>,
    parameter: Option<String>,
    /// The number of the first page.
    first: Option<u64>,
    /// How many records are asked for.
    pub(crate) size: Option<u64>,
    size_parameter: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Style {
    /// One page is all.
    #[default]
    None,
    /// The answer says where the next page is.
    Link,
    /// The answer says what to ask for the next page with.
    Cursor,
    /// Pages have numbers.
    Page,
    /// Records have numbers, from 0.
    Offset,
}

impl Paging {
    /// The parameter that says which page is asked for.
    pub(crate) fn parameter(&self) -> &str {
        self.parameter.as_deref().unwrap_or(match self.style {
            Style::None | Style::Link => "",
            Style::Cursor => "cursor",
            Style::Page => "page",
            Style::Offset => "offset",
        })
    }

    /// Whether the configuration names that parameter.
    pub(crate) fn names_parameter(&self) -> bool {
        self.parameter.is_some()
    }

    /// Whether the configuration names the number of the first page.
    pub(crate) fn names_first(&self) -> bool {
        self.first.is_some()
    }

    /// Whether the configuration names the parameter that says how many records are asked for.
    pub(crate) fn names_size_parameter(&self) -> bool {
        self.size_parameter.is_some()
    }

    /// The number of the first page.
    pub(crate) fn first(&self) -> u64 {
        self.first.unwrap_or(1)
    }

    /// The parameter that says how many records are asked for.
    pub(crate) fn size_parameter(&self) -> &str {
        self.size_parameter.as_deref().unwrap_or("limit")
    }
}

/// How the API is asked for what changed since the last run.
#[derive(Debug, Deserialize)]
pub(crate) struct Since {
    pub(crate) parameter: String,
    /// The path in a record to the value of which the greatest is asked with the next time.
    pub(crate) field: String,
    #[serde(default, rename = "type")]
    pub(crate) value_type: SinceType,
    #[serde(default)]
    pub(crate) format: SinceFormat,
    /// How much is asked for again: seconds, or so much of a number.
    overlap: Option<i64>,
    /// What the first run asks with; without it, for everything.
    pub(crate) start: Option<String>,
}

impl Since {
    /// How much is asked for again, in the unit of the mark: milliseconds, or one.
    pub(crate) fn overlap(&self) -> i64 {
        match self.value_type {
            SinceType::Time => self.overlap.unwrap_or(60).saturating_mul(1_000),
            SinceType::Number => self.overlap.unwrap_or(0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SinceType {
    #[default]
    Time,
    /// A whole number that grows.
    Number,
}

/// How a time is written to the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SinceFormat {
    #[default]
    Rfc3339,
    Date,
    Unix,
    UnixMs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    #[default]
    Track,
    Identify,
}

/// The name of an event: one for all records, or the value at a path, with new names for some of its values.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct EventName {
    pub(crate) name: Option<String>,
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) rename: BTreeMap<String, String>,
}

/// One path or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Paths {
    One(String),
    Several(Vec<String>),
}

impl Paths {
    pub(crate) fn all(&self) -> &[String] {
        match self {
            Paths::One(path) => std::slice::from_ref(path),
            Paths::Several(paths) => paths,
        }
    }
}

/// When it happened.
#[derive(Debug, Deserialize)]
pub(crate) struct TimeAt {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) format: TimeFormat,
    /// `UTC`, or how far clocks are ahead of it, for times that name none.
    zone: Option<String>,
}

impl TimeAt {
    /// How far the clocks of times that name no zone are ahead of UTC; `None` where the configuration says what is no offset.
    pub(crate) fn offset_ms(&self) -> Option<i64> {
        let Some(zone) = self.zone.as_deref().filter(|zone| *zone != "UTC") else { return Some(0) };
        // Midnight there is so much earlier or later here.
        moment(&format!("1970-01-01T00:00:00{zone}")).map(|midnight| -midnight)
    }
}

fn moment(text: &str) -> Option<i64> {
    kith_plugin_sdk::time::parse_rfc3339(text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TimeFormat {
    #[default]
    Auto,
    Unix,
    UnixMs,
}

/// What of a record becomes properties or traits: a list of paths, each under its last key, or new names for them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Selection {
    List(Vec<String>),
    Map(BTreeMap<String, String>),
}

impl Selection {
    /// Each key with its path.
    pub(crate) fn fields(&self) -> Vec<(&str, &str)> {
        match self {
            Selection::List(paths) => paths.iter().map(|path| (last_key(path), path.as_str())).collect(),
            Selection::Map(fields) => fields.iter().map(|(key, path)| (key.as_str(), path.as_str())).collect(),
        }
    }
}

fn last_key(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

impl Resource {
    /// What the reason of a record that is set aside ends with, where such records say something of consent.
    pub(crate) fn word_of_consent(&self) -> &'static str {
        if self.consent.is_empty() { "" } else { "; what it says of consent was not taken" }
    }
}

/// The keys of a resource by which it is decided which records the API gives and by which id each is known. The others say what is
/// made of a record: under others what was read stays as it was stored, so that nothing is gained by reading it again.
const ASKED: [&str; 10] =
    ["path", "method", "query", "headers", "body", "parameters", "records", "paging", "since", "id"];

/// A number for what is asked for, the same however it is written.
fn digest(url: &str, headers: &BTreeMap<String, String>, resource: &RawValue) -> Result<u64, serde_json::Error> {
    let mut asked: BTreeMap<String, &RawValue> = serde_json::from_str(resource.get())?;
    asked.retain(|key, _| ASKED.contains(&key.as_str()));
    Ok(json::fingerprint(&serde_json::to_string(&(url, headers, asked))?, hash))
}

/// Why a configuration does not read: the key, and what is wrong there.
pub(crate) type Unreadable = (String, String);

impl Settings {
    /// Read the configuration.
    pub(crate) fn read(text: &str) -> Result<Settings, Unreadable> {
        let words = |error: serde_json::Error| format!("it does not read: {error}");
        let written: Written = serde_json::from_str(text).map_err(|error| (String::new(), words(error)))?;
        let url = written.url.trim_end_matches('/').to_owned();
        let mut resources = Vec::with_capacity(written.resources.len());
        for (place, text) in written.resources.iter().enumerate() {
            let resource = serde_json::from_str(text.get());
            let mut resource: Resource = resource.map_err(|error| (format!("resources.{place}"), words(error)))?;
            resource.digest =
                digest(&url, &written.headers, text).map_err(|error| (format!("resources.{place}"), words(error)))?;
            resource.corrects = written.upsert;
            resources.push(resource);
        }
        Ok(Settings { url, headers: written.headers, resources })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(url: &str, resource: &str) -> u64 {
        let text = format!(r#"{{"url":"{url}","resources":[{resource}]}}"#);
        Settings::read(&text).unwrap().resources[0].digest
    }

    #[test]
    fn a_digest_changes_with_what_is_asked_for_and_with_nothing_else() {
        let one = r#"{"name":"a","path":"/a","id":"id","identifiers":{"user_id":"id"}}"#;
        let same = r#"{ "id": "id", "identifiers": {"user_id": "id"}, "path": "/a", "name": "a" }"#;
        assert_eq!(digest("https://x", one), digest("https://x/", same), "written in another way");
        assert_ne!(digest("https://x", one), digest("https://y", one));
        let with = |key: &str, value: Value| {
            let mut resource: Value = serde_json::from_str(one).unwrap();
            resource[key] = value;
            digest("https://x", &resource.to_string())
        };
        for (key, value) in [
            ("path", json!("/b")),
            ("method", json!("POST")),
            ("query", json!({ "status": "any" })),
            ("headers", json!({ "x-shop": "2" })),
            ("body", json!({ "sort": "id" })),
            ("parameters", json!("body")),
            ("records", json!("items")),
            ("paging", json!({ "style": "page" })),
            ("since", json!({ "parameter": "since", "field": "at" })),
            ("id", json!("uid")),
        ] {
            assert_ne!(with(key, value), digest("https://x", one), "{key}");
        }
        for (key, value) in [
            ("kind", json!("identify")),
            ("event", json!({ "name": "E" })),
            ("identifiers", json!({ "user_id": "uid" })),
            ("version", json!("at")),
            ("time", json!({ "path": "at" })),
            ("properties", json!(["total"])),
            ("traits", json!([])),
            ("consent", json!({ "news": "letters" })),
            ("omit", json!(["secret"])),
        ] {
            assert_eq!(with(key, value), digest("https://x", one), "{key}");
        }
        let of_all = r#"{"url":"https://x","headers":{"x-shop":"2"},"resources":[RESOURCE]}"#.replace("RESOURCE", one);
        assert_ne!(Settings::read(&of_all).unwrap().resources[0].digest, digest("https://x", one));
    }

    #[test]
    fn a_mistake_is_told_with_its_resource() {
        let config = json!({ "url": "https://x", "resources": [
            { "name": "a", "path": "/a", "id": "id", "identifiers": {} },
            { "name": "b", "path": "/b", "identifiers": {} },
        ] });
        let (key, message) = Settings::read(&config.to_string()).unwrap_err();
        assert_eq!(key, "resources.1");
        assert!(message.contains("`id`"), "{message}");
    }

    #[test]
    fn an_offset_is_how_far_clocks_are_ahead() {
        let offset = |zone: Option<&str>| {
            TimeAt { path: String::new(), format: TimeFormat::Auto, zone: zone.map(str::to_owned) }.offset_ms()
        };
        assert_eq!(offset(None), Some(0));
        assert_eq!(offset(Some("UTC")), Some(0));
        assert_eq!(offset(Some("+01:30")), Some(5_400_000));
        assert_eq!(offset(Some("-05:00")), Some(-18_000_000));
        assert_eq!(offset(Some("Berlin")), None);
    }
}
