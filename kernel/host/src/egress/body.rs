//! Responsible for reading the body of an answer, within bounds.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use kith_model::sending::{AnswerRoom, SendFailure};

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

/// Read a body after its rule; of one that is wanted whole, each piece within the room that there is for it.
pub(super) async fn read(
    rule: BodyRule,
    body: Incoming,
    room: Option<&dyn AnswerRoom>,
) -> Result<(Vec<u8>, BodyEnd), SendFailure> {
    if body.is_end_stream() {
        return Ok((Vec::new(), BodyEnd::Whole));
    }
    match rule {
        BodyRule::Whole => read_whole(body, room).await.map(|bytes| (bytes, BodyEnd::Whole)),
        BodyRule::StatusDecides => Ok(read_some(body).await),
    }
}

async fn read_whole<B>(mut body: B, room: Option<&dyn AnswerRoom>) -> Result<Vec<u8>, SendFailure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        // Trailers say nothing that a plugin is given.
        let Ok(data) = frame.map_err(|error| SendFailure::Connection(error.to_string()))?.into_data() else { continue };
        if data.len() > MAX_WHOLE_BYTES - whole.len() {
            return Err(SendFailure::TooLarge(format!("the answer has more than {MAX_WHOLE_BYTES} bytes")));
        }
        if let Some(room) = room {
            room.take(data.len())?;
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::Full;

    use super::*;

    /// Room for so many bytes.
    struct Narrow(AtomicUsize);

    impl AnswerRoom for Narrow {
        fn take(&self, bytes: usize) -> Result<(), SendFailure> {
            let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
            left.map(drop).map_err(|_| SendFailure::Busy("no room".to_owned()))
        }
    }

    fn read(bytes: usize, room: Option<&dyn AnswerRoom>) -> Result<Vec<u8>, SendFailure> {
        let body = Full::new(Bytes::from(vec![b'x'; bytes]));
        crate::guests::runtime().block_on(read_whole(body, room))
    }

    #[test]
    fn a_body_that_is_wanted_whole_is_read_within_its_room_and_its_limit() {
        let room = Narrow(AtomicUsize::new(10));
        assert_eq!(read(6, Some(&room)), Ok(vec![b'x'; 6]));
        assert_eq!(read(6, Some(&room)), Err(SendFailure::Busy("no room".to_owned())));
        assert_eq!(read(4, Some(&room)), Ok(vec![b'x'; 4]));
        assert_eq!(read(MAX_WHOLE_BYTES, None).map(|body| body.len()), Ok(MAX_WHOLE_BYTES));
        assert!(matches!(read(MAX_WHOLE_BYTES + 1, None), Err(SendFailure::TooLarge(_))));
    }
}
