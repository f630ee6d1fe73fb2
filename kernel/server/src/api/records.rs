//! `POST /api/v1/sources/{id}/records`: a raw payload of any size for a source's connector, read as a stream. What one
//! piece brought is durable before the next is read, and a sender that is faster than the kernel has to wait.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use kith_model::budget::table;
use kith_model::consent::Giver;
use kith_pipeline::{Intake, Kernel};
use serde::Serialize;
use utoipa::ToSchema;

use super::dry_run::{self, RecordsPreview};
use super::extract::{Authority, Path, Query, cut, right};
use super::imports::{ImportQuery, beginning, source_of};
use super::intake::{
    Gunzip, NoteBody, PartPlace, TakenBody, count_metrics, counts, looks_gzip, own_answer, says_gzip, source_request,
};
use crate::app::App;
use crate::auth::{KeyId, Scope};
use crate::error::{ApiError, Problem};

/// What became of a stream of records, or what would.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum RecordsBody {
    Taken(TakenBody),
    Previewed(RecordsPreview),
}

/// Send a raw payload (a webhook, CSV, NDJSON, …), also gzipped, to a source's connector. Its events count as imported: they
/// set no message off unless the audience's action asks for that. A record that came before is not taken again, however long ago
/// that was; with `import`, a stream that breaks off can go on where it was. With `dry_run=true` nothing is
/// stored: the answer shows the first events as they would be stored, what was assumed about the input, and what would be rejected.
#[utoipa::path(
    post, path = "/api/v1/sources/{id}/records", tag = "ingest",
    params(("id" = String, Path, description = "the source's name"), ImportQuery), security(("key" = ["ingest"])),
    request_body(
        description = "what the source's connector reads, whatever its content type; also gzipped",
        content(
            (Vec<u8> = "application/octet-stream"), (String = "text/csv"), (String = "application/x-ndjson"),
            (serde_json::Value = "application/json"),
        ),
    ),
    responses(
        (
            status = 200,
            description = "durable: counts, and rejected parts with line and reason; or what a dry run found; or the connector's own answer",
            content((RecordsBody = "application/json"), (Vec<u8> = "*/*")),
        ),
        (status = "default", description = "the connector's own answer", content((Vec<u8> = "*/*"))),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 415, body = Problem),
        (status = 503, body = Problem),
        (status = 409, body = Problem, description = "an import of that name is under way, or is elsewhere"),
    ),
)]
pub(crate) async fn receive(
    State(app): State<Arc<App>>,
    authority: Authority<right::Ingest>,
    Path(name): Path<String>,
    Query(query): Query<ImportQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = authority.caller;
    let source = source_of(&app, &caller, &name)?;
    // A write key is public, a key of the API is not.
    let giver = if caller.source.is_some() { Giver::RefusesOnly } else { Giver::MayAgree };
    let (parts, body) = request.into_parts();
    let gzip = says_gzip(&parts.headers)?;
    let mut head = source_request(&app, &parts.method, &parts.uri, &parts.headers);
    head.complete = false;
    let mut intake = Kernel::intake(&app.kernel, caller.workspace, source, head, giver)?;
    if dry_run::is_asked(query.dry_run.as_deref())? {
        intake = intake.dry();
    } else if let Some(name) = query.import {
        let from = query.from.unwrap_or_default();
        intake = app.offload(move |_| intake.named(&name, from)).await?;
    }
    match pump(&app, &caller.key, &mut intake, body, gzip).await {
        Ok(()) => {}
        Err(cause) => return Err(broke_off(&app, &intake, cause)),
    }
    let went_on = intake.went_on().cloned();
    let before = went_on.clone().map(|before| before.acceptance).unwrap_or_default();
    let receipted = match intake.finish().await {
        Ok(receipted) => receipted,
        Err(error) => return Err(broke_off(&app, &intake, error.into())),
    };
    if let Some(preview) = &receipted.preview {
        let mut previewed = dry_run::answer(preview, &receipted.notes, receipted.repeated_ids);
        if caller.may(Scope::AudiencesRead) {
            let tables = app.catalogue.workspace(caller.workspace)?;
            previewed = previewed.with_writing_audiences(dry_run::writing_audiences(&tables));
        }
        return Ok(Json(RecordsBody::Previewed(previewed)).into_response());
    }
    count_metrics(&app, &receipted.acceptance.since(&before));
    Ok(match receipted.answer {
        Some(answer) => own_answer(answer, None),
        None => {
            let mut taken = counts(&receipted.acceptance, PartPlace::Line);
            taken.went_on = went_on.as_ref().map(beginning);
            taken.repeated_ids = Some(receipted.repeated_ids);
            taken.notes = Some(NoteBody::all(&receipted.notes));
            Json(RecordsBody::Taken(taken)).into_response()
        }
    })
}

fn broke_off(app: &Arc<App>, intake: &Intake, cause: ApiError) -> ApiError {
    count_metrics(app, &intake.taken_now());
    broken(intake.so_far(), cause)
}

/// What was taken before a stream broke off stays; the sender is told, and may send all of it again.
fn broken(so_far: &kith_pipeline::Acceptance, cause: ApiError) -> ApiError {
    if so_far.records() == 0 {
        return cause;
    }
    // Counts and texts can always be written.
    let taken = serde_json::to_value(counts(so_far, PartPlace::Line)).unwrap_or_default();
    ApiError::Partial { taken, cause: Box::new(cause) }
}

/// Move the body into the intake.
async fn pump(app: &App, key: &KeyId, intake: &mut Intake, mut body: Body, says_gzip: bool) -> Result<(), ApiError> {
    let mut stream = Stream { unzip: says_gzip.then(Gunzip::new), begun: says_gzip, held: Vec::new(), taken_bytes: 0 };
    while let Some(piece) = next_piece(&mut body).await? {
        app.memory.check()?;
        app.insist_on_standing_of_sender(key)?;
        stream.take(app, intake, &piece).await?;
    }
    app.insist_on_standing_of_sender(key)?;
    stream.end(app, intake).await
}

async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => return Ok(Some(piece)),
                Err(_) => continue, // trailers say nothing here
            },
            Some(Err(error)) => return Err(cut(error)),
        }
    }
}

/// The body on its way through decompression.
struct Stream {
    unzip: Option<Gunzip>,
    /// Whether it is known if the body is compressed.
    begun: bool,
    /// The first bytes, until it is known.
    held: Vec<u8>,
    taken_bytes: u64,
}

impl Stream {
    async fn take(&mut self, app: &App, intake: &mut Intake, piece: &[u8]) -> Result<(), ApiError> {
        if self.begun {
            return self.pass(app, intake, piece).await;
        }
        self.held.extend_from_slice(piece);
        if self.held.len() < 2 {
            return Ok(());
        }
        self.begun = true;
        if looks_gzip(&self.held) {
            self.unzip = Some(Gunzip::new());
        }
        let held = std::mem::take(&mut self.held);
        self.pass(app, intake, &held).await
    }

    async fn pass(&mut self, app: &App, intake: &mut Intake, piece: &[u8]) -> Result<(), ApiError> {
        let Some(unzip) = &mut self.unzip else {
            return push(app, intake, &mut self.taken_bytes, piece).await;
        };
        for slice in Gunzip::slices(piece) {
            let plain = unzip.step(slice)?;
            push(app, intake, &mut self.taken_bytes, &plain).await?;
        }
        Ok(())
    }

    async fn end(mut self, app: &App, intake: &mut Intake) -> Result<(), ApiError> {
        if let Some(unzip) = self.unzip.take() {
            let plain = unzip.finish()?;
            return push(app, intake, &mut self.taken_bytes, &plain).await;
        }
        push(app, intake, &mut self.taken_bytes, &self.held).await
    }
}

async fn push(app: &App, intake: &mut Intake, taken_bytes: &mut u64, plain: &[u8]) -> Result<(), ApiError> {
    *taken_bytes += plain.len() as u64;
    let limit = app.config.http.max_stream_bytes;
    if *taken_bytes > limit {
        return Err(ApiError::too_large(&table::STREAM_BODY, usize::try_from(limit).unwrap_or(usize::MAX)));
    }
    if !plain.is_empty() {
        intake.push(plain).await?;
    }
    Ok(())
}
