//! Answers to what a channel sends when it is tried: written for each message, in the place of the receivers and relays
//! that nothing reaches.

use std::collections::BTreeMap;

use kith_model::delivery::Message;
use kith_model::plugin::PluginFault;
use kith_model::sending::{InboundResponse, MailReply, PureChannel, SendFailure, Sent, SentAnswer, Step};
use serde::Deserialize;
use serde_json::Value;

use super::lines;
use crate::cli::{Failure, digits};

/// A message, and what its requests and mails are answered, in their order.
pub(super) struct TriedMessage {
    pub(super) message: Message,
    pub(super) answers: Vec<WrittenAnswer>,
}

/// An answer as somebody writes it who tries a channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum WrittenAnswer {
    /// Of a receiver to a request.
    Response {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// A text as it is, any other JSON as it is written.
        #[serde(default)]
        body: Value,
        #[serde(default)]
        truncated: bool,
    },
    /// Of a relay to a mail.
    Mailed {
        code: u16,
        enhanced: Option<String>,
        #[serde(default)]
        text: String,
    },
    /// That there is none, and why.
    Failed(WrittenFailure),
}

/// Why there is no answer, of what a plugin hears: where it is unknown whether a relay took a mail, none is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WrittenFailure {
    Denied(String),
    Timeout(String),
    Connection(String),
    TooLarge(String),
}

/// What the channel wants for each message, and after each of its answers: the lines of one message behind those of
/// another. Where a call fails, the fault is behind those that there are.
pub(super) fn exchange(
    channel: &dyn PureChannel,
    tried: Vec<TriedMessage>,
) -> Result<(Vec<Value>, Option<PluginFault>), Failure> {
    let messages: Vec<Message> = tried.iter().map(|tried| tried.message.clone()).collect();
    let mut steps = match channel.requests(&messages) {
        Ok(steps) => steps,
        Err(fault) => return Ok((Vec::new(), Some(fault))),
    };
    let mut shown: Vec<Vec<Value>> = steps.iter().map(|step| vec![lines::step(step)]).collect();
    for round in 1.. {
        let mut answered: Vec<(usize, SentAnswer)> = Vec::new();
        for (place, (tried, step)) in tried.iter().zip(&steps).enumerate() {
            let Some(written) = tried.answers.get(round as usize - 1) else { continue };
            let result = sent(step, written)
                .map_err(|problem| Failure::Usage(format!("message {}, answer {round}: {problem}", place + 1)))?;
            let (message, resume) = (tried.message.clone(), resume(step));
            answered.push((place, SentAnswer { message, round, resume, result }));
        }
        if answered.is_empty() {
            break;
        }
        let (places, answers): (Vec<usize>, Vec<SentAnswer>) = answered.into_iter().unzip();
        match channel.outcomes(&answers) {
            Ok(next) => {
                for (place, step) in places.into_iter().zip(next) {
                    shown[place].push(lines::step(&step));
                    steps[place] = step;
                }
            }
            Err(fault) => return Ok((shown.concat(), Some(fault))),
        }
    }
    Ok((shown.concat(), None))
}

/// What is handed back with the answer to a step.
fn resume(step: &Step) -> Option<Vec<u8>> {
    match step {
        Step::Send(request) => request.resume.clone(),
        Step::Mail(mail) => mail.resume.clone(),
        Step::Done(_) => None,
    }
}

/// A written answer as one to this step, or why it is none.
fn sent(step: &Step, written: &WrittenAnswer) -> Result<Sent, &'static str> {
    match (step, written.clone()) {
        (Step::Done(_), _) => Err("the attempt had ended, and nothing asked for it"),
        (Step::Send(_), WrittenAnswer::Response { status, headers, body, truncated }) => {
            let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
            Ok(Sent::Request(Ok(InboundResponse { status, headers, body: bytes(&body), truncated })))
        }
        (Step::Send(_), WrittenAnswer::Mailed { .. }) => Err("a request is answered with `response` or `failed`"),
        (Step::Mail(_), WrittenAnswer::Response { .. }) => Err("a mail is answered with `mailed` or `failed`"),
        (Step::Mail(mail), WrittenAnswer::Mailed { .. }) if !mail.may_go_to.contains(&mail.to) => {
            Err("no relay is given this mail; it is answered with `failed`, and in it `denied`")
        }
        (Step::Mail(_), WrittenAnswer::Mailed { code, enhanced, text }) => {
            Ok(Sent::Mail(Ok(MailReply { code, enhanced, text })))
        }
        (Step::Send(_), WrittenAnswer::Failed(failure)) => Ok(Sent::Request(Err(failure.into()))),
        (Step::Mail(_), WrittenAnswer::Failed(failure)) => Ok(Sent::Mail(Err(failure.into()))),
    }
}

fn bytes(body: &Value) -> Vec<u8> {
    match body {
        Value::Null => Vec::new(),
        Value::String(text) => digits::plain(text).as_bytes().to_vec(),
        document => digits::line(document).into_bytes(),
    }
}

impl From<WrittenFailure> for SendFailure {
    fn from(failure: WrittenFailure) -> SendFailure {
        match failure {
            WrittenFailure::Denied(why) => SendFailure::Denied(why),
            WrittenFailure::Timeout(why) => SendFailure::Timeout(why),
            WrittenFailure::Connection(why) => SendFailure::Connection(why),
            WrittenFailure::TooLarge(why) => SendFailure::TooLarge(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kith_model::delivery::Outcome;
    use kith_model::plugin::{Callback, Receipt, ReceiveError};
    use kith_model::sending::{OutboundMail, OutboundRequest, Transport};
    use kith_model::time::Timestamp;
    use serde_json::json;

    use super::*;

    /// Asks for a token, then sends a mail to the address of its payload, and ends as the relay says.
    struct Tokens;

    impl PureChannel for Tokens {
        fn requests(&self, messages: &[Message]) -> Result<Vec<Step>, PluginFault> {
            let step = |_: &Message| {
                Step::Send(OutboundRequest { resume: Some(b"token".to_vec()), ..OutboundRequest::default() })
            };
            Ok(messages.iter().map(step).collect())
        }

        fn outcomes(&self, answers: &[SentAnswer]) -> Result<Vec<Step>, PluginFault> {
            let step = |answer: &SentAnswer| match &answer.result {
                Sent::Request(Ok(response)) if response.status == 200 => {
                    assert_eq!((answer.round, answer.resume.as_deref()), (1, Some(&b"token"[..])));
                    let may_go_to =
                        answer.message.recipient.iter().map(|identifier| identifier.value.clone()).collect();
                    let to = String::from_utf8(response.body.clone()).unwrap();
                    Step::Mail(Box::new(OutboundMail { to, may_go_to, ..OutboundMail::default() }))
                }
                Sent::Mail(Ok(reply)) if reply.is_accepted() => Step::Done(Outcome::Accepted { provider_id: None }),
                other => Step::Done(Outcome::Permanent { reason: other.to_string() }),
            };
            Ok(answers.iter().map(step).collect())
        }

        fn receive(&self, _: &Callback) -> Result<Vec<Receipt>, ReceiveError> {
            Ok(Vec::new())
        }

        fn transport(&self) -> Arc<dyn Transport> {
            unreachable!("nothing is sent")
        }
    }

    fn tried(answers: &[Value]) -> Result<Vec<Value>, String> {
        let message =
            |answers: &Value| json!({ "recipient": { "email": "ada@example.com" }, "payload": {}, "answers": answers });
        let written: Vec<Value> = answers.iter().map(message).collect();
        let messages = lines::messages(&written, Timestamp(5)).map_err(|failure| failure.to_string())?;
        let (lines, fault) = exchange(&Tokens, messages).map_err(|failure| failure.to_string())?;
        assert!(fault.is_none());
        Ok(lines)
    }

    fn kinds(lines: &[Value]) -> Vec<&str> {
        lines.iter().filter_map(|line| line.as_object()?.keys().next().map(String::as_str)).collect()
    }

    #[test]
    fn each_answer_has_its_step_and_messages_have_as_many_as_are_written() {
        let token = json!({ "response": { "status": 200, "headers": { "X-A": "b" }, "body": "ada@example.com" } });
        let lines = tried(&[
            json!([token, { "mailed": { "code": 250, "enhanced": "2.0.0", "text": "queued" } }]),
            json!([]),
            json!([{ "failed": { "timeout": "15 s" } }]),
            json!([token, { "mailed": { "code": 550, "enhanced": "5.1.1", "text": "nobody" } }]),
        ])
        .unwrap();
        let expected = ["request", "mail", "outcome", "request", "request", "outcome", "request", "mail", "outcome"];
        assert_eq!(kinds(&lines), expected);
        assert_eq!(lines[2], json!({ "outcome": { "accepted": null } }));
        assert_eq!(lines[5], json!({ "outcome": { "permanent": "no answer in time: 15 s" } }));
        assert_eq!(lines[8], json!({ "outcome": { "permanent": "550 5.1.1 nobody" } }));
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let token = |to: &str| json!({ "response": { "status": 200, "body": to } });
        let mailed = json!({ "mailed": { "code": 250 } });
        for (answers, said) in [
            (json!([mailed]), "message 1, answer 1: a request is answered with `response`"),
            (json!([token("ada@example.com"), token("")]), "message 1, answer 2: a mail is answered with `mailed`"),
            (json!([token("eve@example.com"), mailed]), "no relay is given this mail"),
            (json!([{ "response": { "status": 500 } }, mailed]), "answer 2: the attempt had ended"),
            (json!([{ "failed": { "unknown": "" } }]), "message 1 is none: unknown variant `unknown`"),
            (json!([{ "mailed": { "code": 250, "status": 1 } }]), "message 1 is none: unknown field `status`"),
        ] {
            let refused = tried(&[answers]).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
        let denied = json!([token("eve@example.com"), { "failed": { "denied": "to somebody else" } }]);
        assert_eq!(kinds(&tried(&[denied]).unwrap()), ["request", "mail", "outcome"]);
    }
}
