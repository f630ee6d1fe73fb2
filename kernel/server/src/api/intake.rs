//! What the client routes and the records route share: what a connector may see of a request, decompression within
//! bounds, and the answer with counts and rejected parts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use flate2::write::MultiGzDecoder;
use kith_model::budget::table;
use kith_model::event::RejectedRecord;
use kith_model::plugin::{Answer, ReplayScope, SourceRequest};
use kith_pipeline::{Acceptance, IntakeError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::ApiError;

/// Headers that carry credentials, or what the kernel has already undone; no plugin sees them.
const HIDDEN_HEADERS: [HeaderName; 6] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// Whether no plugin sees a header of this name.
pub fn is_hidden_header(name: &HeaderName) -> bool {
    HIDDEN_HEADERS.contains(name) || name.as_str() == "x-api-key"
}

/// A request as a connector may see it, with an empty body.
pub(crate) fn source_request(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> SourceRequest {
    let shown = headers.iter().filter(|(name, _)| !is_hidden_header(name));
    SourceRequest {
        method: method.to_string(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers: shown
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: Vec::new(),
        complete: true,
        resume: None,
        received_at: app.clock.now(),
        replayed: ReplayScope::No,
    }
}

/// The first bytes of every gzip stream.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Whether the headers say that the body is compressed.
///
/// # Errors
/// When it is in a way that is not understood.
pub(crate) fn says_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
    match encoding.trim_ascii().to_ascii_lowercase().as_slice() {
        b"" | b"identity" => Ok(false),
        b"gzip" | b"x-gzip" => Ok(true),
        _ => Err(ApiError::UnsupportedMediaType { message: "send the body as it is or with `content-encoding: gzip`" }),
    }
}

/// Whether the bytes begin as gzip does; some clients compress without saying so.
pub(crate) fn looks_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&GZIP_MAGIC)
}

fn bad_gzip() -> ApiError {
    let message = "the body is not whole, valid gzip".to_owned();
    ApiError::BadInput { code: "bad-gzip", message, mistakes: Vec::new() }
}

/// Compressed bytes are fed in slices of this size, so that one step makes at most some 4 MiB (deflate's best is 1032:1).
const GZIP_SLICE: usize = 4 << 10;

/// Decompresses a stream step by step.
pub(crate) struct Gunzip(MultiGzDecoder<Vec<u8>>);

impl Gunzip {
    pub(crate) fn new() -> Gunzip {
        Gunzip(MultiGzDecoder::new(Vec::new()))
    }

    /// Compressed bytes, cut for [`Gunzip::step`].
    pub(crate) fn slices(compressed: &[u8]) -> impl Iterator<Item = &[u8]> {
        compressed.chunks(GZIP_SLICE)
    }

    /// What one slice gives.
    pub(crate) fn step(&mut self, slice: &[u8]) -> Result<Vec<u8>, ApiError> {
        self.0.write_all(slice).map_err(|_| bad_gzip())?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    /// What the end gives; an error when the stream was cut.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, ApiError> {
        self.0.try_finish().map_err(|_| bad_gzip())?;
        Ok(std::mem::take(self.0.get_mut()))
    }
}

/// Decompress a whole body of at most `limit_bytes`, asking for room for what is there as it grows.
pub(crate) fn gunzip(
    compressed: &[u8],
    limit_bytes: usize,
    mut room_for: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Vec<u8>, ApiError> {
    let (mut decoder, mut whole) = (Gunzip::new(), Vec::new());
    for slice in Gunzip::slices(compressed) {
        whole.extend(decoder.step(slice)?);
        if whole.len() > limit_bytes {
            return Err(ApiError::too_large(&table::CLIENT_BODY, limit_bytes));
        }
        room_for(whole.len())?;
    }
    whole.extend(decoder.finish()?);
    if whole.len() > limit_bytes { Err(ApiError::too_large(&table::CLIENT_BODY, limit_bytes)) } else { Ok(whole) }
}

/// What became of what was sent, when it is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TakenBody {
    /// `true`; what was rejected does not make it less.
    success: bool,
    /// Events that are new.
    accepted: u64,
    /// What came before as it is.
    duplicate: u64,
    /// Events that took the place of others with the same id.
    corrected: u64,
    /// How many of the rejected had the id of another message.
    conflict: u64,
    /// Events that a rule of the workspace dropped.
    dropped: u64,
    /// The first of what was set aside; `rejected_count` counts all.
    rejected: Vec<RejectedBody>,
    rejected_count: u64,
    /// Pieces of evidence about who is who that came new and join nobody.
    not_followed: u64,
    /// Values that were sent as identifiers and name nobody. Their events were taken.
    identifiers_left_out: u64,
    /// How many of the accepted ones have a flag, by its code.
    flagged: BTreeMap<&'static str, u64>,
    /// The log's head when all of it was durable.
    position: u64,
    /// Where an import went on that had been broken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) went_on: Option<WentOnBody>,
    /// Of a stream of records: rows with the id of another row of it and other content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repeated_ids: Option<u64>,
    /// Of a stream of records: what the connector assumed about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notes: Option<Vec<NoteBody>>,
}

/// A part that was set aside.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RejectedBody {
    /// Its place in the request, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    /// Its place in a stream of records, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    code: String,
    message: String,
    /// What it was, in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

impl RejectedBody {
    pub(super) fn new(record: &RejectedRecord, place: PartPlace, has_raw: bool) -> RejectedBody {
        let at = |wanted: PartPlace| (place == wanted).then_some(record.place);
        RejectedBody {
            index: at(PartPlace::Index),
            line: at(PartPlace::Line),
            code: record.code.clone(),
            message: record.message.clone(),
            raw: has_raw.then(|| record.raw.clone()),
        }
    }
}

/// How the place of a part is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartPlace {
    Index,
    Line,
}

/// How much of an import had been taken before.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WentOnBody {
    pub(super) bytes: u64,
    pub(super) records: u64,
}

/// What a connector assumed about the input.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NoteBody {
    name: String,
    note: String,
}

impl NoteBody {
    pub(super) fn all(notes: &[(String, String)]) -> Vec<NoteBody> {
        notes.iter().map(|(name, note)| NoteBody { name: name.clone(), note: note.clone() }).collect()
    }
}

/// Counts and rejected parts.
pub(super) fn counts(acceptance: &Acceptance, place: PartPlace) -> TakenBody {
    TakenBody {
        success: true,
        accepted: acceptance.accepted,
        duplicate: acceptance.duplicate,
        corrected: acceptance.corrected,
        conflict: acceptance.conflict,
        dropped: acceptance.dropped,
        rejected: acceptance.rejected.iter().map(|part| RejectedBody::new(part, place, false)).collect(),
        rejected_count: acceptance.rejected_count,
        not_followed: acceptance.not_followed,
        identifiers_left_out: acceptance.identifiers_left_out,
        flagged: acceptance.flagged.clone(),
        position: acceptance.position.0,
        went_on: None,
        repeated_ids: None,
        notes: None,
    }
}

/// A connector's own answer. It must never look like a redirect; `status` replaces what cannot be. It comes from the origin of
/// the API, whose keys a page of its own could use, so that a browser shows it as a document without scripts or origin.
pub(crate) fn own_answer(answer: Answer, only: Option<StatusCode>) -> Response {
    let given = StatusCode::from_u16(answer.status).ok().filter(|status| !status.is_redirection());
    let status = only.or(given.filter(|status| status.as_u16() >= 200)).unwrap_or(StatusCode::OK);
    let content_type = HeaderValue::from_str(&answer.content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    let nosniff = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let sandbox = (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    (status, [(header::CONTENT_TYPE, content_type), nosniff, sandbox], answer.body).into_response()
}

impl From<IntakeError> for ApiError {
    fn from(error: IntakeError) -> ApiError {
        match error {
            IntakeError::UnknownSource => ApiError::missing("no such source; `kith source list` names those there are"),
            IntakeError::NotLive { why } => {
                tracing::debug!(why, "a source that is held was sent something");
                // Not a 4xx: clients drop what is refused, and an admin may switch the source on again. Why it is held is the
                // admin's business; senders hold a write key that any browser shows.
                let message = "the source is held and takes nothing; nothing of this request was".to_owned();
                ApiError::Unavailable { code: "source-not-live", message, retry_after_s: 300 }
            }
            IntakeError::Refused(refusal) => ApiError::Refused(refusal),
            IntakeError::Fault(fault) => ApiError::Fault(fault),
            IntakeError::TooLarge { limit } => ApiError::TooLarge { limit_bytes: limit, budget: None },
            IntakeError::Exhausted(exhausted) => ApiError::Exhausted(exhausted),
            IntakeError::ImportUnderWay { .. } => ApiError::Conflict {
                code: "import-under-way",
                message: "an import of this name is under way; wait for its end, or give another name".to_owned(),
            },
            IntakeError::ImportElsewhere { bytes } => ApiError::Conflict {
                code: "import-elsewhere",
                message: format!(
                    "the import of this name has come to byte {bytes}: send the bytes from there on, or all of them with `from=0`"
                ),
            },
            IntakeError::DiskFull => ApiError::disk_full(),
            IntakeError::Unavailable { reason, retry_after_s } => {
                tracing::error!(reason, "the store takes nothing");
                let message = "nothing can be stored for now; nothing of this was".to_owned();
                ApiError::Unavailable { code: "store-unavailable", message, retry_after_s }
            }
        }
    }
}

/// Count what came in, by source.
pub(crate) fn count_metrics(app: &Arc<App>, acceptance: &Acceptance) {
    app.metrics.ingested(acceptance);
    app.metrics.flagged(&acceptance.flagged);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_stops_at_the_limit_and_a_cut_stream_is_refused() {
        let bomb = gzip(&vec![b' '; 64 << 20]);
        assert!(bomb.len() < 100 << 10);
        assert!(matches!(gunzip(&bomb, 1 << 20, |_| Ok(())), Err(ApiError::TooLarge { .. })));
        let small = gzip(b"{\"batch\":[]}");
        assert_eq!(gunzip(&small, 100, |_| Ok(())).unwrap(), b"{\"batch\":[]}");
        assert!(matches!(
            gunzip(&small[..small.len() - 4], 100, |_| Ok(())),
            Err(ApiError::BadInput { code: "bad-gzip", .. })
        ));
        assert!(gunzip(b"\x1f\x8bnonsense", 100, |_| Ok(())).is_err());
    }

    #[test]
    fn a_connectors_answer_is_never_a_redirect() {
        let answer = |status| Answer { status, content_type: "a\nb".into(), body: Vec::new() };
        let page = own_answer(Answer { content_type: "text/html".into(), ..answer(200) }, None);
        assert_eq!(page.headers()[header::CONTENT_SECURITY_POLICY], "sandbox; default-src 'none'");
        assert_eq!(page.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(own_answer(answer(301), None).status(), 200);
        assert_eq!(own_answer(answer(202), None).status(), 202);
        assert_eq!(own_answer(answer(202), Some(StatusCode::OK)).status(), 200);
        assert_eq!(own_answer(answer(42), None).status(), 200);
    }
}
