//! A channel of contract 0.2 as closures, and a transport in this process whose hosts do what the test says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kith_model::delivery::{Message, Outcome};
use kith_model::plugin::{Callback, PluginFault, Receipt, ReceiveError};
use kith_model::sending::*;
use parking_lot::Mutex;
use tokio::sync::watch;

/// What a host does with a request.
#[derive(Clone)]
pub(super) enum Host {
    Answers(u16),
    Fails(SendFailure),
    /// It answers nobody before so many requests are under way at once, whatever their hosts.
    AnswersTogether(usize),
    /// It keeps each request until [`Wire::let_go`], and then does what that host does.
    Holds(Box<Host>),
}

/// A look at a request.
type Look = Box<dyn Fn(&OutboundRequest) + Send>;

/// The transport.
pub(super) struct Wire {
    pub(super) hosts: Mutex<BTreeMap<String, Host>>,
    /// Each request that left: host and message id.
    pub(super) left: Mutex<Vec<(String, String)>>,
    /// How many requests have asked for their host.
    pub(super) lined_up: AtomicUsize,
    pub(super) under_way: AtomicUsize,
    pub(super) most: AtomicUsize,
    /// What is looked at as each request leaves.
    pub(super) as_it_leaves: Mutex<Option<Look>>,
    /// How many times [`Wire::let_go`] was called, and the most requests that were under way.
    let_go: watch::Sender<bool>,
    crowd: watch::Sender<usize>,
}

impl Wire {
    pub(super) fn new(hosts: &[(&str, Host)]) -> Arc<Wire> {
        Arc::new(Wire {
            hosts: Mutex::new(hosts.iter().map(|(name, host)| ((*name).to_owned(), host.clone())).collect()),
            left: Mutex::default(),
            lined_up: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            as_it_leaves: Mutex::new(None),
            let_go: watch::Sender::new(false),
            crowd: watch::Sender::new(0),
        })
    }

    pub(super) fn set(&self, name: &str, host: Host) {
        self.hosts.lock().insert(name.to_owned(), host);
    }

    pub(super) fn let_go(&self) {
        self.let_go.send_replace(true);
    }

    pub(super) fn requests_to(&self, host: &str) -> usize {
        self.left.lock().iter().filter(|(to, _)| to == host).count()
    }
}

/// Hands the wire out as a transport.
struct Transporter(Arc<Wire>);

impl Transport for Transporter {
    fn target(&self, request: &OutboundRequest) -> Result<String, SendFailure> {
        self.0.lined_up.fetch_add(1, Ordering::SeqCst);
        match request.url.as_str() {
            "" => Err(SendFailure::Denied("no host".into())),
            host => Ok(host.to_owned()),
        }
    }

    fn send(&self, request: OutboundRequest) -> Sending {
        let wire = Arc::clone(&self.0);
        Box::pin(async move {
            if let Some(look) = wire.as_it_leaves.lock().as_ref() {
                look(&request);
            }
            let id = String::from_utf8_lossy(request.resume.as_deref().unwrap_or_default()).into_owned();
            wire.left.lock().push((request.url.clone(), id));
            let under_way = wire.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            wire.most.fetch_max(under_way, Ordering::SeqCst);
            wire.crowd.send_modify(|most| *most = (*most).max(under_way));
            let host = wire.hosts.lock()[&request.url].clone();
            let result = answer(&wire, host).await;
            wire.under_way.fetch_sub(1, Ordering::SeqCst);
            result
        })
    }
}

async fn answer(wire: &Wire, mut host: Host) -> Result<InboundResponse, SendFailure> {
    loop {
        host = match host {
            Host::Answers(status) => {
                return Ok(InboundResponse { status, headers: vec![], body: vec![], truncated: false });
            }
            Host::Fails(failure) => return Err(failure),
            Host::AnswersTogether(crowd) => {
                let _ = wire.crowd.subscribe().wait_for(|most| *most >= crowd).await;
                Host::Answers(200)
            }
            Host::Holds(then) => {
                let _ = wire.let_go.subscribe().wait_for(|may_go| *may_go).await;
                *then
            }
        };
    }
}

/// The channel. A message for `h1-7` goes to the host `h1`.
pub(super) struct Hook {
    pub(super) wire: Arc<Wire>,
    /// Recipients on whom the plugin traps, in the one call and in the other.
    pub(super) traps_on_request: Vec<String>,
    pub(super) traps_on_answer: Vec<String>,
    /// Requests of one attempt.
    pub(super) rounds: u32,
}

impl Hook {
    pub(super) fn new(wire: &Arc<Wire>) -> Hook {
        Hook { wire: Arc::clone(wire), traps_on_request: vec![], traps_on_answer: vec![], rounds: 1 }
    }
}

fn trap() -> PluginFault {
    PluginFault::Trapped { message: "panicked".into(), backtrace: vec![] }
}

fn request(message: &Message) -> OutboundRequest {
    let to = &message.recipient[0].value;
    OutboundRequest {
        method: "POST".into(),
        url: to.split('-').next().unwrap_or_default().to_owned(),
        body: message.payload.clone().into_bytes(),
        resume: Some(message.id.clone().into_bytes()),
        ..OutboundRequest::default()
    }
}

impl PureChannel for Hook {
    fn requests(&self, messages: &[Message]) -> Result<Vec<Step>, PluginFault> {
        let is_bad = |message: &Message| self.traps_on_request.contains(&message.recipient[0].value);
        match messages.iter().any(is_bad) {
            true => Err(trap()),
            false => Ok(messages.iter().map(|message| Step::Send(request(message))).collect()),
        }
    }

    fn outcomes(&self, answers: &[SentAnswer]) -> Result<Vec<Step>, PluginFault> {
        let is_bad = |answer: &SentAnswer| self.traps_on_answer.contains(&answer.message.recipient[0].value);
        if answers.iter().any(is_bad) {
            return Err(trap());
        }
        let step = |answer: &SentAnswer| {
            if answer.round < self.rounds {
                return Step::Send(request(&answer.message));
            }
            let provider_id = Some("p1".to_owned());
            Step::Done(match &answer.result {
                Sent::Mail(_) => Outcome::Permanent { reason: "it sent no mail".into() },
                Sent::Request(Ok(response)) => match response.status {
                    202 => Outcome::Accepted { provider_id },
                    200..300 => Outcome::Delivered { provider_id },
                    410 => Outcome::Stop { reason: "410 gone".into() },
                    status => Outcome::Retry { after_ms: None, reason: format!("status {status}") },
                },
                Sent::Request(Err(SendFailure::Denied(reason))) => Outcome::Permanent { reason: reason.clone() },
                Sent::Request(Err(failure)) => Outcome::Retry { after_ms: None, reason: failure.to_string() },
            })
        };
        Ok(answers.iter().map(step).collect())
    }

    fn receive(&self, _: &Callback) -> Result<Vec<Receipt>, ReceiveError> {
        Ok(vec![])
    }

    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(Transporter(Arc::clone(&self.wire)))
    }
}
