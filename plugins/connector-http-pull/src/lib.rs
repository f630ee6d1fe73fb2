//! The connector `kith/http-pull`: reads lists of records, page by page, from JSON APIs over HTTP, by what its configuration says.
//!
//! This file ties a page together: `request` (what is asked), `answer` (what the answer means), `record` (a record as an event),
//! `paging` (where the next page is) and `progress` (the cursor). It never waits: the kernel sends the requests, keeps the cursor with
//! the events of its page, and decides when it asks again.

use std::collections::BTreeMap;

use kith_plugin_sdk::http::Response;
use kith_plugin_sdk::{
    Connector, Event, Page, PollAnswer, PollFailure, Problem, Received, Rejected, Rejection, Request, Timestamp, Turn,
    Wanted, config, export, log,
};

use crate::progress::{Position, Progress, Run};
use crate::record::Record;
use crate::settings::{Resource, Settings};

mod address;
mod answer;
mod consent;
mod hash;
mod link;
mod paging;
mod path;
mod progress;
mod record;
mod replay;
mod request;
mod selection;
mod settings;
mod since;
mod validate;

/// The connector.
pub struct HttpPull;

impl Connector for HttpPull {
    fn validate(config: &str) -> Result<(), Vec<Problem>> {
        validate::validate(config)
    }

    fn receive(request: Request) -> Result<Received, Rejection> {
        if request.is_replay() {
            return replay::read(&request);
        }
        Err(Rejection::new(404, "no-push", "nothing is sent to this connector: it asks the API of its configuration"))
    }

    fn poll(wanted: &Wanted) -> Result<Turn, PollFailure> {
        let settings = settings()?;
        let (_, run, resource) = Progress::resume(wanted.cursor.as_deref(), &settings, wanted.now)?;
        let request = request::of(&settings, resource, &run).map_err(|failure| named(resource, failure))?;
        Ok(request.into())
    }

    fn polled(wanted: &Wanted, answers: Vec<PollAnswer>) -> Result<Turn, PollFailure> {
        let settings = settings()?;
        let (progress, run, resource) = Progress::resume(wanted.cursor.as_deref(), &settings, wanted.now)?;
        let answer = answers.into_iter().next();
        let answer = answer.ok_or_else(|| PollFailure::later("there is no answer to the request of the page"))?;
        let turn = Polled { settings: &settings, resource, now: wanted.now }.page(progress, run, answer);
        Ok(turn.map_err(|failure| named(resource, failure))?.into())
    }
}

export!(HttpPull as connector);

fn settings() -> Result<Settings, PollFailure> {
    Settings::read(&config::text())
        .map_err(|(key, message)| PollFailure::permanent(format!("the configuration cannot be used: {key}: {message}")))
}

/// The failure with the name of the resource that it is about.
fn named(resource: &Resource, failure: PollFailure) -> PollFailure {
    let with_name = |reason: String| format!("`{}`: {reason}", resource.name);
    match failure {
        PollFailure::Later { after_seconds, reason } => PollFailure::Later { after_seconds, reason: with_name(reason) },
        PollFailure::Permanent(reason) => PollFailure::Permanent(with_name(reason)),
    }
}

/// What an answer is read with.
struct Polled<'s> {
    settings: &'s Settings,
    resource: &'s Resource,
    now: Timestamp,
}

impl Polled<'_> {
    fn page(&self, progress: Progress, mut run: Run, answer: PollAnswer) -> Result<Page, PollFailure> {
        let mut page = Page::default();
        if let Some(response) = expired(&run, &answer) {
            let run = run.begun_again().ok_or_else(|| answer::expired(response))?;
            log::warn(format!("`{}`: the next page has expired; reading begins again", self.resource.name));
            (page.cursor, page.more) = (progress.go_on(run)?, true);
            return Ok(page);
        }
        let next = if is_behind_the_last(&run, &answer) {
            if run.said_more == Some(true) {
                return Err(PollFailure::later(
                    "status 404 for a page that the one before said would follow (`paging.has_more`)",
                ));
            }
            None
        } else {
            let response = answer::success(answer, self.now)?;
            // No content is an empty page.
            if response.status == 204 { None } else { self.read(&response, &mut run, &mut page)? }
        };
        match next {
            Some(position) => {
                run.go_to(position)?;
                (page.cursor, page.more) = (progress.go_on(run)?, true);
            }
            None => (page.cursor, page.more) = progress.finish(&run, self.resource, self.settings, self.now)?,
        }
        Ok(page)
    }

    /// Read the records of a page, and where the next one is.
    fn read(&self, response: &Response, run: &mut Run, page: &mut Page) -> Result<Option<Position>, PollFailure> {
        let document = answer::document(response)?;
        let listed = answer::records(&document, &self.resource.records);
        // What was found before is missing for a while: some APIs say with a status of success that they failed.
        let (records, list) = listed.map_err(|reason| match run.has_worked() {
            true => PollFailure::later(reason),
            false => PollFailure::permanent(reason),
        })?;
        run.note_page(records.len() as u64, list)?;
        // What the records of this page say, by their message ids.
        let mut said: BTreeMap<String, String> = BTreeMap::new();
        let mut unmarked = 0;
        for (place, bytes) in (0..).zip(&records) {
            let outcome = Record::read(bytes).and_then(|record| {
                unmarked += usize::from(!self.note_mark(&record, run));
                self.take(place, record, &mut said)
            });
            match outcome {
                Ok(event) => page.events.extend(event),
                Err(problem) => {
                    let raw = String::from_utf8_lossy(bytes);
                    let message = problem.message + self.resource.word_of_consent();
                    page.rejected.push(Rejected::new(place, problem.code, message, &raw));
                }
            }
        }
        if let Some(since) = self.resource.since.as_ref().filter(|_| unmarked > 0) {
            log::warn(format!(
                "`{}`: {unmarked} of {} records have no `{}` that can be read, and do not count for what is asked for next",
                self.resource.name,
                records.len(),
                since.field
            ));
        }
        let url = request::url(self.settings, self.resource, run);
        run.said_more = paging::said_more(self.resource, &document);
        let asked = paging::Page { url: &url, response, document: &document, records: &records };
        paging::next(self.resource, run, &asked)
    }

    /// Note up to where the API was read; whether the record says it, where that is asked.
    fn note_mark(&self, record: &Record, run: &mut Run) -> bool {
        let Some(since) = &self.resource.since else { return true };
        let Some(value) = since::value_of(record.text.as_bytes(), since) else { return false };
        run.highest = since::greatest(run.highest, value, since, run.started_at);
        true
    }

    /// The event of a record; none where the page has the same record already. Where changed records correct earlier ones the kernel
    /// tells them apart.
    fn take(
        &self,
        place: u64,
        record: Record,
        said: &mut BTreeMap<String, String>,
    ) -> Result<Option<Event>, record::Problem> {
        let event = record::event(&record, self.resource)?;
        if self.resource.corrects {
            return Ok(Some(event.at(place, None)));
        }
        let id = event.message_id.clone().unwrap_or_default();
        match said.get(&id) {
            None => {
                said.insert(id, record.text);
                Ok(Some(event.at(place, None)))
            }
            Some(earlier) if *earlier == record.text => Ok(None),
            Some(_) => {
                let message =
                    format!("the page has another record with this id and version (`{id}`) before, which was taken");
                Err(record::Problem::new("duplicate-id", message))
            }
        }
    }
}

/// The answer of an API that does not know a page any more which it named itself: links and cursors expire.
fn expired<'a>(run: &Run, answer: &'a PollAnswer) -> Option<&'a Response> {
    let response = answer.result.as_ref().ok()?;
    (run.is_at_a_named_page() && matches!(response.status, 400 | 404 | 410)).then_some(response)
}

/// Whether the page was counted, and is not there: some APIs answer 404 behind the last one.
fn is_behind_the_last(run: &Run, answer: &PollAnswer) -> bool {
    matches!(run.position, Position::Page(_) | Position::Offset(_))
        && answer.result.as_ref().is_ok_and(|response| response.status == 404)
}

#[cfg(test)]
mod tests;
