//! What an answer means for the delivery: delivered, try again, never, or nothing more to this address. When the next attempt is
//! made is the kernel's.

use kith_plugin_sdk::Outcome;
use kith_plugin_sdk::http::{Error, Response};

/// How much of an answer's body goes into the reason that a person reads.
const MAX_QUOTED_CHARS: usize = 200;

/// The outcome of one attempt that was answered, or not, at `now_ms`.
pub(crate) fn of(answer: Result<Response, Error>, now_ms: i64) -> Outcome {
    let response = match answer {
        Ok(response) => response,
        Err(error) if error.may_retry() => return Outcome::Retry { after_seconds: None, reason: error.to_string() },
        // Only of the answer's head: the kernel gives a status however long the body is.
        Err(error @ Error::TooLarge(_)) => return Outcome::Permanent(format!("{error}; the status is unknown")),
        Err(error) => return Outcome::Permanent(error.to_string()),
    };
    let reason = |meaning: &str| describe(&response, meaning);
    match response.status {
        200..=299 => Outcome::Delivered(None),
        300..=399 => Outcome::Permanent(reason("redirects are not followed; set `url` to the final address")),
        408 | 425 | 429 | 500..=599 => Outcome::Retry {
            after_seconds: response.retry_after_seconds(now_ms),
            reason: reason("the receiver asks to try again"),
        },
        410 => Outcome::Stop(reason("the receiver is gone; change the installation's `url` or remove it")),
        400..=499 => Outcome::Permanent(reason("the receiver refused it")),
        _ => Outcome::Retry { after_seconds: None, reason: reason("that is not the status of an answer") },
    }
}

/// Status, what it means, and the beginning of what the receiver said.
fn describe(response: &Response, meaning: &str) -> String {
    let text = response.text();
    let said: String =
        text.trim().chars().take(MAX_QUOTED_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let status = response.status;
    if said.is_empty() { format!("status {status}: {meaning}") } else { format!("status {status}: {meaning}: {said}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_outcome() {
        for (status, expected) in [
            (200, "delivered"),
            (204, "delivered"),
            (299, "delivered"),
            (301, "permanent"),
            (304, "permanent"),
            (307, "permanent"),
            (400, "permanent"),
            (401, "permanent"),
            (404, "permanent"),
            (408, "retry"),
            (410, "stop"),
            (413, "permanent"),
            (425, "retry"),
            (429, "retry"),
            (500, "retry"),
            (502, "retry"),
            (503, "retry"),
            (504, "retry"),
            (599, "retry"),
            (199, "retry"),
            (600, "retry"),
        ] {
            let outcome = of(Ok(Response::new(status)), 0);
            let (kind, reason) = match &outcome {
                Outcome::Accepted(_) => ("accepted", None),
                Outcome::Delivered(_) => ("delivered", None),
                Outcome::Retry { reason, .. } => ("retry", Some(reason)),
                Outcome::Permanent(reason) => ("permanent", Some(reason)),
                Outcome::Stop(reason) => ("stop", Some(reason)),
            };
            assert_eq!(kind, expected, "{status}");
            assert!(reason.is_none_or(|reason| reason.starts_with(&format!("status {status}: "))), "{outcome:?}");
        }
    }

    #[test]
    fn no_answer_is_tried_again_and_a_denial_is_not() {
        let retried = |error: Error| matches!(of(Err(error), 0), Outcome::Retry { after_seconds: None, .. });
        assert!(retried(Error::Timeout("30 s".into())));
        assert!(retried(Error::Connection("refused".into())));
        assert!(!retried(Error::Denied("not granted".into())));
        assert!(!retried(Error::TooLarge("1 MiB".into())));
    }

    #[test]
    fn only_answers_that_ask_for_it_are_put_off() {
        let outcome = |status| of(Ok(Response::new(status).with_header("Retry-After", "7")), 0);
        assert!(matches!(outcome(503), Outcome::Retry { after_seconds: Some(7), .. }));
        assert!(matches!(outcome(429), Outcome::Retry { after_seconds: Some(7), .. }));
        assert!(matches!(outcome(403), Outcome::Permanent(_)));
    }

    #[test]
    fn reasons_quote_a_bounded_and_printable_part_of_the_answer() {
        let response = Response::new(400).with_body(format!("bad\u{1b}[31m\n{}", "x".repeat(10_000)));
        let Outcome::Permanent(reason) = of(Ok(response), 0) else { panic!("400 is permanent") };
        assert!(reason.chars().count() < 300 && !reason.chars().any(char::is_control), "{reason}");
        assert!(reason.contains("bad [31m"));
    }
}
