//! The parameters that an operation of the admin API takes in its query are those that its description names; any other is a
//! mistake, because what asks for less than it means to, e.g. `dryrun` for `dry_run`, would do more than it was meant to.
//! What senders call takes whatever comes: their connectors may know more.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequestParts, MatchedPath, Query};
use axum::http::Method;
use axum::http::request::Parts;

use super::operations::EACH_NAME;
use crate::api::words::nearest;
use crate::app::App;
use crate::error::ApiError;

/// Where names are checked.
const ADMIN: &str = "/api/v1/";

/// Characters of a name that are shown.
const MAX_SHOWN: usize = 64;

/// Insist that the query of a request has no parameter that its operation does not know.
pub(crate) fn check(parts: &Parts) -> Result<(), ApiError> {
    let is_empty = parts.uri.query().is_none_or(str::is_empty);
    let Some(path) = parts.extensions.get::<MatchedPath>().filter(|path| !is_empty && path.as_str().starts_with(ADMIN))
    else {
        return Ok(());
    };
    let method = if parts.method == Method::HEAD { "get".to_owned() } else { parts.method.as_str().to_lowercase() };
    let Some(known) = known().get(&(method, path.as_str().to_owned())) else { return Ok(()) };
    let given = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map(|query| query.0).unwrap_or_default();
    match given.iter().find(|(name, _)| !known.iter().any(|known| is_of(name, known))) {
        None => Ok(()),
        Some((name, _)) => Err(refusal(name, known)),
    }
}

fn is_of(name: &str, known: &str) -> bool {
    match known.strip_suffix(EACH_NAME) {
        Some(prefix) => name.strip_prefix(prefix).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.')),
        None => name == known,
    }
}

fn refusal(name: &str, known: &[String]) -> ApiError {
    let shown: String = name.chars().take(MAX_SHOWN).collect();
    let message = match (nearest(&shown, known), known) {
        (_, []) => "is no parameter of this; it takes none".to_owned(),
        (Some(near), _) => format!("is no parameter of this; did you mean `{near}`? It takes {}", known.join(", ")),
        (None, _) => format!("is no parameter of this; it takes {}", known.join(", ")),
    };
    ApiError::at(format!("?{shown}"), message)
}

/// Method and path of an operation.
type Place = (String, String);

/// The parameters of each operation.
fn known() -> &'static HashMap<Place, Vec<String>> {
    static KNOWN: OnceLock<HashMap<Place, Vec<String>>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let mut known = HashMap::new();
        for (path, item) in super::document()["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let names = parameters.filter(|parameter| parameter["in"] == "query");
                let names = names.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned)).collect();
                known.insert((method.clone(), path.clone()), names);
            }
        }
        known
    })
}

/// A query without a parameter that nobody knows, for a route that asks for no key. Where a key is asked for, that sees to it.
pub(crate) struct KnownQuery;

impl FromRequestParts<Arc<App>> for KnownQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<KnownQuery, ApiError> {
        check(parts).map(|()| KnownQuery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_behind_a_dot_are_anybodys() {
        assert!(is_of("trait.city", "trait.NAME") && is_of("trait.a.b", "trait.NAME"));
        for no_name in ["trait.", "trait", "traits.city", "city"] {
            assert!(!is_of(no_name, "trait.NAME"), "{no_name}");
        }
    }
}
