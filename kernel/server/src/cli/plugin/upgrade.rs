//! `kith plugin upgrade`: another version of an installation's plugin, newer or older. What it asks for beyond the present one is shown
//! and asked about first.

use serde_json::{Value, json};

use super::remote::{going_back, path, secrets};
use crate::cli::args::UpgradeArgs;
use crate::cli::client::{ApiError, Client};
use crate::cli::consent::Consent;
use crate::cli::output::{AnswerFormat, field};
use crate::cli::{Failure, items, json_argument};

pub(super) fn upgrade(client: &Client, args: &UpgradeArgs, format: AnswerFormat) -> Result<Value, Failure> {
    let path = path(&args.installation);
    let (present, tag) = client.get_tagged(&path)?;
    let version = match &args.version {
        Some(version) => version.to_string(),
        None => newest(&client.whole("/api/v1/plugins")?, &field(&present, "plugin"))?,
    };
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
    let consent = Consent::from_flag(args.yes, format);
    agreed(consent, &action, body, |body| client.patch_if(&path, body, tag.as_deref()))
}

/// Send an upgrade; where it asks for more, with the person's consent.
fn agreed(
    consent: Consent,
    action: &str,
    mut body: Value,
    send: impl Fn(&Value) -> Result<Value, ApiError>,
) -> Result<Value, Failure> {
    match send(&body) {
        Err(ApiError::Refused(problem)) if problem.code == "consent-required" => {
            // The rest of the sentence says how a program answers.
            let more = problem.message.split("; send").next().unwrap_or_default();
            consent.insist(more, action)?;
            body["consent"] = json!(true);
            send(&body).map_err(going_back)
        }
        other => other.map_err(going_back),
    }
}

/// The newest version of a plugin that the server holds, as an installation without a version takes it: a pre-release only where
/// there is nothing else.
fn newest(plugins: &Value, plugin: &str) -> Result<String, Failure> {
    let versions = items(plugins).iter().filter_map(|listed| listed.get("versions")?.as_array()).flatten();
    let of_plugin = versions.filter(|version| field(version, "id") == plugin);
    let newest = of_plugin
        .filter_map(|version| field(version, "version").parse::<semver::Version>().ok())
        .max_by_key(|version| (version.pre.is_empty(), version.clone()));
    let none = || {
        Failure::Failed(format!(
            "the server holds no version of {plugin}; give it one with `kith plugin upload FILE.wasm`"
        ))
    };
    newest.map(|version| version.to_string()).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::Problem;

    #[test]
    fn the_newest_version_is_taken() {
        let version = |id: &str, version: &str| json!({ "id": id, "version": version });
        let plugins = json!({ "items": [
            { "versions": [version("kith/csv", "0.9.0"), version("kith/csv", "0.10.0"), version("kith/csv", "0.11.0-rc.1")] },
            { "versions": [version("kith/rfm", "2.0.0")] },
        ]});
        assert_eq!(newest(&plugins, "kith/csv").unwrap(), "0.10.0");
        assert!(newest(&plugins, "kith/clv").unwrap_err().to_string().contains("plugin upload"));
    }

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
        assert_eq!(sent.borrow_mut().drain(..).count(), 1);
        assert_eq!(agreed(given, "x", json!({ "version": "0.2.0" }), server).unwrap()["version"], "0.2.0");
        assert_eq!(sent.borrow()[1], json!({ "version": "0.2.0", "consent": true }));
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
