//! When an event happened, by the kernel's clock.
//!
//! A sender's time is believed within rules, because one clock that is wrong would otherwise capture facts, merges and windows:
//!
//! 1. Live traffic is corrected by the difference between `sent_at` and receipt, where that difference is more than [`DEAD_BAND_MS`]: what
//!    is less is the way through the network. A clock that is ahead is corrected whatever it shows, since nothing is sent from
//!    the future. One that is behind is believed to be wrong up to [`MAX_BEHIND_MS`]; what was sent longer ago was kept somewhere,
//!    and is as old as it says. So the epoch and an archive that is sent again move nothing.
//! 2. An event that is more than [`MAX_QUEUED_MS`] older than its own `sent_at` is history that somebody sends live, and one that is
//!    younger than it makes no sense of both; neither is corrected.
//! 3. Imports and the kernel's own events are never corrected.
//! 4. A time more than [`MAX_AHEAD_MS`] past receipt is receipt. One before [`EARLIEST`] is receipt too for live traffic, where it is
//!    a value that stands for none, and [`EARLIEST`] for an import, so that history stays older than what came after it.
//!
//! Whatever is changed is flagged, and so is a time that stays and is past receipt; the time as it came is kept. No fact is newer than its
//! receipt (`profiles/facts.rs`).

use kith_model::event::{DraftEvent, EventOrigin};
use kith_model::flag;
use kith_model::time::{DAY_MS, Timestamp};

/// Differences up to this are the way through the network, and clocks that are right.
const DEAD_BAND_MS: i64 = 30_000;

/// How far behind a sender's clock can be: a wrong zone and some. What was sent longer ago waited somewhere.
const MAX_BEHIND_MS: i64 = DAY_MS;

/// How long an event waits at its sender: the week for which clients keep a queue.
const MAX_QUEUED_MS: i64 = 7 * DAY_MS;

/// How far past its receipt an event can be: clocks differ by a zone at most, and plans are no events.
const MAX_AHEAD_MS: i64 = DAY_MS;

/// The first moment that an event can have, 1990-01-01T00:00:00Z: no records of customers' doings are older, and the values that stand
/// for no time (1, 1899, 1900, 1904, 1970) are.
const EARLIEST: Timestamp = Timestamp(631_152_000_000);

/// A moment, and what was done to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    pub time: Timestamp,
    pub flags: Vec<&'static str>,
    /// The time as it came, where `time` does not say all of it.
    pub original: Option<String>,
}

/// When a draft happened.
pub(crate) fn of(draft: &DraftEvent, received_at: Timestamp, origin: EventOrigin) -> Moment {
    let mut flags = Vec::new();
    let Some(said) = draft.time else {
        return Moment { time: received_at, flags, original: draft.original_time.clone() };
    };
    let mut time = said;
    if let Some(sent_at) =
        draft.sent_at.filter(|sent_at| origin == EventOrigin::Client && is_wrong(said, *sent_at, received_at))
    {
        time = said.plus_ms(received_at.0.saturating_sub(sent_at.0));
        flags.push(flag::CLOCK_CORRECTED);
    }
    let bounded = within_bounds(time, received_at, origin);
    if bounded != time {
        flags.push(flag::TIME_CLAMPED);
    } else if bounded > received_at.plus_ms(DEAD_BAND_MS) && origin != EventOrigin::Kernel {
        flags.push(flag::TIME_AHEAD);
    }
    let original = draft.original_time.clone().or_else(|| (bounded != said).then(|| said.to_string()));
    Moment { time: bounded, flags, original }
}

/// The time of an event as evidence of who is who where its sender's word is bounded: no older than a client's queue.
pub(crate) fn bounded_evidence(time: Timestamp, received_at: Timestamp) -> Timestamp {
    time.max(received_at.plus_ms(-MAX_QUEUED_MS))
}

/// Whether the clock that showed `sent_at` is wrong by an amount that is the event's as well.
fn is_wrong(said: Timestamp, sent_at: Timestamp, received_at: Timestamp) -> bool {
    let behind = received_at.0.saturating_sub(sent_at.0);
    let queued = sent_at.0.saturating_sub(said.0);
    behind.unsigned_abs() > DEAD_BAND_MS.unsigned_abs()
        && behind <= MAX_BEHIND_MS
        && (-DEAD_BAND_MS..=MAX_QUEUED_MS).contains(&queued)
}

fn within_bounds(time: Timestamp, received_at: Timestamp, origin: EventOrigin) -> Timestamp {
    if time > received_at.plus_ms(MAX_AHEAD_MS) {
        return received_at;
    }
    match origin {
        _ if time >= EARLIEST => time,
        EventOrigin::Import => EARLIEST,
        EventOrigin::Client | EventOrigin::Kernel => received_at,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn draft(time: Timestamp, sent_at: Option<Timestamp>) -> DraftEvent {
        DraftEvent { time: Some(time), sent_at, ..DraftEvent::default() }
    }

    /// Time, `sentAt`, origin; what the event's time is and how that is flagged, with receipt on 2026-11-25 at noon.
    #[test]
    fn clocks_are_believed_within_rules() {
        use EventOrigin::{Client, Import, Kernel};
        let received_at = at("2026-11-25T12:00:00Z");
        let corrected = flag::CLOCK_CORRECTED;
        let clamped = flag::TIME_CLAMPED;
        for (time, sent_at, origin, expected, flags) in [
            ("2026-11-25T11:59:00Z", "2026-11-25T11:59:40Z", Client, "2026-11-25T11:59:00Z", &[][..]),
            ("2026-11-25T11:58:00Z", "2026-11-25T11:59:00Z", Client, "2026-11-25T11:59:00Z", &[corrected]),
            ("2026-11-25T13:00:00Z", "2026-11-25T13:01:00Z", Client, "2026-11-25T11:59:00Z", &[corrected]),
            ("2029-11-25T12:00:00Z", "2029-11-25T12:01:00Z", Client, "2026-11-25T11:59:00Z", &[corrected]),
            ("2026-11-25T02:00:00Z", "2026-11-25T02:01:00Z", Client, "2026-11-25T11:59:00Z", &[corrected]),
            ("2026-11-20T12:00:00Z", "2026-11-25T13:00:00Z", Client, "2026-11-20T11:00:00Z", &[corrected]),
            // An archive, the epoch, history that is sent live by a clock that is off.
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:06Z", Client, "2024-01-02T03:04:05Z", &[]),
            ("2026-11-25T00:00:00Z", "1970-01-01T00:00:00Z", Client, "2026-11-25T00:00:00Z", &[]),
            ("2024-01-02T03:04:05Z", "2026-11-25T13:00:00Z", Client, "2024-01-02T03:04:05Z", &[]),
            ("2026-11-25T11:58:00Z", "2026-11-25T11:55:00Z", Client, "2026-11-25T11:58:00Z", &[]),
            ("2026-11-25T11:00:00Z", "2026-11-25T11:01:00Z", Import, "2026-11-25T11:00:00Z", &[]),
            ("2026-11-25T11:00:00Z", "2026-11-25T11:01:00Z", Kernel, "2026-11-25T11:00:00Z", &[]),
            // Bounds.
            ("2099-01-01T00:00:00Z", "", Client, "2026-11-25T12:00:00Z", &[clamped]),
            ("2099-01-01T00:00:00Z", "", Import, "2026-11-25T12:00:00Z", &[clamped]),
            ("2026-11-26T11:00:00Z", "", Client, "2026-11-26T11:00:00Z", &[flag::TIME_AHEAD]),
            ("2026-11-25T21:00:00Z", "", Import, "2026-11-25T21:00:00Z", &[flag::TIME_AHEAD]),
            ("2026-11-25T12:00:29Z", "", Client, "2026-11-25T12:00:29Z", &[]),
            ("0001-01-01T00:00:00Z", "", Client, "2026-11-25T12:00:00Z", &[clamped]),
            ("1989-12-31T23:59:59Z", "", Import, "1990-01-01T00:00:00Z", &[clamped]),
            ("1990-01-01T00:00:00Z", "", Client, "1990-01-01T00:00:00Z", &[]),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z", Client, "2026-11-25T12:00:00Z", &[clamped]),
        ] {
            let moment = of(&draft(at(time), sent_at.parse().ok()), received_at, origin);
            assert_eq!((moment.time, &moment.flags[..]), (at(expected), flags), "{time} {sent_at} {origin:?}");
            assert_eq!(moment.original, (at(time) != at(expected)).then(|| at(time).to_string()), "{time}");
        }
        let written =
            DraftEvent { original_time: Some("1793700000".into()), ..draft(at("2099-01-01T00:00:00Z"), None) };
        assert_eq!(of(&written, received_at, Client).original.as_deref(), Some("1793700000"), "as it came");
        assert_eq!(of(&DraftEvent::default(), received_at, Client).time, received_at);
    }

    proptest! {
        /// No clock, however wrong, moves an event out of the bounds, and none moves an import or one without `sentAt`.
        #[test]
        fn no_clock_captures_a_window(time in any::<i64>(), sent_at in proptest::option::of(any::<i64>()), near in -200_000_000_i64..200_000_000) {
            let received_at = at("2026-11-25T12:00:00Z");
            for time in [time, received_at.0 + near] {
                for sent_at in [sent_at, Some(received_at.0 - near)] {
                    let draft = draft(Timestamp(time), sent_at.map(Timestamp));
                    for origin in [EventOrigin::Client, EventOrigin::Import, EventOrigin::Kernel] {
                        let moment = of(&draft, received_at, origin);
                        prop_assert!(moment.time >= EARLIEST && moment.time <= received_at.plus_ms(MAX_AHEAD_MS));
                        prop_assert_eq!(moment.time == Timestamp(time), moment.flags.is_empty() || moment.time.0 == time);
                        if origin != EventOrigin::Client || sent_at.is_none() {
                            prop_assert!(!moment.flags.contains(&flag::CLOCK_CORRECTED));
                        }
                        prop_assert_eq!(moment.original.is_some(), moment.time.0 != time);
                    }
                }
            }
        }
    }
}
