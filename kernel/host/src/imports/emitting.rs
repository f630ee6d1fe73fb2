//! Responsible for the interface `emitting`: events that a model tells of its rows. They are held until its answer is known to be
//! one; where the call fails, nothing of them was said.

use kith_model::budget::table;
use kith_model::event::MAX_EVENT_NAME_BYTES;
use kith_model::plugin::{EmittedEvent, PluginFault};
use serde_json::{Map, Value};

use crate::bindings::current::emitting;
use crate::hidden::Hidden;
use crate::state::CallState;

/// The longest properties of an event, in bytes.
const MAX_PROPERTIES_BYTES: usize = 8 << 10;

/// The longest key of an event, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// What one call has emitted.
#[derive(Default)]
pub(crate) struct Emitting {
    /// How many rows the call is about.
    rows: usize,
    bytes: u64,
    /// Each with the number of its row.
    pub(crate) events: Vec<(u32, EmittedEvent)>,
}

impl Emitting {
    /// Nothing yet, of a call about so many rows.
    pub(crate) fn of(rows: usize) -> Emitting {
        Emitting { rows, ..Emitting::default() }
    }

    /// Hold one more event. `names` are those that the manifest declares; `None` for any.
    fn hold(
        &mut self,
        hidden: &Hidden,
        names: Option<&[String]>,
        row: u32,
        event: EmittedEvent,
    ) -> Result<(), PluginFault> {
        let limit = table::GUEST_EVENTS.default;
        if self.events.len() as u64 >= limit {
            return Err(PluginFault::LimitExceeded { what: "events", limit });
        }
        self.bytes += event.size_bytes() as u64;
        let limit = table::GUEST_EVENT_BYTES.default;
        if self.bytes > limit {
            return Err(PluginFault::LimitExceeded { what: "bytes of events", limit });
        }
        match problem(hidden, names, &event) {
            Some(problem) => return Err(PluginFault::InvalidOutput(problem)),
            None if row as usize >= self.rows => {
                let problem = format!("an event of row {row} was emitted, and there are {}", self.rows);
                return Err(PluginFault::InvalidOutput(problem));
            }
            None => self.events.push((row, event)),
        }
        Ok(())
    }
}

/// Why an event is none that the plugin may emit.
fn problem(hidden: &Hidden, names: Option<&[String]>, event: &EmittedEvent) -> Option<String> {
    let EmittedEvent { name, properties, key } = event;
    if name.trim().is_empty() || name.len() > MAX_EVENT_NAME_BYTES {
        return Some(format!("the name of an event has 1 to {MAX_EVENT_NAME_BYTES} bytes; it has {}", name.len()));
    }
    let shown = hidden.bounded(name);
    if names.is_some_and(|names| !names.contains(name)) {
        return Some(format!(
            "the event `{shown}` is not among those that `emits` under [capabilities] of the manifest names"
        ));
    }
    if key.len() > MAX_KEY_BYTES {
        return Some(format!(
            "the key of an event has at most {MAX_KEY_BYTES} bytes; that of `{shown}` has {}",
            key.len()
        ));
    }
    if properties.len() > MAX_PROPERTIES_BYTES {
        let length = properties.len();
        return Some(format!(
            "the event `{shown}` has {length} bytes of properties; at most {MAX_PROPERTIES_BYTES} may be"
        ));
    }
    let is_object = properties.is_empty() || serde_json::from_str::<Map<String, Value>>(properties).is_ok();
    (!is_object).then(|| format!("the properties of the event `{shown}` are no JSON object"))
}

impl emitting::Host for CallState {
    /// Does not count as a host call: how many events there may be has a budget of its own.
    fn emit(&mut self, row: u32, event: emitting::Emitted) -> wasmtime::Result<()> {
        let emitting::Emitted { name, properties, key } = event;
        let event = EmittedEvent { name, properties, key };
        let held = match &self.emitting {
            Some(emitting) => emitting.lock().hold(&self.installed.hidden, self.installed.emits.as_deref(), row, event),
            None => {
                let problem = "an event was emitted outside of `evaluate` and `score`".to_owned();
                Err(PluginFault::InvalidOutput(problem))
            }
        };
        held.map_err(|fault| self.stop(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, properties: &str, key: &str) -> EmittedEvent {
        EmittedEvent { name: name.into(), properties: properties.into(), key: key.into() }
    }

    #[test]
    fn an_event_is_declared_short_and_of_a_row() {
        let names = ["Won".to_owned()];
        let held = |row, event| {
            let held = Emitting::of(2).hold(&Hidden::default(), Some(&names), row, event);
            held.map_err(|fault| fault.to_string())
        };
        assert_eq!(held(1, event("Won", "", "")), Ok(()));
        assert_eq!(held(0, event("Won", r#"{"total":1}"#, "2026-01")), Ok(()));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_PROPERTIES_BYTES));
        for (row, wrong, said) in [
            (2, event("Won", "", ""), "an event of row 2 was emitted, and there are 2"),
            (0, event("Lost", "", ""), "the event `Lost` is not among those that `emits`"),
            (0, event(" ", "", ""), "has 1 to 256 bytes"),
            (0, event("Won", "[]", ""), "are no JSON object"),
            (0, event("Won", &long, ""), "8200 bytes of properties"),
            (0, event("Won", "", &"k".repeat(257)), "that of `Won` has 257"),
        ] {
            let refused = held(row, wrong).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
        assert_eq!(Emitting::of(1).hold(&Hidden::default(), None, 0, event("Any", "", "")), Ok(()));
        assert!(
            Emitting::of(1).hold(&Hidden::default(), Some(&[]), 0, event("Any", "", "")).is_err(),
            "one that declares none emits none"
        );
    }

    #[test]
    fn a_call_emits_so_many_events_and_so_many_bytes() {
        let mut emitting = Emitting::of(1);
        let most = table::GUEST_EVENTS.default;
        assert!((0..most).all(|_| emitting.hold(&Hidden::default(), None, 0, event("E", "", "")).is_ok()));
        let refused = emitting.hold(&Hidden::default(), None, 0, event("E", "", "")).unwrap_err();
        assert_eq!(refused, PluginFault::LimitExceeded { what: "events", limit: most });
        assert_eq!(refused.code(), "limit.events");
        let mut emitting = Emitting::of(1);
        let large = || event("E", &format!("{{\"a\":\"{}\"}}", "x".repeat(8_000)), "");
        let taken = (0..most).take_while(|_| emitting.hold(&Hidden::default(), None, 0, large()).is_ok()).count();
        assert_eq!(taken, (1 << 20) / large().size_bytes());
        let limit = table::GUEST_EVENT_BYTES.default;
        let refused = emitting.hold(&Hidden::default(), None, 0, large());
        assert_eq!(refused, Err(PluginFault::LimitExceeded { what: "bytes of events", limit }));
    }
}
