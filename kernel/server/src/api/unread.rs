//! What is left of a request's body when its answer is known before all of it was read: a key that is wrong, a source that is
//! not there, a body that is too large. An end of the connection at that moment reaches a client that still writes as a broken pipe, and the answer never
//! does; so the rest is read first, within bounds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;

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
}

impl hyper::body::Body for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut reading = self.0.lock();
        reading.begun = true;
        let frame = std::task::ready!(Pin::new(&mut reading.body).poll_frame(context));
        reading.ended = frame.is_none();
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
pub(super) async fn read_first(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let waits = waits_for_a_go_ahead(request.headers());
    let (head, body) = request.into_parts();
    let body = SharedBody(Arc::new(Mutex::new(BodyState { body, begun: false, ended: false })));
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
