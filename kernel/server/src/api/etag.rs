//! Versions of what two people may edit. A read says which version it is of (`ETag`), and an edit that says which version it was
//! made from (`If-Match`) is refused where somebody else's came in between.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::extract::Json;
use crate::app::App;
use crate::auth::digest;
use crate::error::ApiError;

/// A strong tag of what people edit of something: the same as long as that is the same.
pub(crate) fn tag(edited: &impl Serialize) -> String {
    // Rows are texts, numbers and lists of them, which can always be written.
    let bytes = serde_json::to_vec(edited).unwrap_or_default();
    format!("\"{}\"", &digest(&bytes)[..32])
}

/// A body with the tag of the version that it shows.
pub(crate) struct TaggedBody<T> {
    pub(crate) tag: String,
    pub(crate) body: T,
}

impl<T: Serialize> IntoResponse for TaggedBody<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// The versions that an edit was made from; nothing where the caller did not say.
#[derive(Debug, Clone, Default)]
pub(crate) struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    fn of(headers: &HeaderMap) -> Result<IfMatch, ApiError> {
        let mut tags = Vec::new();
        for value in headers.get_all(header::IF_MATCH) {
            let text = value.to_str().map_err(|_| ApiError::at("if-match", "is no list of tags"))?;
            tags.extend(text.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()));
        }
        Ok(IfMatch((!tags.is_empty()).then_some(tags)))
    }

    /// Insist that what is edited is still of the version that the edit was made from.
    pub(crate) fn check(&self, what: &str, present: impl FnOnce() -> String) -> Result<(), ApiError> {
        let Some(tags) = &self.0 else { return Ok(()) };
        let present = present();
        if tags.iter().any(|tag| *tag == present || tag == "*") {
            return Ok(());
        }
        let message = format!(
            "{what} was changed since you read it; nothing of this change was made. Read it again, apply your change to what \
             it says now, and send that with `if-match: {present}`"
        );
        Err(ApiError::Stale { message, tag: Some(present) })
    }

    /// The same of what may not be there yet. An edit of whatever version, `*` too, is not one that makes it (RFC 9110, 13.1.1).
    pub(crate) fn check_made(&self, what: &str, present: Option<impl FnOnce() -> String>) -> Result<(), ApiError> {
        match (present, &self.0) {
            (Some(present), _) => self.check(what, present),
            (None, None) => Ok(()),
            (None, Some(_)) => {
                let message = format!("{what} is not there, and `if-match` names a version of it");
                Err(ApiError::Stale { message, tag: None })
            }
        }
    }
}

impl FromRequestParts<Arc<App>> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<IfMatch, ApiError> {
        IfMatch::of(&parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_of_another_version_is_refused() {
        let present = tag(&("a", 1));
        assert_ne!(present, tag(&("a", 2)));
        let check = |given: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(header::IF_MATCH, value.parse().unwrap());
            }
            IfMatch::of(&headers).unwrap().check("it", || present.clone()).is_ok()
        };
        let listed = format!("\"x\", {present}");
        for fine in [&[][..], &["*"], &[""], &[present.as_str()], &[listed.as_str()], &["\"x\"", present.as_str()]] {
            assert!(check(fine), "{fine:?}");
        }
        let of_nothing = |given: Option<&str>| {
            let headers = given.map(|value| (header::IF_MATCH, value.parse().unwrap())).into_iter().collect();
            IfMatch::of(&headers).unwrap().check_made("it", None::<fn() -> String>)
        };
        assert!(of_nothing(None).is_ok());
        for given in ["*", "\"none\"", present.as_str()] {
            assert!(matches!(of_nothing(Some(given)), Err(ApiError::Stale { tag: None, .. })), "{given}");
        }
        let weak = format!("W/{present}");
        for stale in [&["\"x\""][..], &["\"x\", \"y\""], &[weak.as_str()]] {
            assert!(!check(stale), "{stale:?}");
        }
    }
}
