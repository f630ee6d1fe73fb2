//! What the JSON Schema of the configuration cannot say, found when the source is installed or changed instead of at its first poll.

use std::collections::{BTreeMap, BTreeSet};

use kith_plugin_sdk::Problem;

use crate::address::origin;
use crate::consent;
use crate::record::CONSENT;
use crate::request::PLACEHOLDER;
use crate::settings::{
    Kind, Method, Paging, Place, Resource, Selection, Settings, Since, SinceFormat, SinceType, Style,
};

/// Headers that the kernel writes, or that say something of a body which the connector writes.
const OWN_HEADERS: [&str; 6] =
    ["connection", "content-length", "content-type", "host", "transfer-encoding", "accept-encoding"];

/// Whether an API could be read with a configuration.
pub(crate) fn validate(config: &str) -> Result<(), Vec<Problem>> {
    let settings = Settings::read(config).map_err(|(key, message)| vec![Problem::new(key, message)])?;
    let mut found = Found::default();
    found.address(&settings.url);
    found.headers("headers", &settings.headers);
    let mut names = BTreeSet::new();
    for (place, resource) in settings.resources.iter().enumerate() {
        let key = |key: &str| format!("resources.{place}.{key}");
        if !names.insert(resource.name.as_str()) {
            found.add(
                key("name"),
                format!("two resources are called `{}`; the cursor tells them apart by it", resource.name),
            );
        }
        found.resource(&settings.url, resource, &key);
    }
    if found.problems.is_empty() { Ok(()) } else { Err(found.problems) }
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
}

impl Found {
    fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(key, message));
    }

    fn address(&mut self, url: &str) {
        match origin(url) {
            Err(problem) => self.add("url", problem),
            Ok(_) if url.contains(['?', '#']) => {
                self.add("url", "holds a query; write it under `query` of the resources");
            }
            Ok(origin) if !origin.is_private() => {
                let message = "is not encrypted, and the secret and people's data would be read on the way; write `https://…`. Only \
                               addresses of the machine itself may be `http://`";
                self.add("url", message);
            }
            Ok(_) => {}
        }
    }

    fn headers(&mut self, key: &str, headers: &BTreeMap<String, String>) {
        for (name, value) in headers {
            let key = format!("{key}.{name}");
            let is_token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte));
            if name.is_empty() || !is_token {
                self.add(&key, "is no name of a header");
            }
            if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                self.add(&key, "holds letters that a header does not have; write printable ASCII");
            }
            if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                self.add(&key, "is written by the kernel; leave it out");
            }
            if value.replace(PLACEHOLDER, "").contains(['{', '}']) {
                self.add(&key, format!("holds braces; the one placeholder is `{PLACEHOLDER}`, for the secret `token`"));
            }
        }
    }

    fn resource(&mut self, url: &str, resource: &Resource, key: &dyn Fn(&str) -> String) {
        if !resource.path.starts_with('/') {
            self.add(key("path"), "stands behind `url` and begins with `/`");
        } else if resource.path.contains(['?', '#']) {
            self.add(key("path"), "holds a query; write it under `query`");
        } else if let Err(problem) = origin(&format!("{url}{}", resource.path))
            && origin(url).is_ok()
        {
            self.add(key("path"), problem);
        }
        self.headers(&key("headers"), &resource.headers);
        for (name, value) in &resource.query {
            if value.to_string().contains(PLACEHOLDER) {
                let message = format!(
                    "holds `{PLACEHOLDER}`: a secret in an address ends in logs, so that the kernel puts secrets into headers alone; \
                     most APIs that take a key in the query take it in a header too"
                );
                self.add(key(&format!("query.{name}")), message);
            }
        }
        if resource.method == Method::Get {
            if !resource.body.is_empty() {
                self.add(key("body"), "has no effect beside `method` GET");
            }
            if resource.parameters == Place::Body {
                self.add(key("parameters"), "`body` needs `method` POST");
            }
        }
        self.paging(&resource.paging, &|name| key(&format!("paging.{name}")));
        if let Some(since) = &resource.since {
            self.since(since, resource, key);
        }
        if resource.corrects && resource.version.is_some() {
            self.add(key("version"), "has no effect beside `upsert`: a changed record has the id of its event");
        }
        self.event(resource, key);
        self.selections(resource, key);
        self.consent(resource, key);
    }

    fn paging(&mut self, paging: &Paging, key: &dyn Fn(&str) -> String) {
        let style = paging.style;
        let mut only_of = |is_given: bool, name: &str, styles: &[Style], words: &str| {
            if is_given && !styles.contains(&style) {
                self.problems
                    .push(Problem::new(key(name), format!("has no effect with this `style`; it is of {words}")));
            }
        };
        only_of(paging.next.is_some(), "next", &[Style::Link, Style::Cursor], "`link` and `cursor`");
        only_of(paging.last.is_some(), "last", &[Style::Cursor], "`cursor`");
        let counted = [Style::Cursor, Style::Page, Style::Offset];
        only_of(paging.names_parameter(), "parameter", &counted, "`cursor`, `page` and `offset`");
        only_of(paging.names_first(), "first", &[Style::Page], "`page`");
        only_of(
            paging.has_more.is_some(),
            "has_more",
            &[Style::Link, counted[0], counted[1], counted[2]],
            "all but `none`",
        );
        if style == Style::Cursor && paging.next.is_some() == paging.last.is_some() {
            let message = "`cursor` needs either `next`, the path in the answer to the next cursor, or `last`, the path in the last \
                           record to what the next page begins behind";
            self.add(key("next"), message);
        }
        if paging.size.is_none() && paging.names_size_parameter() {
            self.add(key("size_parameter"), "has no effect without `size`");
        }
        if paging.size.is_some() && style != Style::Link && paging.size_parameter() == paging.parameter() {
            self.add(key("size_parameter"), "is the parameter that says which page is asked for, too");
        }
    }

    fn since(&mut self, since: &Since, resource: &Resource, key: &dyn Fn(&str) -> String) {
        let is_number = since.value_type == SinceType::Number;
        if is_number && since.format != SinceFormat::Rfc3339 {
            self.add(key("since.format"), "has no effect beside `type` number");
        }
        let paging = &resource.paging;
        let is_paging = since.parameter == paging.parameter()
            || paging.size.is_some() && since.parameter == paging.size_parameter();
        if is_paging {
            self.add(key("since.parameter"), "is a parameter of `paging`, too");
        }
    }

    fn event(&mut self, resource: &Resource, key: &dyn Fn(&str) -> String) {
        let event = &resource.event;
        let is_named = event.name.is_some() || event.path.is_some();
        match resource.kind {
            Kind::Track if !is_named => self.add(
                key("event"),
                "a record that is no person's needs a name: write `{\"name\": \"Order Completed\"}`, or the `path` to it",
            ),
            Kind::Identify if is_named => self.add(key("event"), "has no effect beside `kind` identify"),
            Kind::Track | Kind::Identify => {}
        }
        if event.path.is_none() && !event.rename.is_empty() {
            self.add(key("event.rename"), "has no effect without `path`");
        }
        if resource.time.as_ref().is_some_and(|time| time.offset_ms().is_none()) {
            self.add(key("time.zone"), "is neither `UTC` nor an offset such as `+01:00`");
        }
    }

    fn consent(&mut self, resource: &Resource, key: &dyn Fn(&str) -> String) {
        for (purpose, path) in &resource.consent {
            if let Some(problem) = consent::problem(path) {
                self.add(key(&format!("consent.{purpose}")), problem);
            }
        }
        let mut fields = resource.traits.iter().flat_map(Selection::fields);
        if !resource.consent.is_empty() && fields.any(|(name, _)| name.eq_ignore_ascii_case(CONSENT)) {
            self.add(key("traits"), "has a `consent` beside the one that is mapped; leave it out");
        }
    }

    fn selections(&mut self, resource: &Resource, key: &dyn Fn(&str) -> String) {
        for (name, selection) in [("properties", &resource.properties), ("traits", &resource.traits)] {
            let Some(selection @ Selection::List(_)) = selection else { continue };
            let mut keys = BTreeSet::new();
            for (last, path) in selection.fields() {
                if !keys.insert(last) {
                    let message =
                        format!("`{path}` would be called `{last}`, as another is; write a map from names to paths");
                    self.add(key(name), message);
                }
            }
        }
        let all = match resource.kind {
            Kind::Track => &resource.properties,
            Kind::Identify => &resource.traits,
        };
        if all.is_some() && !resource.omit.is_empty() {
            self.add(key("omit"), "has no effect where the fields that are taken are named");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn keys(config: &Value) -> Vec<String> {
        validate(&config.to_string()).err().into_iter().flatten().map(|problem| problem.key).collect()
    }

    fn with(resource: &Value) -> Value {
        let mut whole = json!({
            "name": "orders", "path": "/orders", "id": "id", "identifiers": { "user_id": "customer.id" },
            "event": { "name": "Order Completed" },
        });
        let resource = resource.as_object().unwrap().clone();
        whole.as_object_mut().unwrap().extend(resource);
        json!({ "url": "https://shop.example/v1", "headers": { "Authorization": "Bearer {token}" }, "resources": [whole] })
    }

    #[test]
    fn what_works_has_no_problem() {
        for fine in [
            json!({}),
            json!({ "paging": { "style": "link" } }),
            json!({ "paging": { "style": "link", "next": "links.next", "size": 100, "size_parameter": "per_page" } }),
            json!({ "paging": { "style": "cursor", "next": "meta.cursor", "has_more": "meta.more" } }),
            json!({ "paging": { "style": "cursor", "last": "id", "parameter": "starting_after", "size": 10 } }),
            json!({ "paging": { "style": "page", "first": 0, "size": 50 } }),
            json!({ "paging": { "style": "offset", "size": 50 } }),
            json!({ "method": "POST", "parameters": "body", "body": { "sort": "at" } }),
            json!({ "since": { "parameter": "updated_min", "field": "updated_at", "format": "unix" } }),
            json!({ "kind": "identify", "event": {}, "omit": ["secret"] }),
            json!({ "properties": ["total", "customer.id"], "traits": { "name": "customer.name" } }),
            json!({ "time": { "path": "at", "zone": "+02:00" } }),
            json!({ "consent": { "news": "newsletter", "*@email": "!opted_out" }, "traits": ["name"] }),
        ] {
            assert_eq!(keys(&with(&fine)), [""; 0], "{fine}");
        }
    }

    #[test]
    fn what_cannot_work_is_named_by_its_key() {
        for (bad, key) in [
            (json!({ "path": "/orders?x=1" }), "path"),
            (json!({ "path": "orders" }), "path"),
            (json!({ "path": "@evil.example/" }), "path"),
            (json!({ "path": "/or ders" }), "path"),
            (json!({ "headers": { "Host": "x" } }), "headers.Host"),
            (json!({ "headers": { "X-Key": "{secret}" } }), "headers.X-Key"),
            (json!({ "headers": { "X Key": "1" } }), "headers.X Key"),
            (json!({ "headers": { "X-Key": "1\r\nHost: x" } }), "headers.X-Key"),
            (json!({ "query": { "key": "{token}" } }), "query.key"),
            (json!({ "body": { "a": 1 } }), "body"),
            (json!({ "parameters": "body" }), "parameters"),
            (json!({ "paging": { "style": "cursor" } }), "paging.next"),
            (json!({ "paging": { "style": "cursor", "next": "a", "last": "b" } }), "paging.next"),
            (json!({ "paging": { "style": "page", "next": "a" } }), "paging.next"),
            (json!({ "paging": { "style": "link", "parameter": "a" } }), "paging.parameter"),
            (json!({ "paging": { "style": "offset", "first": 1 } }), "paging.first"),
            (json!({ "paging": { "has_more": "more" } }), "paging.has_more"),
            (json!({ "paging": { "style": "page", "size_parameter": "x" } }), "paging.size_parameter"),
            (json!({ "paging": { "style": "page", "size": 1, "size_parameter": "page" } }), "paging.size_parameter"),
            (
                json!({ "since": { "parameter": "s", "field": "f", "type": "number", "format": "unix" } }),
                "since.format",
            ),
            (
                json!({ "paging": { "style": "page" }, "since": { "parameter": "page", "field": "f" } }),
                "since.parameter",
            ),
            (json!({ "event": {} }), "event"),
            (json!({ "kind": "identify" }), "event"),
            (json!({ "event": { "name": "E", "rename": { "a": "b" } } }), "event.rename"),
            (json!({ "time": { "path": "at", "zone": "Europe/Berlin" } }), "time.zone"),
            (json!({ "properties": ["a.id", "b.id"] }), "properties"),
            (json!({ "properties": ["a"], "omit": ["b"] }), "omit"),
            (json!({ "consent": { "news": "opted_out" } }), "consent.news"),
            (json!({ "consent": { "news": "yes" }, "traits": ["a.Consent"] }), "traits"),
        ] {
            assert_eq!(keys(&with(&bad)), [format!("resources.0.{key}")], "{bad}");
        }
    }

    #[test]
    fn the_address_and_the_whole_are_looked_at_too() {
        for (url, is_fine) in [
            ("https://shop.example/v1/", true),
            ("http://127.0.0.1:8080", true),
            ("http://shop.example", false),
            ("https://shop.example/?key=1", false),
            ("https://u:p@shop.example", false),
            ("shop.example", false),
        ] {
            let mut config = with(&json!({}));
            config["url"] = json!(url);
            assert_eq!(keys(&config), if is_fine { vec![] } else { vec!["url"] }, "{url}");
        }
        let mut corrects = with(&json!({ "version": "v" }));
        corrects["upsert"] = json!(true);
        assert_eq!(keys(&corrects), ["resources.0.version"]);
        let mut twice = with(&json!({}));
        let again = twice["resources"][0].clone();
        twice["resources"].as_array_mut().unwrap().push(again);
        assert_eq!(keys(&twice), ["resources.1.name"]);
        assert_eq!(keys(&json!({ "url": "https://x", "resources": [{}] })), ["resources.0"]);
    }
}
