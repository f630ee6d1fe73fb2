//! When a message says that it happened: the first of its times that can be read. Leaves the clock's correction and the bounds to the
//! kernel.

use std::borrow::Cow;

use kith_plugin_sdk::Timestamp;
use kith_plugin_sdk::time::{self, Form};

use crate::message::crop;
use crate::object::{self, Object, Raw};

/// A message's time, and how it was written where that says more.
#[derive(Default)]
pub(crate) struct Moment {
    pub(crate) time: Option<Timestamp>,
    pub(crate) original: Option<String>,
}

/// The time by `timestamp`, else by `originalTimestamp`, else by `sentAt`, which Segment too takes for a message without one; else none,
/// and the kernel takes the receipt. A message is not lost for its time: what could not be read is flagged and kept as it came.
pub(crate) fn of(
    timestamp: Option<Raw<'_>>,
    original_timestamp: Option<Raw<'_>>,
    sent_at: Option<Timestamp>,
    flags: &mut Vec<String>,
) -> Moment {
    let mut unreadable = None;
    for (key, value) in [("timestamp", timestamp), ("originalTimestamp", original_timestamp)] {
        let Some(value) = value else { continue };
        let written = written(value);
        match written.as_deref().and_then(time::read) {
            Some(reading) => {
                if unreadable.is_some() {
                    flags.push("time-from-original".to_owned());
                }
                let says_more = reading.form != Form::Rfc3339;
                let original =
                    unreadable.or_else(|| says_more.then(|| crop(written.as_deref().unwrap_or_default()).to_owned()));
                return Moment { time: Some(reading.time()), original };
            }
            None => {
                flags.push(format!("time-unreadable:{key}"));
                unreadable.get_or_insert_with(|| crop(written.as_deref().unwrap_or(value.get())).to_owned());
            }
        }
    }
    if unreadable.is_none() {
        return Moment::default();
    }
    flags.push(if sent_at.is_some() { "time-from-sent-at" } else { "time-from-receipt" }.to_owned());
    Moment { time: sent_at, original: unreadable }
}

/// It only serves to correct the clock, so that a bad one is none and does not cost the message.
pub(crate) fn sent_at(value: Raw<'_>) -> Option<Timestamp> {
    time::parse(&written(value)?)
}

/// A time as it is written: a text, a number, or the objects of MongoDB and Firestore around one.
fn written(value: Raw<'_>) -> Option<Cow<'_, str>> {
    match value.get().as_bytes().first()? {
        b'"' => object::text(value),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(value.get())),
        b'{' => {
            let object = Object::read(value.get()).ok()?;
            let inner = ["$date", "$numberLong", "seconds", "_seconds"].into_iter().find_map(|key| object.get(key))?;
            // Depth is bounded by what was read, and each step is one level.
            written(inner)
        }
        _ => None,
    }
}
