//! One poll: page after page, each of some rounds of requests and answers, each kept in one commit with where the next one begins.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kith_model::budget::table;
use kith_model::plugin::PluginFault;
use kith_model::polling::{PollAnswer, PollError, PollTurn, PolledPage, WantedPage};
use kith_model::sending::{InboundResponse, OutboundRequest};
use kith_store::CommitError;
use tokio::time::Instant;

use super::memory::Round;
use super::schedule::{PollEnd, PollEntry, PollRow, PollTerms, end_of, most_pages};
use super::{Poller, TurnHeld, put};
use crate::deliver::fetch::{Fetcher, HostAway, NotNow, fetch};
use crate::intake::{Intake, IntakeError};
use crate::views::Acceptance;

/// One page with all its requests may take this long.
const MAX_PAGE: Duration = Duration::from_secs(120);

/// After this long a poll begins no further page, because others wait for their turn.
const MAX_TURN: Duration = Duration::from_secs(300);

/// How a page ended that was not kept.
enum NoPage {
    Failed(PollError),
    /// The installation was changed, held or asked for from the start meanwhile: nothing of the page counts.
    Overtaken,
    /// The kernel stops.
    Stopped,
}

impl From<PollError> for NoPage {
    fn from(error: PollError) -> NoPage {
        NoPage::Failed(error)
    }
}

/// A page that is kept.
struct Kept {
    row: PollRow,
    more: bool,
}

impl Poller {
    /// Poll, when it is this installation's turn.
    pub(super) async fn turn(&self, terms: PollTerms) {
        let mut held = self.turns().take(self.workspace).await;
        self.place.is_under_way.store(true, Ordering::SeqCst);
        self.pages(terms, &mut held).await;
        self.place.is_under_way.store(false, Ordering::SeqCst);
    }

    async fn pages(&self, terms: PollTerms, held: &mut Option<TurnHeld>) {
        // As it is now: somebody may have asked for something while it waited for its turn.
        let row = match self.read().await {
            Ok(row) => self.place.present(row),
            Err(error) => {
                tracing::error!(workspace = self.workspace.0, installation = self.installation.0, %error, "how far it has polled cannot be read");
                *held = None;
                self.sleep(super::PAUSE).await;
                return;
            }
        };
        let (began, mut row) = (Instant::now(), row);
        let mut entry = PollEntry::begun(row.polls + 1, self.now());
        let (mut more, before, mut is_cut) = (true, row.clone(), false);
        let mut seen = BTreeSet::from([row.cursor_hash()]);
        entry.ended = loop {
            if !more {
                break PollEnd::Complete;
            }
            if entry.pages >= most_pages() {
                table::POLL_PAGES.count();
                is_cut = true;
                break entry.end_of_pages();
            }
            if entry.pages > 0 && began.elapsed() >= MAX_TURN {
                is_cut = true;
                break PollEnd::More;
            }
            match self.page(&row, &mut entry, held).await {
                Ok(kept) => {
                    (row, more) = (kept.row, kept.more);
                    if more && !seen.insert(row.cursor_hash()) {
                        break row.went_round(&before, self.now(), terms);
                    }
                }
                Err(NoPage::Failed(error)) => {
                    row.failed(&error, self.now(), terms);
                    tracing::info!(workspace = self.workspace.0, installation = self.installation.0, %error, "a poll failed");
                    break end_of(&error);
                }
                Err(NoPage::Overtaken | NoPage::Stopped) => {
                    // Whatever overtook it rings the bell; meanwhile it is others' turn.
                    *held = None;
                    self.sleep(super::LOOK).await;
                    return;
                }
            }
        };
        if is_cut {
            row.turned(&before, &mut entry, self.now(), terms);
        }
        entry.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        metrics::counter!("kith_polls_total", "outcome" => entry.ended.as_str()).increment(1);
        self.finish(row, entry).await;
    }

    /// Write down what came of a poll, unless it was asked for from the start meanwhile.
    async fn finish(&self, mut row: PollRow, mut entry: PollEntry) {
        entry.cursor = row.cursor_hash();
        row.remember(entry);
        let writing = self.place.writing.lock().await;
        let written = match self.read().await {
            Ok(held) if held.epoch != row.epoch => return,
            Ok(_) => self.commit(&row).await,
            Err(error) => Err(CommitError::Read(error)),
        };
        *self.place.uncommitted.lock() = written.is_err().then_some(row);
        drop(writing);
        if let Err(error) = written {
            tracing::error!(workspace = self.workspace.0, installation = self.installation.0, %error, "what came of a poll is not written down");
            self.sleep(super::PAUSE).await;
        }
    }

    /// Fetch the page behind the row's cursor, and keep it.
    async fn page(&self, row: &PollRow, entry: &mut PollEntry, held: &mut Option<TurnHeld>) -> Result<Kept, NoPage> {
        let mut intake = Intake::to_poll(&self.shared, self.workspace, self.installation).map_err(not_begun)?;
        let wanted = WantedPage { cursor: row.cursor.clone(), now: self.now(), since: row.since };
        let page = match self.fetched(&intake, &wanted, entry, held).await {
            Err(NoPage::Failed(PollError::Fault(fault))) => {
                intake.failed(&fault);
                return Err(PollError::Fault(fault).into());
            }
            fetched => fetched?,
        };
        intake.worked();
        let more = page.more;
        let mut next = row.clone();
        next.kept(page.cursor.clone(), wanted.now, more);
        let accepted = self.keep(&mut intake, page, &next, entry).await?;
        entry.pages += 1;
        entry.events += accepted.accepted + accepted.corrected;
        entry.repeats += accepted.duplicate;
        entry.rejected += accepted.rejected_count;
        metrics::counter!("kith_poll_pages_total").increment(1);
        self.shared.observer.polled(&accepted);
        Ok(Kept { row: next, more })
    }

    /// Ask the connector, send what it wants, and ask again, until it gives the page. A peer that is waited for holds no turn.
    async fn fetched(
        &self,
        intake: &Intake,
        wanted: &WantedPage,
        entry: &mut PollEntry,
        held: &mut Option<TurnHeld>,
    ) -> Result<PolledPage, NoPage> {
        let deadline = Instant::now() + MAX_PAGE;
        let (connector, asked) = (intake.connector(), wanted.clone());
        let mut turn = self.ask(intake, 0, move || connector.poll(&asked)).await?;
        let (mut round, mut sent) = (0, 0);
        loop {
            let requests = match turn {
                PollTurn::Page(page) => return Ok(page),
                PollTurn::Send(requests) => requests,
            };
            round += 1;
            sent += requests.len();
            if u64::try_from(sent).unwrap_or(u64::MAX) > table::POLL_REQUESTS.default {
                table::POLL_REQUESTS.count();
                let limit = table::POLL_REQUESTS.default;
                return Err(PollError::Fault(PluginFault::LimitExceeded { what: "requests for a page", limit }).into());
            }
            if !intake.is_current() {
                return Err(NoPage::Overtaken);
            }
            entry.requests += u32::try_from(requests.len()).unwrap_or(u32::MAX);
            *held = None;
            let (answers, room) = self.answers(intake, requests, round, deadline).await?;
            *held = self.turns().take(self.workspace).await;
            let bytes = answers.iter().filter_map(|answer| answer.result.as_ref().ok()).map(InboundResponse::bytes);
            let (connector, asked, bytes) = (intake.connector(), wanted.clone(), bytes.sum());
            turn = self.ask(intake, bytes, move || connector.polled(&asked, &answers)).await?;
            // Until here the answers were in memory.
            drop(room);
        }
    }

    /// Run a call of the connector on the guests' threads.
    async fn ask(
        &self,
        intake: &Intake,
        bytes: usize,
        call: impl FnOnce() -> Result<PollTurn, PollError> + Send + 'static,
    ) -> Result<PollTurn, NoPage> {
        let later = |reason: String| PollError::Later { after_ms: None, reason };
        let called = self.shared.guests.run(intake.polling_call(bytes), call);
        let called = called.map_err(|exhausted| later(exhausted.to_string()))?;
        Ok(called.finish().await.map_err(|_| NoPage::Stopped)??)
    }

    async fn answers(
        &self,
        intake: &Intake,
        requests: Vec<OutboundRequest>,
        round: u32,
        deadline: Instant,
    ) -> Result<(Vec<PollAnswer>, Arc<Round>), NoPage> {
        let Some(transport) = intake.connector().transport() else {
            let fault = PluginFault::InvalidOutput("it asked for a request, and nobody sends for it".to_owned());
            return Err(PollError::Fault(fault).into());
        };
        let fetcher = Arc::new(Fetcher {
            shared: Arc::clone(&self.shared),
            workspace: self.workspace,
            installation: self.installation,
            transport,
            deadline,
        });
        let resumes: Vec<_> = requests.iter().map(|request| request.resume.clone()).collect();
        let (fetched, room) = fetch(&fetcher, requests).await.map_err(|not_now| match not_now {
            NotNow::Host(HostAway { host, until }) => {
                let wait = until.0.saturating_sub(self.now().0);
                let reason = format!("{host} is not tried now, because requests to it failed or are too many");
                PollError::Later { after_ms: u64::try_from(wait).ok(), reason }
            }
            NotNow::NoRoom(exhausted) => PollError::Later { after_ms: None, reason: exhausted.to_string() },
        })?;
        let answer = |(resume, result)| PollAnswer { round, resume, result };
        Ok((resumes.into_iter().zip(fetched).map(answer).collect(), room))
    }

    /// Put what the page brought and where the next one begins into one commit, unless something overtook it.
    async fn keep(
        &self,
        intake: &mut Intake,
        page: PolledPage,
        next: &PollRow,
        entry: &PollEntry,
    ) -> Result<Acceptance, NoPage> {
        let _writing = self.place.writing.lock().await;
        let unread = |reason: String| PollError::Later { after_ms: None, reason };
        let held = self.read().await.map_err(|error| unread(error.to_string()))?;
        if held.epoch != next.epoch || !intake.renew() {
            return Err(NoPage::Overtaken);
        }
        if page.events.is_empty() && page.rejected.is_empty() {
            // With the next page that brings something, or at the end of the poll.
            return Ok(Acceptance::default());
        }
        let mut kept = next.clone();
        kept.remember(PollEntry { cursor: next.cursor_hash(), ..entry.clone() });
        let accepted = intake.page(page, put(self.whose(), &kept)).await.map_err(not_taken)?;
        *self.place.uncommitted.lock() = None;
        Ok(accepted)
    }
}

/// Why a page was not begun.
fn not_begun(error: IntakeError) -> NoPage {
    match error {
        IntakeError::UnknownSource | IntakeError::NotLive { .. } => NoPage::Overtaken,
        error => not_taken(error),
    }
}

/// Why a page was not taken.
fn not_taken(error: IntakeError) -> NoPage {
    let after_ms = match &error {
        IntakeError::Exhausted(exhausted) => {
            exhausted.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
        }
        IntakeError::Unavailable { retry_after_s, .. } => Some(u64::from(*retry_after_s) * 1_000),
        IntakeError::TooLarge { .. } | IntakeError::Refused(_) => {
            return NoPage::Failed(PollError::Permanent(error.to_string()));
        }
        _ => None,
    };
    NoPage::Failed(PollError::Later { after_ms, reason: error.to_string() })
}
