//! Responsible for reading the body of an answer, within bounds.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use kith_model::sending::SendFailure;

/// The largest answer that a guest that waits is given.
const MAX_WHOLE_BYTES: usize = 5 * 1024 * 1024;
/// What is read of the answer to a message: enough for an id or a reason.
const MAX_KEPT_BYTES: usize = 64 * 1024;
/// How long the body of the answer to a message may take after its head.
const MAX_BODY_WAIT: Duration = Duration::from_secs(2);

/// What a body is to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyRule {
    /// All of it, or the exchange has failed.
    Whole,
    /// The status decided when it arrived; what comes of the body in a short time is kept. A receiver that says 200 has the
    /// message, so that a body which is long, slow or broken must not have it sent again.
    StatusDecides,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// Read to its end: the connection can be used again.
    Whole,
    Cut,
}

/// Read a body after its rule.
pub(super) async fn read(rule: BodyRule, body: Incoming) -> Result<(Vec<u8>, BodyEnd), SendFailure> {
    if body.is_end_stream() {
        return Ok((Vec::new(), BodyEnd::Whole));
    }
    match rule {
        BodyRule::Whole => read_whole(body).await.map(|bytes| (bytes, BodyEnd::Whole)),
        BodyRule::StatusDecides => Ok(read_some(body).await),
    }
}

async fn read_whole(body: Incoming) -> Result<Vec<u8>, SendFailure> {
    let collected = Limited::new(body, MAX_WHOLE_BYTES).collect().await.map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            SendFailure::TooLarge(format!("the answer has more than {MAX_WHOLE_BYTES} bytes"))
        } else {
            SendFailure::Connection(error.to_string())
        }
    })?;
    Ok(collected.to_bytes().into())
}

async fn read_some(mut body: Incoming) -> (Vec<u8>, BodyEnd) {
    let mut kept = Vec::new();
    let reading = async {
        loop {
            match body.frame().await {
                None => return BodyEnd::Whole,
                Some(Err(_)) => return BodyEnd::Cut,
                // Trailers say nothing that a plugin is given.
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let room = MAX_KEPT_BYTES - kept.len();
                    kept.extend_from_slice(&data[..data.len().min(room)]);
                    if data.len() > room {
                        return BodyEnd::Cut;
                    }
                }
            }
        }
    };
    let end = tokio::time::timeout(MAX_BODY_WAIT, reading).await.unwrap_or(BodyEnd::Cut);
    (kept, end)
}
