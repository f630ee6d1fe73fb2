//! Between the generated types and this crate's own: buffers and texts are moved, never copied.

use super::shared::kith::plugin::http_types;
use super::{columns, dataset, delivering, fitting, polling, source, types};
use crate::table::{Column, Lists, Texts, Values};
use crate::{
    Answer, Batch, Callback, Event, EventKind, Failure, Fitted, Identifier, Message, Outcome, Page, PollAnswer,
    PollFailure, PollRequest, Receipt, Received, Rejected, Rejection, Request, SentAnswer, SentMail, Step, Table, Turn,
    Wanted, http, log, mail,
};

fn all<A, B: From<A>>(items: Vec<A>) -> Vec<B> {
    items.into_iter().map(B::from).collect()
}

impl From<source::Request> for Request {
    fn from(request: source::Request) -> Request {
        Request {
            method: request.method,
            path: request.path,
            query: request.query,
            headers: request.headers,
            body: request.body,
            complete: request.complete,
            resume: request.resume,
            received_at: request.received_at,
            attributes: request.attributes,
        }
    }
}

impl From<Identifier> for types::Identifier {
    fn from(identifier: Identifier) -> types::Identifier {
        types::Identifier { kind: identifier.kind, value: identifier.value }
    }
}

impl From<types::Identifier> for Identifier {
    fn from(identifier: types::Identifier) -> Identifier {
        Identifier { kind: identifier.kind, value: identifier.value }
    }
}

impl From<Event> for types::Event {
    fn from(event: Event) -> types::Event {
        types::Event {
            kind: match event.kind {
                EventKind::Track => types::EventKind::Track,
                EventKind::Identify => types::EventKind::Identify,
                EventKind::Page => types::EventKind::Page,
                EventKind::Screen => types::EventKind::Screen,
                EventKind::Group => types::EventKind::Group,
                EventKind::Alias => types::EventKind::Alias,
            },
            message_id: event.message_id,
            name: event.name,
            time: event.time,
            sent_at: event.sent_at,
            identifiers: all(event.identifiers),
            properties: event.properties,
            traits: event.traits,
            context: event.context,
            flags: event.flags,
            original_time: event.original_time,
            attributes: event.attributes,
        }
    }
}

impl From<Rejected> for types::Rejected {
    fn from(rejected: Rejected) -> types::Rejected {
        types::Rejected { place: rejected.place, code: rejected.code, message: rejected.message, raw: rejected.raw }
    }
}

impl From<Failure> for types::Failure {
    fn from(failure: Failure) -> types::Failure {
        match failure {
            Failure::BadInput(reason) => types::Failure::BadInput(reason),
            Failure::Transient(reason) => types::Failure::Transient(reason),
            // Only rows are computed with a state.
            Failure::Permanent(reason) | Failure::UnreadableState(reason) => types::Failure::Permanent(reason),
        }
    }
}

impl From<Failure> for fitting::ComputeFailure {
    fn from(failure: Failure) -> fitting::ComputeFailure {
        match failure {
            Failure::BadInput(reason) => fitting::ComputeFailure::BadInput(reason),
            Failure::Transient(reason) => fitting::ComputeFailure::Transient(reason),
            Failure::Permanent(reason) => fitting::ComputeFailure::Permanent(reason),
            Failure::UnreadableState(reason) => fitting::ComputeFailure::UnreadableState(reason),
        }
    }
}

impl From<Received> for source::Received {
    fn from(received: Received) -> source::Received {
        source::Received {
            events: all(received.events),
            rejected: all(received.rejected),
            consumed: received.consumed,
            resume: received.resume,
            answer: received.answer.map(|Answer { status, content_type, body }| source::Answer {
                status,
                content_type,
                body,
            }),
            notes: received.notes,
        }
    }
}

impl From<Rejection> for source::Rejection {
    fn from(rejection: Rejection) -> source::Rejection {
        source::Rejection { status: rejection.status, code: rejection.code, message: rejection.message }
    }
}

impl From<polling::Wanted> for Wanted {
    fn from(wanted: polling::Wanted) -> Wanted {
        Wanted { cursor: wanted.cursor, now: wanted.now, since: wanted.since, attributes: wanted.attributes }
    }
}

impl From<Page> for polling::Page {
    fn from(page: Page) -> polling::Page {
        polling::Page { events: all(page.events), rejected: all(page.rejected), cursor: page.cursor, more: page.more }
    }
}

impl From<PollRequest> for polling::Sending {
    fn from(sending: PollRequest) -> polling::Sending {
        polling::Sending { request: sending.request.into(), resume: sending.resume }
    }
}

impl From<Turn> for polling::Turn {
    fn from(turn: Turn) -> polling::Turn {
        match turn {
            Turn::Send(requests) => polling::Turn::Send(all(requests)),
            Turn::Page(page) => polling::Turn::Page(page.into()),
        }
    }
}

impl From<PollFailure> for polling::Failure {
    fn from(failure: PollFailure) -> polling::Failure {
        match failure {
            PollFailure::Later { after_seconds, reason } => {
                polling::Failure::Later(polling::Later { after_seconds, reason })
            }
            PollFailure::Permanent(reason) => polling::Failure::Permanent(reason),
        }
    }
}

impl From<polling::Answer> for PollAnswer {
    fn from(answer: polling::Answer) -> PollAnswer {
        let (result, truncated) = match answer.result {
            polling::Sent::Response(answered) => (Ok(answered.response.into()), answered.truncated),
            polling::Sent::Failed(error) => (Err(error.into()), false),
        };
        PollAnswer { round: answer.round, resume: answer.resume, result, truncated }
    }
}

impl From<delivering::Message> for Message {
    fn from(message: delivering::Message) -> Message {
        Message {
            id: message.id,
            attempt: message.attempt,
            recipient: all(message.recipient),
            profile: message.profile,
            payload: message.payload,
            inputs: message.inputs,
            created_at: message.created_at,
            attributes: message.attributes,
        }
    }
}

impl From<Outcome> for delivering::Outcome {
    fn from(outcome: Outcome) -> delivering::Outcome {
        match outcome {
            Outcome::Accepted(id) => delivering::Outcome::Accepted(id),
            Outcome::Delivered(id) => delivering::Outcome::Delivered(id),
            Outcome::Retry { after_seconds, reason } => {
                delivering::Outcome::Retry(delivering::Retry { after_seconds, reason })
            }
            Outcome::Permanent(reason) => delivering::Outcome::Permanent(reason),
            Outcome::Stop(reason) => delivering::Outcome::Stop(reason),
        }
    }
}

impl From<Step> for delivering::Step {
    fn from(step: Step) -> delivering::Step {
        match step {
            Step::Send { request, resume } => {
                delivering::Step::Send(delivering::Sending { request: request.into(), resume })
            }
            Step::Mail { mail, resume } => delivering::Step::Mail(delivering::Mailing { mail: (*mail).into(), resume }),
            Step::Done(outcome) => delivering::Step::Done(outcome.into()),
        }
    }
}

/// The next step for each answer, in their order: a channel reads answers to requests and those of relays in calls of their own.
pub(super) fn next_steps<P: crate::Channel>(answers: Vec<delivering::Answer>) -> Vec<delivering::Step> {
    let (mut requests, mut mails, mut is_mail) = (Vec::new(), Vec::new(), Vec::new());
    for answer in answers {
        let delivering::Answer { message, round, resume, result } = answer;
        let message = message.into();
        let (result, truncated) = match result {
            delivering::Sent::Mailed(result) => {
                let result = result.map(mail::Reply::from).map_err(http::Error::from);
                mails.push(SentMail { message, round, resume, result });
                is_mail.push(true);
                continue;
            }
            delivering::Sent::Response(answered) => (Ok(answered.response.into()), answered.truncated),
            delivering::Sent::Failed(error) => (Err(error.into()), false),
        };
        requests.push(SentAnswer { message, round, resume, result, truncated });
        is_mail.push(false);
    }
    let wanted = (requests.len(), mails.len());
    let requests = if requests.is_empty() { Vec::new() } else { P::outcomes(requests) };
    let mails = if mails.is_empty() { Vec::new() } else { P::mailed(mails) };
    if (requests.len(), mails.len()) != wanted {
        let (of_requests, of_mails) = wanted;
        let given = format!("{} steps for {of_requests} answers to requests", requests.len());
        log::error(format!("{given}, and {} for {of_mails} mails", mails.len()));
        // Whose each is nobody knows; the kernel refuses that there is none.
        return Vec::new();
    }
    let (mut requests, mut mails) = (requests.into_iter(), mails.into_iter());
    let next = |is_mail| if is_mail { mails.next() } else { requests.next() };
    is_mail.into_iter().filter_map(next).map(Into::into).collect()
}

impl From<delivering::Reply> for mail::Reply {
    fn from(reply: delivering::Reply) -> mail::Reply {
        mail::Reply { code: reply.code, enhanced: reply.enhanced, text: reply.text }
    }
}

impl From<mail::Mailbox> for delivering::Mailbox {
    fn from(mailbox: mail::Mailbox) -> delivering::Mailbox {
        delivering::Mailbox { name: mailbox.name, address: mailbox.address }
    }
}

impl From<mail::Mail> for delivering::Mail {
    fn from(mail: mail::Mail) -> delivering::Mail {
        delivering::Mail {
            relay: mail.relay,
            security: match mail.security {
                mail::Security::StartTls => delivering::MailSecurity::Starttls,
                mail::Security::Tls => delivering::MailSecurity::Tls,
                mail::Security::Plain => delivering::MailSecurity::Plain,
            },
            login: mail.login.map(|login| delivering::MailLogin { user: login.user, secret: login.secret }),
            sender: mail.sender.into(),
            reply_to: mail.reply_to.map(Into::into),
            to: mail.to,
            subject: mail.subject,
            text: mail.text,
            html: mail.html,
            headers: mail.headers,
            timeout_ms: mail.timeout_ms,
        }
    }
}

impl From<http::Request> for http_types::Request {
    fn from(request: http::Request) -> http_types::Request {
        http_types::Request {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body: request.body,
            sign: request.signature.map(|signature| {
                http_types::Signature::StandardWebhooks(http_types::StandardWebhooks {
                    secret: signature.secret,
                    message_id: signature.message_id,
                })
            }),
            timeout_ms: request.timeout_ms,
        }
    }
}

impl From<http_types::Response> for http::Response {
    fn from(response: http_types::Response) -> http::Response {
        http::Response { status: response.status, headers: response.headers, body: response.body }
    }
}

impl From<http_types::Error> for http::Error {
    fn from(error: http_types::Error) -> http::Error {
        match error {
            http_types::Error::Denied(reason) => http::Error::Denied(reason),
            http_types::Error::Timeout(reason) => http::Error::Timeout(reason),
            http_types::Error::Connection(reason) => http::Error::Connection(reason),
            http_types::Error::TooLarge(reason) => http::Error::TooLarge(reason),
        }
    }
}

impl From<delivering::Callback> for Callback {
    fn from(callback: delivering::Callback) -> Callback {
        Callback {
            method: callback.method,
            path: callback.path,
            query: callback.query,
            headers: callback.headers,
            body: callback.body,
            received_at: callback.received_at,
            attributes: callback.attributes,
        }
    }
}

impl From<Receipt> for delivering::Receipt {
    fn from(receipt: Receipt) -> delivering::Receipt {
        delivering::Receipt { message_id: receipt.message_id, event: receipt.event.into() }
    }
}

impl From<Rejection> for delivering::Rejection {
    fn from(rejection: Rejection) -> delivering::Rejection {
        delivering::Rejection { status: rejection.status, code: rejection.code, message: rejection.message }
    }
}

impl From<Fitted> for fitting::Fitted {
    fn from(fitted: Fitted) -> fitting::Fitted {
        fitting::Fitted { state: fitted.state, metrics: fitted.metrics }
    }
}

impl From<columns::Table> for Table {
    fn from(table: columns::Table) -> Table {
        Table { rows: table.rows as usize, columns: all(table.columns) }
    }
}

impl From<dataset::Batch> for Batch {
    fn from(batch: dataset::Batch) -> Batch {
        let rows: Table = batch.rows.into();
        let labels = batch.labels.map(|column| {
            let table = Table { rows: rows.len(), columns: vec![column.into()] };
            let labels = table.float64("label").expect("the kernel's labels are numbers");
            labels.iter().collect()
        });
        Batch { rows, ids: batch.ids, labels, cut_offs: batch.cut_offs }
    }
}

impl From<Table> for columns::Table {
    fn from(table: Table) -> columns::Table {
        let rows = u32::try_from(table.rows).expect("a guest's memory of 4 GiB holds fewer than 2^32 rows");
        columns::Table { rows, columns: all(table.columns) }
    }
}

impl From<columns::Column> for Column {
    fn from(column: columns::Column) -> Column {
        let values = match column.values {
            columns::Values::Boolean(bits) => Values::Boolean(bits),
            columns::Values::Int64(values) => Values::Int64(values),
            columns::Values::Float64(values) => Values::Float64(values),
            columns::Values::Timestamp(values) => Values::Timestamp(values),
            columns::Values::Text(texts) => Values::Text(texts.into()),
            columns::Values::Int64List(lists) => {
                Values::Int64List(Lists { offsets: lists.offsets, items: lists.items })
            }
            columns::Values::Float64List(lists) => {
                Values::Float64List(Lists { offsets: lists.offsets, items: lists.items })
            }
            columns::Values::TimestampList(lists) => {
                Values::TimestampList(Lists { offsets: lists.offsets, items: lists.items })
            }
            columns::Values::TextList(lists) => {
                Values::TextList(Lists { offsets: lists.offsets, items: lists.items.into() })
            }
            columns::Values::Records(lists) => Values::Records(lists.into()),
        };
        Column { name: column.name, validity: column.validity, values }
    }
}

impl From<Column> for columns::Column {
    fn from(column: Column) -> columns::Column {
        let whole = |lists: Lists<Vec<i64>>| columns::Int64Lists { offsets: lists.offsets, items: lists.items };
        let values = match column.values {
            Values::Boolean(bits) => columns::Values::Boolean(bits),
            Values::Int64(values) => columns::Values::Int64(values),
            Values::Float64(values) => columns::Values::Float64(values),
            Values::Timestamp(values) => columns::Values::Timestamp(values),
            Values::Text(texts) => columns::Values::Text(texts.into()),
            Values::Int64List(lists) => columns::Values::Int64List(whole(lists)),
            Values::Float64List(lists) => {
                columns::Values::Float64List(columns::Float64Lists { offsets: lists.offsets, items: lists.items })
            }
            Values::TimestampList(lists) => columns::Values::TimestampList(whole(lists)),
            Values::TextList(lists) => {
                columns::Values::TextList(columns::TextLists { offsets: lists.offsets, items: lists.items.into() })
            }
            Values::Records(lists) => columns::Values::Records(lists.into()),
        };
        columns::Column { name: column.name, validity: column.validity, values }
    }
}

impl From<columns::RecordLists> for Lists<Table> {
    fn from(lists: columns::RecordLists) -> Lists<Table> {
        let rows = lists.offsets.last().map_or(0, |last| last.unsigned_abs() as usize);
        Lists { offsets: lists.offsets, items: Table { rows, columns: all(lists.fields) } }
    }
}

impl From<Lists<Table>> for columns::RecordLists {
    fn from(lists: Lists<Table>) -> columns::RecordLists {
        columns::RecordLists { offsets: lists.offsets, fields: all(lists.items.columns) }
    }
}

impl From<columns::Field> for Column {
    fn from(field: columns::Field) -> Column {
        let values = match field.values {
            columns::Scalars::Boolean(bits) => Values::Boolean(bits),
            columns::Scalars::Int64(values) => Values::Int64(values),
            columns::Scalars::Float64(values) => Values::Float64(values),
            columns::Scalars::Timestamp(values) => Values::Timestamp(values),
            columns::Scalars::Text(texts) => Values::Text(texts.into()),
        };
        Column { name: field.name, validity: field.validity, values }
    }
}

impl From<Column> for columns::Field {
    fn from(column: Column) -> columns::Field {
        let values = match column.values {
            Values::Boolean(bits) => columns::Scalars::Boolean(bits),
            Values::Int64(values) => columns::Scalars::Int64(values),
            Values::Float64(values) => columns::Scalars::Float64(values),
            Values::Timestamp(values) => columns::Scalars::Timestamp(values),
            Values::Text(texts) => columns::Scalars::Text(texts.into()),
            list => unreachable!("records are built of single values, not of {}", list.column_type()),
        };
        columns::Field { name: column.name, validity: column.validity, values }
    }
}

impl From<columns::Texts> for Texts {
    fn from(texts: columns::Texts) -> Texts {
        Texts { offsets: texts.offsets, data: texts.data }
    }
}

impl From<Texts> for columns::Texts {
    fn from(texts: Texts) -> columns::Texts {
        columns::Texts { offsets: texts.offsets, data: texts.data }
    }
}
