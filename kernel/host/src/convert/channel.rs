//! Responsible for messages, steps and answers of channels, in both versions of the contract.

use kith_model::delivery::{Message, Outcome};
use kith_model::identity::Identifier;
use kith_model::sending::{
    InboundResponse, MailLogin, MailReply, MailSecurity, Mailbox, OutboundMail, OutboundRequest, SendFailure, Sent,
    SentAnswer, Signature, Step,
};

use crate::bindings::current::{delivering, http_types, types};
use crate::bindings::v0_1;
use crate::hidden::Hidden;
use crate::policy::Policy;
use crate::state::InstallationContext;
use crate::text::bounded;

/// The person's identifiers of the types that the policy lets the channel have.
fn recipient<I>(policy: &Policy, message: &Message, identifier: fn(&Identifier) -> I) -> Vec<I> {
    message.recipient.iter().filter(|of| policy.may_receive(&of.kind)).map(identifier).collect()
}

fn identifier_to_wit(of: &Identifier) -> types::Identifier {
    types::Identifier { kind: of.kind.clone(), value: of.value.clone() }
}

fn identifier_to_wit_0_1(of: &Identifier) -> v0_1::types::Identifier {
    v0_1::types::Identifier { kind: of.kind.clone(), value: of.value.clone() }
}

pub(crate) fn message_to_wit(policy: &Policy, message: &Message) -> delivering::Message {
    delivering::Message {
        id: message.id.clone(),
        attempt: message.attempt,
        recipient: recipient(policy, message, identifier_to_wit),
        profile: message.profile.to_string(),
        payload: message.payload.clone(),
        inputs: message.inputs.clone(),
        created_at: message.created_at.0,
        attributes: Vec::new(),
    }
}

pub(crate) fn message_to_wit_0_1(policy: &Policy, message: &Message) -> v0_1::delivering::Message {
    v0_1::delivering::Message {
        id: message.id.clone(),
        attempt: message.attempt,
        recipient: recipient(policy, message, identifier_to_wit_0_1),
        profile: message.profile.to_string(),
        payload: message.payload.clone(),
        created_at: message.created_at.0,
        attributes: Vec::new(),
    }
}

pub(super) fn after_ms(after_seconds: Option<u32>) -> Option<u64> {
    after_seconds.map(|seconds| u64::from(seconds) * 1_000)
}

/// An id of a provider is no word to a person, and stays as it is.
pub(crate) fn outcome_from_wit(hidden: &Hidden, outcome: delivering::Outcome) -> Outcome {
    let id = |id: Option<String>| id.as_deref().map(bounded);
    match outcome {
        delivering::Outcome::Accepted(provider_id) => Outcome::Accepted { provider_id: id(provider_id) },
        delivering::Outcome::Delivered(provider_id) => Outcome::Delivered { provider_id: id(provider_id) },
        delivering::Outcome::Retry(retry) => {
            Outcome::Retry { after_ms: after_ms(retry.after_seconds), reason: hidden.bounded(&retry.reason) }
        }
        delivering::Outcome::Permanent(reason) => Outcome::Permanent { reason: hidden.bounded(&reason) },
        delivering::Outcome::Stop(reason) => Outcome::Stop { reason: hidden.bounded(&reason) },
    }
}

pub(crate) fn outcome_from_wit_0_1(hidden: &Hidden, outcome: v0_1::delivering::Outcome) -> Outcome {
    use v0_1::delivering::Outcome as Wit;
    match outcome {
        Wit::Delivered(id) => Outcome::Delivered { provider_id: id.as_deref().map(bounded) },
        Wit::Retry(retry) => {
            Outcome::Retry { after_ms: after_ms(retry.after_seconds), reason: hidden.bounded(&retry.reason) }
        }
        Wit::Permanent(reason) => Outcome::Permanent { reason: hidden.bounded(&reason) },
    }
}

pub(crate) fn outbound_from_wit(request: http_types::Request) -> OutboundRequest {
    let sign = request.sign.map(|http_types::Signature::StandardWebhooks(wanted)| Signature::StandardWebhooks {
        secret: wanted.secret,
        message_id: wanted.message_id,
    });
    OutboundRequest {
        method: request.method,
        url: request.url,
        headers: request.headers,
        body: request.body,
        sign,
        timeout_ms: request.timeout_ms,
        resume: None,
    }
}

fn mailbox_from_wit(mailbox: delivering::Mailbox) -> Mailbox {
    Mailbox { name: mailbox.name, address: mailbox.address }
}

/// A mail for a message. Whom it may go to is the host's to say, and what it is called.
fn mail_from_wit(policy: &Policy, message: &Message, mailing: delivering::Mailing) -> OutboundMail {
    let mail = mailing.mail;
    OutboundMail {
        relay: mail.relay,
        security: match mail.security {
            delivering::MailSecurity::Starttls => MailSecurity::StartTls,
            delivering::MailSecurity::Tls => MailSecurity::Tls,
            delivering::MailSecurity::Plain => MailSecurity::Plain,
        },
        login: mail.login.map(|login| MailLogin { user: login.user, secret: login.secret }),
        sender: mailbox_from_wit(mail.sender),
        reply_to: mail.reply_to.map(mailbox_from_wit),
        to: mail.to,
        subject: mail.subject,
        text: mail.text,
        html: mail.html,
        headers: mail.headers,
        timeout_ms: mail.timeout_ms,
        resume: mailing.resume,
        message_id: message.id.clone(),
        may_go_to: recipient(policy, message, |of| of.value.clone()),
    }
}

/// What a plugin wants for a message.
pub(crate) fn step_from_wit(installed: &InstallationContext, message: &Message, step: delivering::Step) -> Step {
    match step {
        delivering::Step::Mail(mailing) => Step::Mail(Box::new(mail_from_wit(&installed.policy, message, mailing))),
        delivering::Step::Send(sending) => {
            Step::Send(OutboundRequest { resume: sending.resume, ..outbound_from_wit(sending.request) })
        }
        delivering::Step::Done(outcome) => Step::Done(outcome_from_wit(&installed.hidden, outcome)),
    }
}

pub(crate) fn response_to_wit(response: InboundResponse) -> http_types::Response {
    http_types::Response { status: response.status, headers: response.headers, body: response.body }
}

pub(crate) fn send_failure_to_wit(failure: SendFailure) -> http_types::Error {
    match failure {
        SendFailure::Denied(text) => http_types::Error::Denied(text),
        SendFailure::Timeout(text) => http_types::Error::Timeout(text),
        SendFailure::Connection(text) | SendFailure::Busy(text) | SendFailure::Unknown(text) => {
            http_types::Error::Connection(text)
        }
        SendFailure::TooLarge(text) => http_types::Error::TooLarge(text),
    }
}

pub(crate) fn answer_to_wit(policy: &Policy, answer: &SentAnswer) -> delivering::Answer {
    let result = match &answer.result {
        Sent::Request(Ok(response)) => delivering::Sent::Response(delivering::Answered {
            response: response_to_wit(response.clone()),
            truncated: response.truncated,
        }),
        Sent::Request(Err(failure)) => delivering::Sent::Failed(send_failure_to_wit(failure.clone())),
        Sent::Mail(Ok(MailReply { code, enhanced, text })) => delivering::Sent::Mailed(Ok(delivering::Reply {
            code: *code,
            enhanced: enhanced.clone(),
            text: text.clone(),
        })),
        Sent::Mail(Err(failure)) => delivering::Sent::Mailed(Err(send_failure_to_wit(failure.clone()))),
    };
    delivering::Answer {
        message: message_to_wit(policy, &answer.message),
        round: answer.round,
        resume: answer.resume.clone(),
        result,
    }
}
