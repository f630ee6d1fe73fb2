//! Responsible for what connectors and channels of contract 0.1.0 give: the same as today's without flags and the time as it
//! came; and for the callbacks that such a channel is given, which are without attributes. Each value is moved into its present form, so that there is one way from there to the model.

use kith_model::plugin::{Callback, Receipt, Received};
use kith_model::polling::PolledPage;

use crate::bindings::current::{delivering, polling, source, types};
use crate::bindings::v0_1;
use crate::hidden::Hidden;

fn event(event: v0_1::types::Event) -> types::Event {
    use v0_1::types::EventKind as Wit;
    let identifier = |found: v0_1::types::Identifier| types::Identifier { kind: found.kind, value: found.value };
    types::Event {
        kind: match event.kind {
            Wit::Track => types::EventKind::Track,
            Wit::Identify => types::EventKind::Identify,
            Wit::Page => types::EventKind::Page,
            Wit::Screen => types::EventKind::Screen,
            Wit::Group => types::EventKind::Group,
            Wit::Alias => types::EventKind::Alias,
        },
        message_id: event.message_id,
        name: event.name,
        time: event.time,
        sent_at: event.sent_at,
        identifiers: event.identifiers.into_iter().map(identifier).collect(),
        properties: event.properties,
        traits: event.traits,
        context: event.context,
        flags: Vec::new(),
        original_time: None,
        attributes: event.attributes,
    }
}

fn rejected(rejected: v0_1::types::Rejected) -> types::Rejected {
    types::Rejected { place: rejected.place, code: rejected.code, message: rejected.message, raw: rejected.raw }
}

pub(crate) fn received_from_wit_0_1(hidden: &Hidden, received: v0_1::source::Received) -> Received {
    let answer = |answer: v0_1::source::Answer| source::Answer {
        status: answer.status,
        content_type: answer.content_type,
        body: answer.body,
    };
    let received = source::Received {
        events: received.events.into_iter().map(event).collect(),
        rejected: received.rejected.into_iter().map(rejected).collect(),
        consumed: received.consumed,
        resume: received.resume,
        answer: received.answer.map(answer),
        notes: Vec::new(),
    };
    super::received_from_wit(hidden, received)
}

pub(crate) fn page_from_wit_0_1(hidden: &Hidden, page: v0_1::source::Page) -> PolledPage {
    let page = polling::Page {
        events: page.events.into_iter().map(event).collect(),
        rejected: page.rejected.into_iter().map(rejected).collect(),
        cursor: page.cursor,
        more: page.more,
    };
    super::page_from_wit(hidden, page)
}

pub(crate) fn callback_to_wit_0_1(callback: &Callback) -> v0_1::delivering::Callback {
    let callback = super::callback_to_wit(callback);
    v0_1::delivering::Callback {
        method: callback.method,
        path: callback.path,
        query: callback.query,
        headers: callback.headers,
        body: callback.body,
        received_at: callback.received_at,
    }
}

pub(crate) fn receipt_from_wit_0_1(receipt: v0_1::delivering::Receipt) -> Receipt {
    super::receipt_from_wit(delivering::Receipt { message_id: receipt.message_id, event: event(receipt.event) })
}
