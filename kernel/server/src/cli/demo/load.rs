//! What the demo does to its server, step by step, as any other client would do it over the HTTP API.

use std::net::SocketAddr;
use std::time::Duration;

use kith::plugin_build::BuiltPlugin;
use kith_model::id::Name;
use kith_model::time::Timestamp;
use serde_json::{Value, json};

use super::receiver::Receiver;
use super::report::Report;
use super::series::Series;
use crate::cli::client::{Client, encode, pause};
use crate::cli::output::{self, AnswerFormat, Step, field, number};
use crate::cli::plugin::fits;
use crate::cli::{Failure, import, items};

/// How long the work behind the log may take before the demo gives up.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// How often the demo looks.
const POLL: Duration = Duration::from_millis(100);

/// What the message of the first audience is for.
const PURPOSE: &str = "cart_reminder";

/// The users of the clickstream are `user_0000` to `user_0599`.
const CLICKSTREAM_USERS: usize = 600;

/// Every so many-th of them says who they are; every second one of these says no to the purpose.
const IDENTIFIED_EVERY: usize = 5;

/// People who sign up today, to show what is new.
const NEWCOMERS: usize = 12;

/// An audience of the demo.
pub(crate) struct Audience {
    pub(crate) name: &'static str,
    title: &'static str,
    condition: &'static str,
}

/// The three audiences; a message goes to each member of the first who has not refused.
pub(crate) const AUDIENCES: [Audience; 3] = [
    Audience {
        name: "left-in-cart",
        title: "Put something in the cart in the last 14 days and did not buy",
        condition: "events('Product Added', '14d').size() > 0 && events('Order Completed', '14d').size() == 0",
    },
    Audience {
        name: "at-risk-and-worth-much",
        title: "Customers at risk who were worth much",
        condition: "tags.rfm_segment in ['at_risk', 'cant_lose'] && tags.rfm_monetary >= 4",
    },
    Audience {
        name: "new-this-month",
        title: "New this month: first order, or first activity of people without one",
        condition: "tags.lifecycle == 'new'",
    },
];

/// Where the messages go.
pub(crate) struct Hook<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) secret: &'a str,
}

/// The two series.
pub(crate) struct Histories {
    pub(crate) clickstream: Series,
    pub(crate) orders: Series,
}

/// The demo's client and what it writes down.
pub(crate) struct Demo<'a> {
    pub(crate) client: Client,
    pub(crate) report: Report,
    pub(crate) series: Histories,
    pub(crate) hook: Hook<'a>,
    pub(crate) format: AnswerFormat,
}

impl Demo<'_> {
    /// Upload and install the six plugins; gives the write key of `segment`.
    pub(crate) fn install(&mut self, built: &[BuiltPlugin]) -> Result<String, Failure> {
        let step = Step::begin("installing six plugins", self.format);
        for plugin in built {
            step.say(format!("uploading {}: verified and compiled in a child process", plugin.manifest.id));
            self.client.upload("/api/v1/plugins", "application/wasm", plugin.component.as_slice())?;
        }
        let mut write_key = String::new();
        let bodies = self.installations();
        for body in &bodies {
            step.say(format!("installing {}", field(body, "name")));
            let answer = self.client.post("/api/v1/installations", body)?;
            if body["name"] == "segment" {
                write_key = field(&answer, "write_key");
            }
        }
        let took = step.end("uploaded, verified, compiled, granted");
        let bytes: usize = built.iter().map(|plugin| plugin.component.len()).sum();
        let note = format!("{} uploads, {} of components", built.len(), output::size(bytes as u64));
        self.report.step("plugins installed", bodies.len() as u64, took, note);
        if write_key.is_empty() {
            return Err(Failure::Failed("the server gave no write key for the segment connector".to_owned()));
        }
        Ok(write_key)
    }

    fn installations(&self) -> Vec<Value> {
        let hook = &self.hook;
        let host = hook.address.to_string();
        vec![
            json!({ "plugin": "kith/segment", "name": "segment" }),
            json!({ "plugin": "kith/csv", "name": "clickstream", "config": self.series.clickstream.mapping() }),
            json!({ "plugin": "kith/csv", "name": "orders", "config": self.series.orders.mapping() }),
            json!({ "plugin": "kith/rfm", "name": "rfm" }),
            json!({ "plugin": "kith/lifecycle", "name": "lifecycle" }),
            json!({ "plugin": "kith/clv", "name": "clv" }),
            json!({
                "plugin": "kith/webhook",
                "name": "webhook",
                "config": { "url": format!("http://{host}{}", super::receiver::PATH) },
                "grants": { "http": [host], "secrets": { "signing": [host] } },
                "secrets": { "signing": hook.secret },
            }),
        ]
    }

    /// Load both series through their sources.
    pub(crate) fn load(&mut self) -> Result<(), Failure> {
        for (source, what) in [("clickstream", "clickstream events"), ("orders", "orders of CDNOW")] {
            let series = if source == "orders" { &self.series.orders } else { &self.series.clickstream };
            let step =
                Step::over_bytes(format!("loading {} {what}", output::count(series.rows)), series.bytes, self.format);
            let body = series.reader(&step.bar())?;
            let answer = self.client.upload(&import::records_path(source), "text/csv", body)?;
            let (accepted, rejected) = (number(&answer, "accepted"), number(&answer, "rejected_count"));
            let took = step.end(&format!("{} accepted, durable", output::count(accepted)));
            if accepted + number(&answer, "duplicate") != series.rows {
                let why = format!("{accepted} of {} rows were accepted, {rejected} rejected", series.rows);
                return Err(Failure::Failed(format!("{what}: {why}; {}", field(&answer, "rejected"))));
            }
            self.report.step(what, accepted, took, series.moved());
        }
        Ok(())
    }

    /// Say through the segment source who some people are, and what they allow.
    pub(crate) fn identify(&mut self, write_key: &str, now: Timestamp) -> Result<(), Failure> {
        let step = Step::begin("identifying people through the segment source", self.format);
        let batch = identify_calls(now);
        let sender = Client::with_write_key(self.client.base_url(), write_key);
        let answer = sender.post("/v1/batch", &json!({ "batch": batch, "sentAt": now.to_string() }))?;
        let accepted = number(&answer, "accepted");
        let refusing = batch.iter().filter(|call| call["traits"]["consent"][PURPOSE] == json!(false)).count();
        let took = step.end(&format!("{accepted} accepted"));
        let note = format!("{refusing} people refuse `{PURPOSE}`, {NEWCOMERS} sign up today");
        self.report.step("identify calls", accepted, took, note);
        Ok(())
    }

    /// Fit the RFM breaks and train the CLV model.
    pub(crate) fn fit(&mut self) -> Result<(), Failure> {
        // The figures that a person asks for first; `kith plugin fits` shows all.
        const RFM: &[&str] = &["recency_break_4", "frequency_break_4", "monetary_break_4"];
        const CLV: &[&str] = &["r", "alpha", "a", "b", "log_likelihood", "p", "q", "v"];
        for (name, title, figures) in [("rfm", "fitting rfm", RFM), ("clv", "training clv", CLV)] {
            let name: Name = name.parse().map_err(|error| Failure::Failed(format!("{error}")))?;
            let step = Step::begin(title, self.format);
            let fit = fits::fit(&self.client, &name, fits::TakesOver::No, &step)?;
            let figure = |name: &&str| Some(format!("{name} {:.3}", fit["metrics"].get(name)?.as_f64()?));
            let shown: Vec<String> = figures.iter().filter_map(figure).collect();
            let took = step.end(&shown.join(", "));
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of customers")]
            let customers = fit["metrics"]["customers"].as_f64().map_or(0, |customers| customers as u64);
            self.report.step(format!("{title}: customers"), customers, took, shown.join(", "));
        }
        Ok(())
    }

    /// Define the three audiences.
    pub(crate) fn define_audiences(&mut self) -> Result<(), Failure> {
        for (index, audience) in AUDIENCES.iter().enumerate() {
            let mut body = json!({ "name": audience.name, "title": audience.title, "condition": audience.condition });
            if index == 0 {
                body["on_enter"] = json!({
                    "channel": "webhook",
                    "purpose": PURPOSE,
                    "basis": "not_refused",
                    "payload": { "template": "cart-reminder", "audience": audience.name },
                    // All of them came with the files that were just loaded, before the audience was there.
                    "existing": "send",
                });
                let preview =
                    self.client.post("/api/v1/audiences/preview", &json!({ "condition": audience.condition }))?;
                body["previewed"] = json!(field(&preview, "token"));
            }
            self.client.post("/api/v1/audiences", &body)?;
        }
        Ok(())
    }

    /// Wait until nothing is left to do: the feed is worked off, and no message is in the outbox or under way.
    pub(crate) fn wait_for(&mut self, what: &str) -> Result<Value, Failure> {
        let step = Step::begin(what, self.format);
        loop {
            let ready = self.client.get("/readyz")?;
            let (behind, backlog) = (number(&ready, "behind"), number(&ready, "backlog"));
            let mut pending = 0;
            if behind == 0 && backlog == 0 {
                // Totals are counted for the asking, so they are asked for last.
                let workspace = self.client.get("/api/v1/workspace")?;
                pending = number(&workspace["totals"]["deliveries"], "pending");
                if pending == 0 && self.audiences_are_computed()? {
                    let took = step.end("nothing is left to do");
                    self.report.wait(what, took, "nothing is left to do");
                    return Ok(workspace);
                }
            }
            let counts = [behind, backlog, pending].map(output::count);
            if step.elapsed() > MAX_WAIT {
                let left = format!("{} log records, {} profiles, {} messages", counts[0], counts[1], counts[2]);
                return Err(Failure::Failed(format!("after {} s there is still work: {left}", MAX_WAIT.as_secs())));
            }
            step.say(format!("{} records, {} profiles, {} messages to go", counts[0], counts[1], counts[2]));
            pause(POLL);
        }
    }

    fn audiences_are_computed(&self) -> Result<bool, Failure> {
        let audiences = self.client.whole("/api/v1/audiences")?;
        Ok(items(&audiences).iter().all(|audience| audience.get("size").is_some_and(Value::is_u64)))
    }

    /// What is there now.
    pub(crate) fn sum_up(&mut self, workspace: &Value, receiver: &Receiver) -> Result<(), Failure> {
        let totals = &workspace["totals"];
        let deliveries = &totals["deliveries"];
        for name in ["events", "profiles", "identifiers", "tags", "scores"] {
            self.report.fact(name, number(totals, name), "");
        }
        for audience in &AUDIENCES {
            let answer = self.client.get(&format!("/api/v1/audiences/{}", encode(audience.name)))?;
            self.report.fact(format!("audience {}", audience.name), number(&answer, "size"), audience.title);
        }
        let seen = receiver.seen();
        let refused = seen.refused.len();
        let note = match seen.repeated + refused as u64 {
            0 => "every signature verified by the receiver".to_owned(),
            _ => format!("{} repeated, {refused} refused: {}", seen.repeated, seen.refused.join(", ")),
        };
        self.report.fact("messages delivered", number(deliveries, "delivered"), "");
        self.report.fact("messages verified", seen.verified.len() as u64, note);
        self.report.fact(
            "messages not sent",
            number(deliveries, "skipped"),
            format!("consent for `{PURPOSE}` is refused"),
        );
        self.report.fact("messages given up", number(deliveries, "dead"), "");
        if seen.verified.len() as u64 != number(deliveries, "delivered") || refused > 0 {
            return Err(Failure::Failed(format!(
                "{} messages count as delivered, but the receiver verified {} and refused {refused}",
                number(deliveries, "delivered"),
                seen.verified.len()
            )));
        }
        Ok(())
    }
}

/// Some existing users and a few new ones say who they are.
fn identify_calls(now: Timestamp) -> Vec<Value> {
    let call = |user: String, consent: Option<bool>| {
        let mut traits = json!({ "email": format!("{user}@shop.example") });
        if let Some(consent) = consent {
            traits["consent"] = json!({ PURPOSE: consent });
        }
        json!({
            "type": "identify",
            "messageId": format!("demo-identify-{user}"),
            "userId": user,
            "timestamp": now.to_string(),
            "traits": traits,
        })
    };
    let existing = (0..CLICKSTREAM_USERS)
        .step_by(IDENTIFIED_EVERY)
        .enumerate()
        .map(|(index, user)| call(format!("user_{user:04}"), Some(index % 2 == 0)));
    let new = (1..=NEWCOMERS).map(|number| call(format!("newcomer_{number:02}"), None));
    existing.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_those_who_are_identified_refuse() {
        let calls = identify_calls(Timestamp(0));
        assert_eq!(calls.len(), CLICKSTREAM_USERS / IDENTIFIED_EVERY + NEWCOMERS);
        let refusing = calls.iter().filter(|call| call["traits"]["consent"][PURPOSE] == json!(false));
        assert_eq!(refusing.count(), 60);
        assert_eq!(calls[1]["userId"], "user_0005");
    }
}
