//! Responsible for what a connector that polls is asked and gives.

use kith_model::polling::{PollAnswer, PollError, PollTurn, PolledPage, WantedPage};
use kith_model::sending::OutboundRequest;

use super::channel::{after_ms, outbound_from_wit, response_to_wit, send_failure_to_wit};
use super::{event_from_wit, place_of, rejected_from_wit};
use crate::bindings::current::polling;
use crate::hidden::Hidden;

pub(crate) fn wanted_to_wit(wanted: &WantedPage) -> polling::Wanted {
    polling::Wanted {
        cursor: wanted.cursor.clone(),
        now: wanted.now.0,
        since: wanted.since.map(|since| since.0),
        attributes: Vec::new(),
    }
}

pub(crate) fn turn_from_wit(hidden: &Hidden, turn: polling::Turn) -> PollTurn {
    let outbound =
        |sending: polling::Sending| OutboundRequest { resume: sending.resume, ..outbound_from_wit(sending.request) };
    match turn {
        polling::Turn::Send(requests) => PollTurn::Send(requests.into_iter().map(outbound).collect()),
        polling::Turn::Page(page) => PollTurn::Page(page_from_wit(hidden, page)),
    }
}

pub(crate) fn page_from_wit(hidden: &Hidden, page: polling::Page) -> PolledPage {
    PolledPage {
        places: page.events.iter().map(|event| place_of(&event.attributes)).collect(),
        events: page.events.into_iter().map(event_from_wit).collect(),
        rejected: page.rejected.into_iter().map(|rejected| rejected_from_wit(hidden, rejected)).collect(),
        cursor: page.cursor,
        more: page.more,
    }
}

pub(crate) fn poll_answer_to_wit(answer: &PollAnswer) -> polling::Answer {
    let result = match &answer.result {
        Ok(response) => polling::Sent::Response(polling::Answered {
            response: response_to_wit(response.clone()),
            truncated: response.truncated,
        }),
        Err(failure) => polling::Sent::Failed(send_failure_to_wit(failure.clone())),
    };
    polling::Answer { round: answer.round, resume: answer.resume.clone(), result }
}

pub(crate) fn poll_failure_from_wit(hidden: &Hidden, failure: polling::Failure) -> PollError {
    match failure {
        polling::Failure::Later(later) => {
            PollError::Later { after_ms: after_ms(later.after_seconds), reason: hidden.bounded(&later.reason) }
        }
        polling::Failure::Permanent(reason) => PollError::Permanent(hidden.bounded(&reason)),
    }
}
