//! A request's body on its way in: it comes at a least pace, and what is left of it when the answer is known is read.
//!
//! What is left of a request's body when its answer is known before all of it was read: a key that is wrong, a source that is
//! not there, a body that is too large. An end of the connection at that moment reaches a client that still writes as a broken pipe, and the answer never
//! does; so the rest is read first, within bounds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use kith_model::budget::table;
use parking_lot::Mutex;

use crate::app::App;
use crate::pace::Pace;

/// How much is read only to be thrown away: three times the largest body that a client of ours sends whole, so that one that
/// is too large by mistake still learns so, and does not send it all again.
const MAX_BYTES: u64 = 32 << 20;

/// How long that may take.
const MAX_TIME: Duration = Duration::from_secs(2);

/// A body that can still be read after the handler has let go of it.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<BodyState>>);

struct BodyState {
    body: Body,
    begun: bool,
    ended: bool,
    pace: Pace,
}

/// The sender is too slow.
#[derive(Debug, thiserror::Error)]
#[error("the body comes too slowly")]
pub(crate) struct TooSlow;

impl hyper::body::Body for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut reading = self.0.lock();
        reading.begun = true;
        let Poll::Ready(frame) = Pin::new(&mut reading.body).poll_frame(context) else {
            ready!(reading.pace.poll_too_slow(context));
            table::BODY_TIME.count();
            return Poll::Ready(Some(Err(axum::Error::new(TooSlow))));
        };
        reading.ended = frame.is_none();
        if let Some(Ok(frame)) = &frame {
            reading.pace.moved(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let reading = self.0.lock();
        reading.ended || reading.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.size_hint()
    }
}

/// Answer when the request's body has come to its end. Where it does not within the bounds, the answer says that the
/// connection ends, so that no client sends its next request into the end.
pub(super) async fn read_first(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let waits = waits_for_a_go_ahead(request.headers());
    let (head, body) = request.into_parts();
    let pace = Pace::new(app.config.http.body_timeout);
    let body = SharedBody(Arc::new(Mutex::new(BodyState { body, begun: false, ended: false, pace })));
    let mut response = next.run(Request::from_parts(head, Body::new(body.clone()))).await;
    // A first read is the go-ahead; who waits for one sends nothing if an answer comes instead.
    let is_asked_for = body.0.lock().begun || !waits;
    let is_read =
        body.is_end_stream() || (is_asked_for && tokio::time::timeout(MAX_TIME, rest(body)).await == Ok(true));
    if !is_read {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn waits_for_a_go_ahead(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Read to the end; whether it came. A body of a length that is known to be too much is not begun.
async fn rest(mut body: SharedBody) -> bool {
    let mut read = 0;
    while read + body.size_hint().lower() <= MAX_BYTES {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => return false,
            None => return true,
        }
    }
    false
}
