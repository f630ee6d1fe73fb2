//! The description against what is answered: every answer that any test of the API gets is held against it, and the document
//! itself against what OpenAPI 3.1 and its readers ask for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, OnceLock};

use axum::http::{HeaderMap, StatusCode, header};
use jsonschema::Validator;
use serde_json::{Value, json};

use super::{FIRST, ask, key_with, source};
use crate::api::openapi::document;
use crate::auth::Scope;
use crate::serve::tests::server;

/// Insist that an answer is as its operation is described. What is no described operation, e.g. a wrong path, is the router's.
#[track_caller]
pub(super) fn hold(method: &str, path: &str, status: StatusCode, headers: &HeaderMap, body: &Value) {
    let path = path.split('?').next().unwrap_or_default();
    let Some((template, operation)) = operation(method, path) else { return };
    let place = format!("{method} {template} {}", status.as_u16());
    let responses = &operation["responses"];
    let described = [&responses[status.as_str()], &responses["default"]].into_iter().find(|one| one.is_object());
    let described = described.unwrap_or_else(|| panic!("{place} is not described: {body}"));
    if status.is_success() {
        let says_version = headers.contains_key(header::ETAG);
        assert_eq!(says_version, described["headers"]["ETag"].is_object(), "{place}: the version");
    }
    let Some(media) = headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok()) else {
        assert!(described["content"].is_null(), "{place} has no content");
        return;
    };
    let media = media.split(';').next().unwrap_or_default();
    let content = [&described["content"][media], &described["content"]["*/*"]].into_iter().find(|one| one.is_object());
    let content = content.unwrap_or_else(|| panic!("{place} is not described as {media}: {body}"));
    if media.ends_with("json") && media != "application/x-ndjson" && content["schema"].is_object() {
        let mistakes = mistakes(&content["schema"], body);
        assert!(mistakes.is_empty(), "{place}: {mistakes:?} in {body}");
    }
}

/// The operation of a path, one without parameters before others.
fn operation(method: &str, path: &str) -> Option<(&'static str, &'static Value)> {
    let method = method.to_ascii_lowercase();
    let fits = |template: &str| {
        let (parts, asked): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
        let is_part = |(part, asked): (&&str, &&str)| part == asked || (part.starts_with('{') && !asked.is_empty());
        parts.len() == asked.len() && parts.iter().zip(&asked).all(is_part)
    };
    let paths = document()["paths"].as_object()?.iter();
    let (template, item) =
        paths.filter(|(template, _)| fits(template)).min_by_key(|(path, _)| path.matches('{').count())?;
    item.get(&method).map(|operation| (template.as_str(), operation))
}

/// What of a value is not as a schema of the document has it.
fn mistakes(schema: &Value, value: &Value) -> Vec<String> {
    static READY: OnceLock<Mutex<HashMap<String, Validator>>> = OnceLock::new();
    let mut ready = READY.get_or_init(Mutex::default).lock().unwrap();
    let validator = ready.entry(schema.to_string()).or_insert_with(|| {
        let whole = json!({ "allOf": [schema], "components": document()["components"] });
        jsonschema::draft202012::options().build(&whole).unwrap()
    });
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Each operation of the document with its method and path.
fn all() -> impl Iterator<Item = (String, &'static Value)> {
    let paths = document()["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

/// Every object in a document, with its place.
fn nodes(value: &'static Value, place: String, found: &mut Vec<(String, &'static Value)>) {
    match value {
        Value::Object(members) => {
            found.push((place.clone(), value));
            members.iter().for_each(|(name, member)| nodes(member, format!("{place}/{name}"), found));
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, value)| nodes(value, format!("{place}/{at}"), found));
        }
        _ => {}
    }
}

#[test]
fn each_operation_has_an_id_of_its_own_that_says_what_it_is_about() {
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    for (place, operation) in all() {
        let id = operation["operationId"].as_str().unwrap();
        assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit()), "{id}");
        let bare = ["list", "read", "create", "change", "remove", "replace", "put", "export", "check", "add", "begin"];
        assert!(!bare.contains(&id), "{place} is only `{id}`");
        if let Some(other) = ids.insert(id, place.clone()) {
            panic!("{id} is {other} and {place}");
        }
    }
    assert!(ids.len() > 100);
}

#[test]
fn each_answer_says_what_it_is_and_of_which_version() {
    for (place, operation) in all() {
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            let text = response["description"].as_str().unwrap_or_default();
            assert!(!text.trim().is_empty(), "{place} {status} has no description");
        }
        let names = |of: &str| -> Vec<&'static str> {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            parameters.filter(|one| one["in"] == of).map(|one| one["name"].as_str().unwrap()).collect()
        };
        assert_eq!(responses.contains_key("412"), names("header").contains(&"If-Match"), "{place}");
        let path = place.split_once(' ').unwrap().1;
        let mut in_path: Vec<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        in_path.sort_unstable();
        let mut declared = names("path");
        declared.sort_unstable();
        assert_eq!(declared, in_path, "{place}");
    }
}

/// Who reads a description with these would be told something that is never so.
#[test]
fn nothing_is_described_that_cannot_be() {
    let mut found = Vec::new();
    nodes(document(), String::new(), &mut found);
    for (place, node) in found {
        if let Some(reference) = node["$ref"].as_str() {
            let to = reference.strip_prefix('#').and_then(|pointer| document().pointer(pointer));
            assert!(to.is_some(), "{place} leads nowhere: {reference}");
        }
        // A part that takes no more members refuses those of the parts beside it.
        for part in node["allOf"].as_array().into_iter().flatten() {
            let mut inner = Vec::new();
            closed(part, &mut inner);
            assert!(inner.is_empty(), "{place}: {inner:?}");
        }
        // One of two holds never where a value fits both.
        let is_null = |schema: &Value| schema["type"] == "null";
        assert!(
            !node["oneOf"].as_array().is_some_and(|forms| forms.iter().any(is_null)),
            "{place}: one of it and null"
        );
    }
    for (place, operation) in all() {
        let contents = operation["responses"].as_object().unwrap().values().map(|response| &response["content"]);
        let contents = contents.chain([&operation["requestBody"]["content"]]);
        for (media, content) in contents.filter_map(Value::as_object).flatten() {
            let is_bytes = content["schema"]["items"]["format"] == "int32";
            assert!(!is_bytes, "{place}: {media} is no array of numbers");
        }
        let answer = operation["responses"].as_object().unwrap().iter().find(|(status, _)| status.starts_with('2'));
        let schema = &answer.unwrap().1["content"]["application/json"]["schema"];
        // Of others' forms, and of this document, there is nothing to say.
        let is_other = ["/sourceConfig", "/settings", "/openapi.json"].iter().any(|end| place.ends_with(end));
        assert!(is_other || *schema != json!({ "type": "object" }), "{place} answers with any object");
    }
}

/// The parts of a part of an object that take no more members.
fn closed(part: &'static Value, found: &mut Vec<&'static Value>) {
    if part["additionalProperties"] == false {
        found.push(part);
    }
    if let Some(to) = part["$ref"].as_str().and_then(|reference| document().pointer(reference.strip_prefix('#')?)) {
        closed(to, found);
    }
    for word in ["allOf", "oneOf", "anyOf"] {
        part[word].as_array().into_iter().flatten().for_each(|part| closed(part, found));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_and_readiness_are_as_they_are_described() {
    let server = server();
    let entry = json!({ "meaning": "what was paid", "sensitivity": "personal" });
    ask(&server, "PUT", "/api/v1/dictionary/trait/plan").admin().json(entry).await.with(200);
    ask(&server, "GET", "/api/v1/dictionary/trait/plan").admin().empty().await.with(200);
    ask(&server, "GET", "/api/v1/dictionary").admin().empty().await.with(200);
    let narrow = key_with(&server, FIRST, &[Scope::Ingest], None);
    let ready = ask(&server, "GET", "/readyz").key(&narrow).empty().await.with(200);
    assert_eq!(ready, json!({ "status": "ready" }));
}

/// Parameters of a query that an operation of the admin API does not know are mistakes; senders' are their connectors'.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_query_does_not_know_is_refused_on_every_admin_route() {
    let server = server();
    let everything = key_with(&server, FIRST, &[Scope::All, Scope::WorkspacesAdmin], None);
    let mut refused = 0;
    for (place, _) in all() {
        let (method, path) = place.split_once(' ').unwrap();
        if !path.starts_with("/api/v1/") {
            continue;
        }
        let path = path.split('/').map(|part| if part.starts_with('{') { "nothing" } else { part });
        let path = format!("{}?nonsense=1", path.collect::<Vec<_>>().join("/"));
        let answer = ask(&server, &method.to_uppercase(), &path).key(&everything).empty().await;
        let body = answer.problem(400, "bad-input");
        assert_eq!(body["errors"][0]["path"], "?nonsense", "{place}");
        refused += 1;
    }
    assert!(refused > 80);
    let key = source(&server, FIRST);
    for path in ["/v1/batch?nonsense=1", &format!("/hooks/{key}?nonsense=1")] {
        ask(&server, "POST", path).key(&key).send("ada").await.with(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_dry_run_stores_nothing() {
    let server = server();
    let key = source(&server, FIRST);
    let path = |query: &str| format!("/api/v1/sources/lines/records?{query}");
    for query in ["dryrun=true", "dry-run=true", "Dry_Run=1", "dry_runs"] {
        let answer = ask(&server, "POST", &path(query)).key(&key).send("ada").await;
        let body = answer.problem(400, "bad-input");
        let message = body["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("did you mean `dry_run`?") && message.contains("import, from, dry_run"), "{message}");
    }
    let dry = ask(&server, "POST", &path("dry_run=true")).key(&key).send("ada").await.with(200);
    assert_eq!((&dry["dry_run"], &dry["event_count"]), (&json!(true), &json!(1)));
    let dry = ask(&server, "POST", &path("dry_run")).key(&key).send("ada").await.with(200);
    assert_eq!(dry["dry_run"], true);
    ask(&server, "POST", &path("dry_run=ture")).key(&key).send("ada").await.problem(400, "bad-query");
    let taken = ask(&server, "POST", &path("")).key(&key).send("ada").await.with(200);
    assert_eq!(taken["accepted"], 1, "none of these stored anything");
    let wide = ask(&server, "GET", "/api/v1/profiles?trait.city=Oslo&limt=3").admin().empty().await;
    let body = wide.problem(400, "bad-input");
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("did you mean `limit`?"), "{body}");
    ask(&server, "GET", "/api/v1/profiles?trait.city=Oslo&limit=3").admin().empty().await.with(200);
}
