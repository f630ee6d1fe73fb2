//! The request for a page: address, parameters, headers. The kernel sends it, and puts the secret in its place.

use kith_plugin_sdk::http::Request;
use kith_plugin_sdk::{PollFailure, secrets};
use serde_json::{Map, Value};

use crate::address;
use crate::progress::{Position, Run};
use crate::settings::{Method, Place, Resource, Settings, Style};
use crate::since;

/// The name of the secret in the manifest.
pub(crate) const SECRET: &str = "token";

/// What stands for the secret in the value of a header.
pub(crate) const PLACEHOLDER: &str = "{token}";

/// The request for the page at which a run stands.
pub(crate) fn of(settings: &Settings, resource: &Resource, run: &Run) -> Result<Request, PollFailure> {
    let url = url(settings, resource, run);
    let mut request = match resource.method {
        Method::Get => Request::get(url),
        Method::Post => Request::post(url),
    };
    let headers =
        || settings.headers.iter().filter(|(name, _)| !has(resource.headers.keys(), name)).chain(&resource.headers);
    for (name, value) in headers() {
        request = request.header(name, with_secret(value)?);
    }
    if !has(headers().map(|(name, _)| name), "accept") {
        request = request.header("accept", "application/json");
    }
    if resource.method == Method::Post {
        let mut body = resource.body.clone();
        if resource.parameters == Place::Body {
            body.extend(parameters(resource, run));
        }
        request = request.json(&body)?;
    }
    Ok(request)
}

/// The address of the page at which a run stands. A link is the whole address; it repeats what the first page was asked with.
pub(crate) fn url(settings: &Settings, resource: &Resource, run: &Run) -> String {
    if let Position::Link(url) = &run.position {
        return url.clone();
    }
    let mut url = format!("{}{}", settings.url, resource.path);
    let asked = match resource.parameters {
        Place::Query => parameters(resource, run),
        Place::Body => Map::new(),
    };
    for (name, value) in resource.query.iter().filter(|(name, _)| !asked.contains_key(*name)).chain(&asked) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| push(&mut url, name, value)),
            value => push(&mut url, name, value),
        }
    }
    url
}

fn push(url: &mut String, name: &str, value: &Value) {
    match value {
        Value::String(text) => address::push_parameter(url, name, text),
        other => address::push_parameter(url, name, &other.to_string()),
    }
}

/// What says which page, how much, and since when.
fn parameters(resource: &Resource, run: &Run) -> Map<String, Value> {
    let mut parameters = Map::new();
    if let Some(since) = &resource.since
        && let Some(value) = since::parameter(since, run.since)
    {
        parameters.insert(since.parameter.clone(), value);
    }
    let paging = &resource.paging;
    if let Some(size) = paging.size {
        parameters.insert(paging.size_parameter().to_owned(), size.into());
    }
    let position = match (&run.position, paging.style) {
        (Position::Page(number) | Position::Offset(number), _) => Some(Value::from(*number)),
        (Position::Cursor(text), _) => Some(Value::from(text.as_str())),
        (_, Style::Page) => Some(Value::from(paging.first())),
        (_, Style::Offset) => Some(Value::from(0)),
        (_, Style::None | Style::Link | Style::Cursor) => None,
    };
    if let Some(position) = position {
        parameters.insert(paging.parameter().to_owned(), position);
    }
    parameters
}

fn with_secret(value: &str) -> Result<String, PollFailure> {
    if !value.contains(PLACEHOLDER) {
        return Ok(value.to_owned());
    }
    let stand_in = secrets::stand_in(SECRET).ok_or_else(|| {
        PollFailure::permanent(format!(
            "a header holds `{PLACEHOLDER}` and the secret `{SECRET}` is not set, or not granted for the host; set it with \
             `kith plugin change NAME --secret {SECRET}=…`"
        ))
    })?;
    Ok(value.replace(PLACEHOLDER, &stand_in))
}

fn has<'n>(mut names: impl Iterator<Item = &'n String>, name: &str) -> bool {
    names.any(|other| other.eq_ignore_ascii_case(name))
}
