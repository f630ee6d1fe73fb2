//! A record that was set aside and comes again by itself, corrected or under another configuration.
//!
//! It comes without its page, so that nothing says of which resource it is: it is of the one that can read it.

use kith_plugin_sdk::{Received, Rejected, Rejection, Request, config};

use crate::record::{self, Problem, Record};
use crate::settings::Settings;

/// The event of the record, or why it is set aside again.
pub(crate) fn read(request: &Request) -> Result<Received, Rejection> {
    let settings = Settings::read(&config::text()).map_err(|(_, message)| {
        Rejection::new(500, "plugin-failure", format!("the configuration cannot be used: {message}"))
    })?;
    let mut events = Vec::new();
    let mut problem = Problem::new("no-resource", "the configuration names no `resources`");
    for resource in &settings.resources {
        match Record::read(&request.body).and_then(|record| record::event(&record, resource)) {
            Ok(event) => events.push(event.at(0, None)),
            Err(other) => problem = other,
        }
    }
    let mut received = Received { consumed: request.body.len() as u64, ..Received::default() };
    if events.len() > 1 {
        problem = Problem::new(
            "several-resources",
            "several of the `resources` could read this record, and nothing says which it is of; read the one from its start instead",
        );
    }
    if events.len() == 1 {
        received.events = events;
    } else {
        let raw = String::from_utf8_lossy(&request.body);
        received.rejected.push(Rejected::new(0, problem.code, problem.message, &raw));
    }
    Ok(received)
}
