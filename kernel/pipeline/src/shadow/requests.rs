//! A connector's version beside the live one: given the request that the live version has answered. What the two made of it is
//! compared part by part, events by their places.

use std::sync::Arc;

use kith_model::event::DraftEvent;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Connector, ReceiveError, Received, SourceRequest};
use kith_model::time::Timestamp;
use serde_json::{Value, json};

use super::report::SeenCall;
use super::{Kept, ShadowExample, ShadowFailure, Wanted, begin, failure, shown};
use crate::setup::Role;
use crate::shared::KernelState;

/// What a connector makes of a request.
type Answer = Result<Received, ReceiveError>;

/// What an event takes in memory besides its texts, about.
const EVENT_BYTES: usize = 512;

/// Identifiers of an event in an example.
const MAX_SHOWN_IDENTIFIERS: usize = 8;

/// How refused requests are counted: a connector's own codes are as many as it likes.
const REFUSED: &str = "refused";

/// A request that the live version has answered.
pub(crate) struct AnsweredRequest<'a> {
    pub workspace: WorkspaceId,
    pub source: InstallationId,
    /// The live version, which may be another by now.
    pub connector: &'a Arc<dyn Connector>,
    pub request: &'a SourceRequest,
    pub answer: &'a Answer,
    /// How the call went, where it was for this request alone as the shadow's is: no other is compared with that.
    pub seen: Option<SeenCall>,
}

/// Compare what the live version made of a request with what its shadow makes of it, where it has one and there is room.
pub(crate) fn offer(shared: &Arc<KernelState>, answered: &AnsweredRequest<'_>) {
    let Some(workspace) = shared.workspace(answered.workspace) else { return };
    let compiled = workspace.compiled.load_full();
    let Some(installed) = compiled.setup.installation(answered.source) else { return };
    let Some(shadow) = &installed.shadow else { return };
    let is_live = matches!(&installed.role, Role::Connector(live) if Arc::ptr_eq(live, answered.connector));
    let (true, Role::Connector(connector)) = (is_live && installed.activity.is_running(), &shadow.role) else { return };
    let Some(run) = shared.shadows.run_of(answered.workspace, installed) else { return };
    let bytes = answered.request.body.len() + answer_bytes(answered.answer);
    let wanted = Wanted { items: 1, bytes, memory_bytes: shadow.call_memory_bytes };
    let Some(place) = run.place(&shared.shadows.input, wanted) else { return };
    let (state, connector) = (Arc::clone(shared), Arc::clone(connector));
    let (request, live, live_seen) = (answered.request.clone(), answered.answer.clone(), answered.seen);
    begin(shared, place, wanted, move |place| {
        if !place.run.is_current(&workspace) {
            return;
        }
        let started = std::time::Instant::now();
        let (seen, given) = SeenCall::of(|| connector.receive(&request));
        if matches!(given, Err(ReceiveError::Fault(_))) {
            place.run.rest(started.elapsed());
        }
        let run = place.end();
        if run.is_current(&workspace) {
            metrics::counter!("kith_shadow_compared_total", "kind" => "connector").increment(1);
            let at = state.clock.now();
            run.record(&state, |kept| {
                if let Some(live_seen) = &live_seen {
                    kept.report().live.call(live_seen);
                    kept.report().shadow.call(&seen);
                }
                compare(kept, at, &live, &given);
            });
        }
    });
}

/// About what an answer holds in memory.
fn answer_bytes(answer: &Answer) -> usize {
    let of_event = |event: &DraftEvent| {
        EVENT_BYTES + event.name.len() + event.properties.len() + event.traits.len() + event.context.len()
    };
    match answer {
        Ok(received) => {
            let rejected = received.rejected.iter().map(|part| EVENT_BYTES + part.raw.len() + part.message.len());
            received.events.iter().map(of_event).sum::<usize>() + rejected.sum::<usize>()
        }
        Err(_) => EVENT_BYTES,
    }
}

fn compare(kept: &mut Kept, at: Timestamp, live: &Answer, shadow: &Answer) {
    let report = kept.report();
    report.compared += 1;
    if let Err(error) = live {
        report.live.failed(code(error));
    }
    if let Err(error) = shadow {
        report.shadow.failed(code(error));
        kept.last_failure = Some(said(at, error));
    }
    let (Ok(live), Ok(shadow)) = (live, shadow) else { return };
    for place in 0..live.events.len().max(shadow.events.len()) {
        let pair = (live.events.get(place), shadow.events.get(place));
        compare_part(kept, at, "events", pair, event);
    }
    for place in 0..live.rejected.len().max(shadow.rejected.len()) {
        let pair = (live.rejected.get(place), shadow.rejected.get(place));
        compare_part(kept, at, "rejected", pair, |part| json!({ "code": part.code, "place": part.place }));
    }
    let shows = |answer: &kith_model::plugin::Answer| json!({ "status": answer.status, "bytes": answer.body.len() });
    compare_part(kept, at, "answer", (live.answer.as_ref(), shadow.answer.as_ref()), shows);
    compare_part(kept, at, "consumed", (Some(&live.consumed), Some(&shadow.consumed)), |bytes| json!(bytes));
}

fn compare_part<T: PartialEq>(
    kept: &mut Kept,
    at: Timestamp,
    part: &str,
    (live, shadow): (Option<&T>, Option<&T>),
    shows: impl Fn(&T) -> Value,
) {
    if kept.report().compare(part, live, shadow) {
        let text = |value: &T| shows(value).to_string();
        let example = ShadowExample {
            at,
            profile: None,
            output: part.to_owned(),
            live: live.map(text),
            shadow: shadow.map(text),
        };
        kept.example(example);
    }
}

fn event(event: &DraftEvent) -> Value {
    let identifiers = event.identifiers.iter().take(MAX_SHOWN_IDENTIFIERS);
    let identifiers = identifiers.map(|one| shown(&format!("{}:{}", one.kind, one.value)));
    json!({
        "kind": event.kind.as_str(),
        "name": shown(&event.name),
        "message_id": event.message_id.as_deref().map(shown),
        "time": event.time.map(|time| time.to_string()),
        "identifiers": identifiers.collect::<Vec<String>>(),
        "properties": shown(&event.properties),
        "traits": shown(&event.traits),
        "context": shown(&event.context),
    })
}

fn code(error: &ReceiveError) -> &'static str {
    match error {
        ReceiveError::Refused(_) => REFUSED,
        ReceiveError::Fault(fault) => fault.code(),
    }
}

fn said(at: Timestamp, error: &ReceiveError) -> ShadowFailure {
    match error {
        ReceiveError::Refused(refusal) => ShadowFailure {
            at,
            code: REFUSED.to_owned(),
            message: shown(&format!("{}: {}", refusal.code, refusal.message)),
        },
        ReceiveError::Fault(fault) => failure(at, fault),
    }
}
