//! `kith plugin upgrade`: another version of an installation's plugin, newer or older. What it asks for beyond the present one, and
//! what it makes of the configuration, is shown and asked about first.

use kith_model::plugin::{InvalidPluginId, PluginId};
use serde_json::{Value, json};

use super::grants::{GrantsFile, held_version, manifest_of, pin};
use super::installation::changed;
use super::remote::{going_back, path, secrets};
use crate::cli::args::UpgradeArgs;
use crate::cli::client::{ApiError, Client};
use crate::cli::consent::Consent;
use crate::cli::output::{AnswerFormat, field};
use crate::cli::{Failure, items, json_argument};

pub(super) fn upgrade(client: &Client, args: &UpgradeArgs, format: AnswerFormat) -> Result<Value, Failure> {
    let path = path(&args.installation);
    let (present, tag) = client.get_tagged(&path)?;
    let unread = |error: InvalidPluginId| Failure::Failed(format!("the server's answer does not read: {error}"));
    let id = field(&present, "plugin").parse::<PluginId>().map_err(unread)?;
    let listed = held_version(client, &id, args.version.as_ref())?;
    let version = field(&listed, "version");
    let mut body = json!({ "version": version });
    args.pin.apply(&mut body);
    let secrets = secrets(&args.secret)?;
    if !secrets.is_empty() {
        body["secrets"] = Value::Object(secrets);
    }
    if let Some(config) = &args.config {
        body["config"] = json_argument("--config", config)?;
    }
    let action = format!("give {} version {version}", args.installation);
    if let Some(file) = &args.grants {
        GrantsFile::read(file)?.put_into(&manifest_of(&listed)?, &mut body)?;
    }
    // What is held against the file and agreed to is these bytes, whatever is uploaded meanwhile.
    pin(&mut body, &listed);
    let consent = Consent::from_flag(args.yes, format);
    agreed(consent, &action, body, |body| client.patch_if(&path, body, tag.as_deref()))
}

/// Send an upgrade: first to see what it would do, and where it asks for more, or makes another configuration of the present one,
/// with the person's consent.
fn agreed(
    consent: Consent,
    action: &str,
    mut body: Value,
    send: impl Fn(&Value) -> Result<Value, ApiError>,
) -> Result<Value, Failure> {
    let mut consequences = Vec::new();
    body["dry_run"] = json!(true);
    let seen = match send(&body) {
        Err(ApiError::Refused(problem)) if problem.code == "consent-required" => {
            // The rest of the sentence says how a program answers. What stands before it has reasons in it that the vendor wrote, and
            // none of them may cut off what comes after.
            let asked = problem.message.rsplit_once("; send").map_or(&*problem.message, |(asked, _)| asked);
            consequences.push(asked.to_owned());
            body["consent"] = json!(true);
            send(&body).map_err(going_back)?
        }
        other => other.map_err(going_back)?,
    };
    let migrated = migrated(&seen);
    if body.get("config").is_none() && !items(&migrated["changed"]).is_empty() {
        consequences.push(format!("It makes another configuration of the present one:\n{}", changed(&migrated)));
    }
    if !consequences.is_empty() {
        consent.insist(&consequences.join("\n"), action)?;
    }
    body["dry_run"] = json!(false);
    send(&body).map_err(going_back)
}

/// Of what an upgrade would change, that of the configuration.
fn migrated(seen: &Value) -> Value {
    let is_config = |change: &&Value| field(change, "path").starts_with("config.");
    let changes: Vec<&Value> = items(&seen["changed"]).iter().filter(is_config).collect();
    json!({ "changed": changes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::Problem;

    #[test]
    fn what_a_version_asks_for_beyond_the_present_one_needs_a_yes() {
        let sent = std::cell::RefCell::new(Vec::new());
        let server = |body: &Value| {
            sent.borrow_mut().push(body.clone());
            if body.get("consent") == Some(&json!(true)) {
                return Ok(json!({ "version": "0.2.0" }));
            }
            let (code, message) =
                ("consent-required".to_owned(), "version 0.2.0 asks for more: x; send `consent: true`".to_owned());
            Err(ApiError::Refused(Box::new(Problem { code, message, ..Problem::default() })))
        };
        let [asked, given] = [false, true].map(|yes| Consent::from_flag(yes, AnswerFormat::Text));
        assert_eq!(agreed(asked, "x", json!({}), server).unwrap_err().exit_code(), 2, "nobody is there to ask");
        assert!(sent.borrow_mut().drain(..).all(|body| body["dry_run"] == true), "nothing was done");
        assert_eq!(agreed(given, "x", json!({ "version": "0.2.0" }), server).unwrap()["version"], "0.2.0");
        assert_eq!(sent.borrow().len(), 3);
        assert_eq!(sent.borrow()[2], json!({ "version": "0.2.0", "consent": true, "dry_run": false }));
    }

    #[test]
    fn no_reason_of_a_vendor_cuts_off_what_else_is_asked_for() {
        let refused = |_: &Value| {
            let message =
                "it asks for more: to see `a` (sums; send), to see `b` (all); send `consent: true`".to_owned();
            let code = "consent-required".to_owned();
            Err(ApiError::Refused(Box::new(Problem { code, message, ..Problem::default() })))
        };
        let unasked = Consent::from_flag(false, AnswerFormat::Json);
        let seen = std::cell::Cell::new(false);
        let server = |body: &Value| if seen.replace(true) { Ok(json!({})) } else { refused(body) };
        let said = agreed(unasked, "x", json!({}), server).unwrap_err().to_string();
        assert!(said.contains("to see `b` (all)") && !said.contains("consent: true"), "{said}");
    }

    #[test]
    fn what_a_version_makes_of_the_configuration_needs_a_yes() {
        let sent = std::cell::RefCell::new(Vec::new());
        let changes = |of_config: bool| {
            let version = json!({ "path": "version", "before": "0.1.0", "after": "0.2.0" });
            let days = json!({ "path": "config.days", "before": 7, "after": "7d" });
            json!({ "changed": if of_config { vec![days, version] } else { vec![version] } })
        };
        let server = |of_config: bool| {
            let sent = &sent;
            move |body: &Value| {
                sent.borrow_mut().push(body["dry_run"].clone());
                Ok(changes(of_config))
            }
        };
        let asked = || Consent::from_flag(false, AnswerFormat::Json);
        let refused = agreed(asked(), "x", json!({}), server(true)).unwrap_err().to_string();
        assert!(["config.days", "7d"].iter().all(|word| refused.contains(word)), "{refused}");
        assert!(!refused.contains("0.2.0"), "what was asked for is known: {refused}");
        assert!(sent.borrow_mut().drain(..).all(|is_dry| is_dry == true));
        assert!(agreed(Consent::from_flag(true, AnswerFormat::Json), "x", json!({}), server(true)).is_ok());
        assert!(agreed(asked(), "x", json!({}), server(false)).is_ok());
        assert!(agreed(asked(), "x", json!({ "config": { "days": "7d" } }), server(true)).is_ok(), "it was written");
        assert_eq!(sent.borrow().iter().filter(|is_dry| **is_dry == false).count(), 3);
    }

    #[test]
    fn who_would_go_back_is_told_the_flag() {
        let refused = |_: &Value| {
            let message = "kith/csv 0.1.0 is older than 0.2.0; send `allow_downgrade: true` to go back".to_owned();
            Err(ApiError::Refused(Box::new(Problem { code: "downgrade".to_owned(), message, ..Problem::default() })))
        };
        let yes = Consent::from_flag(true, AnswerFormat::Text);
        let said = agreed(yes, "x", json!({ "version": "0.1.0" }), refused).unwrap_err().to_string();
        assert!(said.contains("is older than 0.2.0; to go back, add --allow-downgrade"), "{said}");
    }
}
