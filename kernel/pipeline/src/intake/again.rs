//! What was set aside, and comes again: a request on which a connector failed is kept, and a record that was kept is read by
//! the source's connector as it is now, in the path that it came in.

use std::sync::Arc;

use kith_model::event::{EventOrigin, RejectedRecord};
use kith_model::plugin::{PluginFault, ReceiveError, RecordPlace, Refusal, ReplayScope, SourceRequest};
use kith_model::tracking::Judgements;
use tokio::sync::oneshot;

use super::{Intake, IntakeError, WithoutRoom, not_committed, stopped};
use crate::accept::aside::{Input, ReplayedLetter, draft, source_of};
use crate::accept::{Reply, Sender, Submission};
use crate::rows::{RawForm, RecordOrigin};
use crate::views::Acceptance;

impl Intake {
    /// What a submission was read from.
    pub(super) fn input(
        &self,
        body: Vec<u8>,
        resume: Option<Vec<u8>>,
        places: Vec<RecordPlace>,
        judged: Judgements,
    ) -> Arc<Input> {
        let SourceRequest { path, query, headers, .. } = &self.request;
        let content_type = headers.iter().find(|(name, _)| name == "content-type");
        Arc::new(Input {
            path: path.clone(),
            query: query.clone(),
            content_type: content_type.map(|(_, value)| value.clone()).unwrap_or_default(),
            body,
            resume,
            places,
            judged,
            has_failed: false,
        })
    }

    /// Keep a request on which the connector failed: its sender may be told that it is not to come again. What cannot be kept
    /// now is not, for the sender is told of the failure in any case.
    pub(super) async fn keep_request(&self, fault: &PluginFault, request: &SourceRequest) {
        if !fault.is_strike() {
            return;
        }
        let raw = String::from_utf8_lossy(&request.body).into_owned();
        let record = RejectedRecord { place: 0, code: fault.code().to_owned(), message: fault.to_string(), raw };
        self.keep(record, request).await;
    }

    /// Keep what the connector cannot read at all. Its client is told, and many clients drop what is refused: so it is kept aside once, and
    /// can be looked at and tried again. Where nothing can be kept the client is told the same.
    pub(super) async fn keep_refused(&self, refusal: &Refusal, request: &SourceRequest) {
        if !matches!(refusal.status, 400 | 422) || request.body.is_empty() {
            return;
        }
        let raw = String::from_utf8_lossy(&request.body).into_owned();
        let record = RejectedRecord { place: 0, code: refusal.code.clone(), message: refusal.message.clone(), raw };
        self.keep(record, request).await;
    }

    /// Keep a record of a whole request aside. What cannot be kept now is not, and a dry run keeps nothing.
    async fn keep(&self, record: RejectedRecord, request: &SourceRequest) {
        if self.preview.is_some() {
            return;
        }
        let mut input = self.input(Vec::new(), request.resume.clone(), Vec::new(), Judgements::default());
        if let Some(input) = Arc::get_mut(&mut input) {
            input.has_failed = true;
        }
        let (reply, answered) = oneshot::channel();
        let submission = Submission { rejected: vec![record], input: Some(input), ..self.submission(reply) };
        if self.shared.submit(submission, WithoutRoom::Refuse).await.is_ok() {
            let _ = answered.await;
        }
    }

    /// A submission of nothing.
    fn submission(&self, reply: Reply) -> Submission {
        Submission {
            sender: Arc::clone(&self.sender),
            origin: self.origin,
            giver: self.giver,
            ..Submission::of_nothing(self.workspace, self.source, self.request.received_at, reply)
        }
    }

    /// Take a record that was set aside. Its letter goes in the commit in which it is taken; where it is refused again, the
    /// letter stays with the newer reason. Events count as imported: they tell of the past.
    ///
    /// A connector that fails on it is not blamed: who tries again what it failed on before would switch it off for everybody.
    pub(crate) async fn again(mut self, again: ReplayedLetter) -> Result<Acceptance, IntakeError> {
        let letter = &again.letter;
        let raw = letter.record.raw.clone();
        let RecordOrigin { path, query, content_type, resume } = letter.came.clone().unwrap_or_default();
        let headers = (!content_type.is_empty()).then(|| ("content-type".to_owned(), content_type));
        self.origin = EventOrigin::Import;
        // There is nothing of it that could be sent again.
        self.has_begun = true;
        self.request = SourceRequest {
            path,
            query,
            headers: headers.into_iter().collect(),
            resume: resume.clone(),
            replayed: if letter.form == RawForm::Request { ReplayScope::Request } else { ReplayScope::Record },
            // The times that it names are corrected as they would have been then.
            received_at: letter.at,
            ..self.request
        };
        let (mut events, places, rejected) = if letter.form == RawForm::Event {
            let unreadable =
                |message| IntakeError::Refused(super::Refusal { status: 400, code: "bad-event".into(), message });
            // A hash of a hash would be another value.
            let rules = self.sender.rules.clone().filter(|_| !draft::is_ruled(&raw));
            // No version reads it now: it is as the one made it that read it then. Of another source it is nobody's.
            let is_own = source_of(self.workspace, &again.key).is_some_and(|(source, _)| source == self.source);
            let reader = letter.reader.clone().filter(|_| is_own).map(Arc::new);
            self.sender = Arc::new(Sender { rules, reader, ..Sender::clone(&self.sender) });
            (vec![draft::read(&raw).map_err(unreadable)?], Vec::new(), Vec::new())
        } else {
            let request = SourceRequest { body: raw.clone().into_bytes(), complete: true, ..self.request.clone() };
            match self.call(request, WithoutRoom::Wait).await?.received {
                Ok(received) => (received.events, received.places, received.rejected),
                Err(ReceiveError::Refused(refusal)) => return Err(IntakeError::Refused(refusal)),
                Err(ReceiveError::Fault(fault)) => return Err(IntakeError::Fault(fault)),
            }
        };
        if events.is_empty() && rejected.is_empty() {
            let message = "the connector found nothing in it".to_owned();
            return Err(IntakeError::Refused(super::Refusal { status: 400, code: "nothing-found".into(), message }));
        }
        if letter.origin == EventOrigin::Import {
            // A row of a file that comes without an id has the one that it will have in the corrected file.
            self.compare(&mut events).await?;
        }
        let judged = self.judge(&mut events).await;
        let input = self.input(raw.into_bytes(), resume, places, judged);
        let (reply, answered) = oneshot::channel();
        let again = Some(Box::new(again));
        let submission = Submission { events, rejected, input: Some(input), again, ..self.submission(reply) };
        self.shared.submit(submission, WithoutRoom::Wait).await?;
        answered.await.map_err(|_| stopped())?.map_err(|error| not_committed(&error))
    }
}
