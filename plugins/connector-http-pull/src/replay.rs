//! A record that was set aside and comes again by itself, corrected or under another configuration.
//!
//! It comes without its page, so that nothing says of which resource it is. Only one resource can be meant where there is one; of
//! several, another could make something else of it, e.g. a person of an order that names no customer.

use kith_plugin_sdk::{Received, Rejected, Rejection, Request, config};

use crate::record::{self, Problem, Record};
use crate::settings::Settings;

/// The event of the record, or why it is set aside again.
pub(crate) fn read(request: &Request) -> Result<Received, Rejection> {
    let settings = Settings::read(&config::text()).map_err(|(_, message)| {
        Rejection::new(500, "plugin-failure", format!("the configuration cannot be used: {message}"))
    })?;
    let outcome = match &settings.resources[..] {
        [] => Err(Problem::new("no-resource", "the configuration names no `resources`")),
        [resource] => Record::read(&request.body).and_then(|record| record::event(&record, resource)),
        _ => Err(Problem::new(
            "several-resources",
            "the configuration names several `resources`, and nothing says of which this record is; correct it at its source, and read \
             everything again with `kith plugin poll NAME --from-start`",
        )),
    };
    let mut received = Received { consumed: request.body.len() as u64, ..Received::default() };
    match outcome {
        Ok(event) => received.events.push(event.at(0, None)),
        Err(problem) => {
            let raw = String::from_utf8_lossy(&request.body);
            received.rejected.push(Rejected::new(0, problem.code, problem.message, &raw));
        }
    }
    Ok(received)
}
