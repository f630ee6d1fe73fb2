//! A file of grants, for an installation without a person: everything that a plugin asks for is granted or refused in it, or
//! nothing is installed. And a template of such a file, with the manifest's reasons.

mod template;

use std::collections::BTreeSet;
use std::path::Path;

use kith_host::{ItemKind, Limits, PolicyItem, Side, effective_policy, policy_items};
use kith_model::objects::{self, Objects};
use kith_model::plugin::{Grants, Manifest, PluginId, is_dev};
use serde::Deserialize;
use serde_json::{Value, json};

use self::template::Beginning;
use super::remote::path as installation_path;
use crate::cli::args::{GrantsSubject, MOST_PLUGIN_BYTES, PluginReference};
use crate::cli::client::{Client, encode};
use crate::cli::output::{field, number};
use crate::cli::{Failure, digits};

/// A file of grants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantsFile {
    /// As the API takes them.
    grants: Grants,
    /// What is asked for and shall not be.
    #[serde(default)]
    refused: Refused,
    /// As the API takes it.
    config: Option<Value>,
}

/// What a plugin asks for and is refused, by the kinds of grants.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Refused {
    /// Hosts as the manifest writes them.
    http: Vec<String>,
    mail: Vec<String>,
    secrets: Vec<String>,
    recipients: Vec<String>,
    purposes: Vec<String>,
    /// All state of its own.
    kv: bool,
}

impl GrantsFile {
    /// Read a file, TOML or JSON; by its ending, else by how it begins.
    ///
    /// # Errors
    /// What is wrong in it, with its place.
    pub(super) fn read(file: &Path) -> Result<GrantsFile, Failure> {
        let text = std::fs::read_to_string(file).map_err(|source| Failure::File {
            what: "read",
            path: file.to_owned(),
            source,
        })?;
        let has_ending = |wanted: &str| file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(wanted));
        let is_json = has_ending("json") || (!has_ending("toml") && text.trim_start().starts_with('{'));
        let read = if is_json { of_json(&text) } else { of_toml(&text).map_err(|error| error.to_string()) };
        read.map_err(|error| Failure::Usage(format!("{}: {}", file.display(), error.trim_end())))
    }

    /// Put it into the body of a request about an installation of this version.
    ///
    /// # Errors
    /// All that it leaves open, grants in vain, or refuses in vain.
    pub(super) fn put_into(self, manifest: &Manifest, body: &mut Value) -> Result<(), Failure> {
        let Decided { grants, mistakes } = decide(manifest, self.grants, &self.refused);
        if !mistakes.is_empty() {
            return Err(Failure::Usage(format!(
                "the file of grants does not fit {} {}:\n  - {}\n`kith plugin grants {}@{}` writes one that names everything",
                manifest.id,
                manifest.version,
                mistakes.join("\n  - "),
                manifest.id,
                manifest.version
            )));
        }
        body["grants"] = json!(grants);
        if let Some(config) = self.config {
            if body.get("config").is_some_and(|given| *given != json!({})) {
                return Err(Failure::Usage(
                    "the file of grants has a `config`; leave out --config, or that".to_owned(),
                ));
            }
            body["config"] = config;
        }
        Ok(())
    }
}

fn of_toml(text: &str) -> Result<GrantsFile, toml::de::Error> {
    GrantsFile::deserialize(Objects(toml::Deserializer::parse(text)?))
}

fn of_json(text: &str) -> Result<GrantsFile, String> {
    // Keys that stand there twice are found by the first reader, unknown ones with their place by the second.
    let mut exact = digits::read_argument(text)?;
    let file: GrantsFile = objects::from_json(text).map_err(|error| error.to_string())?;
    let config = file.config.map(|_| exact["config"].take());
    Ok(GrantsFile { config, ..file })
}

/// The grants of a file, and what is wrong with them.
struct Decided {
    grants: Grants,
    mistakes: Vec<String>,
}

/// Hold a file against a manifest: each thing that is asked for is granted or refused, and nothing else is.
fn decide(manifest: &Manifest, mut grants: Grants, refused: &Refused) -> Decided {
    let capabilities = &manifest.capabilities;
    if grants.recipients.is_none() && !capabilities.recipients.is_empty() {
        // Over the API that would be all of them; here what is not named is not granted.
        grants.recipients = Some(Vec::new());
    }
    if grants.purposes.is_none() && capabilities.purposes.is_some() {
        grants.purposes = Some(Vec::new());
    }
    // What the server allows it knows itself.
    let networks = grants.networks.iter().filter_map(|text| text.parse().ok()).collect();
    let ceiling = Limits { networks, ..Limits::default() };
    let in_vain = effective_policy(manifest, &grants, &ceiling).without_effect;
    let mut mistakes: Vec<String> = in_vain.into_iter().map(|text| format!("grants.{text}")).collect();
    let mut open = BTreeSet::new();
    for item in policy_items(manifest, &grants, &ceiling, &[]).iter().filter(|item| is_open(item)) {
        open.insert((item.kind.as_str(), item.name.clone()));
        if !refused.names(item) {
            let reason = item.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let (grant, refusal) = places(item);
            mistakes.push(format!("neither {grant} nor {refusal} decides on {}{reason}", said(item)));
        }
    }
    mistakes.extend(refused.in_vain(&open));
    Decided { grants, mistakes }
}

/// Grants of what a plugin is given of people, and of what it writes to them for.
pub(super) fn of_people(
    recipients: &[String],
    purposes: &[String],
    sensitive: &[String],
) -> [(&'static str, Value); 3] {
    [("recipients", json!(recipients)), ("purposes", json!(purposes)), ("sensitive", json!(sensitive))]
}

/// Whether something is asked for and not granted.
pub(super) fn is_open(item: &PolicyItem) -> bool {
    let is_none = |side: &Option<Side>| match side {
        None | Some(Side::Count(0)) => true,
        Some(Side::Count(_)) => false,
        Some(Side::Names(names)) => names.is_empty(),
    };
    match item.kind {
        ItemKind::Http | ItemKind::Mail | ItemKind::Recipient | ItemKind::Purpose => {
            item.asked.is_some() && is_none(&item.effective)
        }
        // One that signatures are checked with goes to no host.
        ItemKind::Secret => item.asked.is_some() && item.granted.is_none(),
        ItemKind::Kv => !is_none(&item.asked) && is_none(&item.granted),
        ItemKind::Network
        | ItemKind::Event
        | ItemKind::Input
        | ItemKind::Sensitive
        | ItemKind::Consent
        | ItemKind::Limit => false,
    }
}

/// Where an item is granted and where it is refused.
fn places(item: &PolicyItem) -> (&'static str, &'static str) {
    match item.kind {
        ItemKind::Http => ("grants.http", "refused.http"),
        ItemKind::Mail => ("grants.mail", "refused.mail"),
        ItemKind::Secret => ("grants.secrets", "refused.secrets"),
        ItemKind::Recipient => ("grants.recipients", "refused.recipients"),
        ItemKind::Purpose => ("grants.purposes", "refused.purposes"),
        _ => ("grants.kv_bytes", "refused.kv"),
    }
}

fn said(item: &PolicyItem) -> String {
    match item.kind {
        ItemKind::Kv => "state of its own".to_owned(),
        _ => format!("`{}`", item.name),
    }
}

impl Refused {
    fn names(&self, item: &PolicyItem) -> bool {
        match item.kind {
            ItemKind::Http => self.http.contains(&item.name),
            ItemKind::Mail => self.mail.contains(&item.name),
            ItemKind::Secret => self.secrets.contains(&item.name),
            ItemKind::Recipient => self.recipients.contains(&item.name),
            ItemKind::Purpose => self.purposes.contains(&item.name),
            _ => self.kv,
        }
    }

    /// What is refused and was not to be decided: it is granted as well, or not asked for.
    fn in_vain(&self, open: &BTreeSet<(&'static str, String)>) -> Vec<String> {
        let lists = [
            ("http", ItemKind::Http, &self.http),
            ("mail", ItemKind::Mail, &self.mail),
            ("secrets", ItemKind::Secret, &self.secrets),
            ("recipients", ItemKind::Recipient, &self.recipients),
            ("purposes", ItemKind::Purpose, &self.purposes),
        ];
        let mut mistakes = Vec::new();
        for (place, kind, names) in lists {
            let vain = names.iter().filter(|name| !open.contains(&(kind.as_str(), (*name).clone())));
            mistakes.extend(vain.map(|name| {
                format!("refused.{place}: `{name}` is granted as well, or the manifest does not ask for it")
            }));
        }
        if self.kv && !open.iter().any(|(kind, _)| *kind == ItemKind::Kv.as_str()) {
            mistakes.push("refused.kv: state is granted as well, or the manifest does not ask for it".to_owned());
        }
        mistakes
    }
}

/// `kith plugin grants`: a file of grants for a component or a plugin that the server holds, or the one that an installation has.
pub(super) fn template(client: &Client, subject: &GrantsSubject) -> Result<(Value, String), Failure> {
    let (manifest, beginning) = match subject {
        GrantsSubject::File(file) => {
            let bytes =
                std::fs::read(file).map_err(|source| Failure::File { what: "read", path: file.clone(), source })?;
            let inspected = kith::declared::inspect(&bytes, MOST_PLUGIN_BYTES);
            let inspected = inspected.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
            of_plugin(inspected.manifest)
        }
        GrantsSubject::Plugin(PluginReference { id, version }) => {
            of_plugin(held_manifest(client, id, version.as_ref())?)
        }
        GrantsSubject::Installation(name) => {
            let present = client.get(&installation_path(name))?;
            let manifest = installed_manifest(client, &present)?;
            let grants = Grants::deserialize(&present["grants"])
                .map_err(|error| Failure::Failed(format!("the server's answer does not read: {error}")))?;
            let beginning = Beginning::of_installation(name.to_string(), &manifest, grants);
            (manifest, beginning)
        }
    };
    Ok((template::document(&beginning), template::text(&manifest, &beginning)))
}

fn of_plugin(manifest: Manifest) -> (Manifest, Beginning) {
    let beginning = Beginning::of_plugin(&manifest);
    (manifest, beginning)
}

/// The manifest of the version that an installation runs.
pub(super) fn installed_manifest(client: &Client, installation: &Value) -> Result<Manifest, Failure> {
    let unread = |error: String| Failure::Failed(format!("the server's answer does not read: {error}"));
    let id: PluginId = field(installation, "plugin")
        .parse()
        .map_err(|error: kith_model::plugin::InvalidPluginId| unread(error.to_string()))?;
    let version: semver::Version =
        field(installation, "version").parse().map_err(|error: semver::Error| unread(error.to_string()))?;
    held_manifest(client, &id, Some(&version))
}

/// The manifest of a version that the server holds: this one, or the one that would be installed.
fn held_manifest(client: &Client, id: &PluginId, wanted: Option<&semver::Version>) -> Result<Manifest, Failure> {
    manifest_of(&held_version(client, id, wanted)?)
}

/// The manifest of a version as the server lists it.
pub(super) fn manifest_of(listed: &Value) -> Result<Manifest, Failure> {
    // The server has admitted it, perhaps when less was refused.
    let read = kith_host::parse_kept_manifest(listed["manifest"].as_str().unwrap_or_default());
    read.map_err(|error| Failure::Failed(format!("the manifest of {} does not read:\n{error}", field(listed, "id"))))
}

/// Put into a request for a version the digest of the one that was looked at, where none was asked for: its number may be given to
/// other bytes meanwhile.
pub(super) fn pin(body: &mut Value, listed: &Value) {
    if body.get("digest").is_none() {
        body["digest"] = listed["digest"].clone();
    }
}

/// A version that the server holds, as it lists it: this one, or the one that would be installed.
pub(super) fn held_version(client: &Client, id: &PluginId, wanted: Option<&semver::Version>) -> Result<Value, Failure> {
    held(id, wanted, |path| Ok(client.get(path)?))
}

/// The same of pages, each of older versions than the one before.
fn held(
    id: &PluginId,
    wanted: Option<&semver::Version>,
    page: impl Fn(&str) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    let mut path = format!("/api/v1/plugins/{id}");
    let mut pre_release = None;
    loop {
        let answer = page(&path)?;
        let versions = answer["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        match chosen(versions, wanted) {
            // Further back there may be one that is none.
            Some((version, found)) if wanted.is_none() && !version.pre.is_empty() => {
                pre_release = pre_release.or_else(|| Some(found.clone()));
            }
            Some((_, found)) => return Ok(found.clone()),
            None => {}
        }
        let Some(oldest) = versions.first().filter(|_| number(&answer, "older_left_out") > 0) else {
            return pre_release.ok_or_else(|| match wanted {
                Some(version) => Failure::Failed(format!("the server holds no {id} {version}")),
                None => Failure::Failed(format!(
                    "the server holds no version of {id} that is neither yanked nor a dev version; give it one with `kith plugin upload FILE.wasm`"
                )),
            });
        };
        path = format!("/api/v1/plugins/{id}?before={}", encode(&field(oldest, "version")));
    }
}

/// One of these versions: the one that is wanted, else the newest that is neither yanked nor of the dev channel, a pre-release only
/// where there is nothing else.
fn chosen<'v>(versions: &'v [Value], wanted: Option<&semver::Version>) -> Option<(semver::Version, &'v Value)> {
    let read = versions.iter().filter_map(|version| Some((field(version, "version").parse().ok()?, version)));
    let read: Vec<(semver::Version, &Value)> = read.collect();
    match wanted {
        Some(wanted) => read.into_iter().find(|(version, _)| version == wanted),
        None => (read.into_iter())
            .filter(|(version, listed)| listed["yanked"].is_null() && !is_dev(version))
            .max_by_key(|(version, _)| (version.pre.is_empty(), version.clone())),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli::plugin) const NOTES: &str = r#"
[plugin]
id = "acme/notes"
version = "0.1.0"
kind = "channel"
abi = "0.2"
kernel = ">=0.1"
title = "Notes"
description = "Posts."
license = "Apache-2.0"
[inputs.name]
expression = "traits.name"
type = "text"
reason = "Messages address the person by it"
[[capabilities.http]]
host = "api.example.com"
methods = ["POST"]
reason = "Notes are posted there"
[[capabilities.http]]
host = "*.example.org"
methods = ["GET"]
reason = "Pictures are there"
[[capabilities.secrets]]
name = "key"
hosts = ["api.example.com"]
reason = "The provider asks for it"
[[capabilities.recipients]]
type = "email"
reason = "To write to"
[[capabilities.recipients]]
type = "phone"
reason = "To call"
"#;

    pub(in crate::cli::plugin) fn notes() -> Manifest {
        kith_host::parse_manifest(NOTES).unwrap()
    }

    fn template_of(manifest: &Manifest) -> String {
        template::text(manifest, &Beginning::of_plugin(manifest))
    }

    const WHOLE: &str = r#"
[grants]
http = ["api.example.com"]
recipients = ["email"]
secrets = { key = ["api.example.com"] }
limits = { cpu_ms = 100 }
[refused]
http = ["*.example.org"]
recipients = ["phone"]
[config]
url = "https://api.example.com"
"#;

    fn mistakes(text: &str) -> Vec<String> {
        let file: GrantsFile = toml::from_str(text).unwrap();
        decide(&notes(), file.grants, &file.refused).mistakes
    }

    #[test]
    fn everything_that_is_asked_for_is_granted_or_refused() {
        let file: GrantsFile = toml::from_str(WHOLE).unwrap();
        let mut body = json!({ "config": {} });
        file.put_into(&notes(), &mut body).unwrap();
        assert_eq!(body["grants"]["secrets"], json!({ "key": ["api.example.com"] }));
        assert_eq!(
            (&body["grants"]["limits"]["cpu_ms"], &body["grants"]["recipients"]),
            (&json!(100), &json!(["email"]))
        );
        assert_eq!(body["config"], json!({ "url": "https://api.example.com" }));
        for (from, to, expected) in [
            ("http = [\"*.example.org\"]", "", "decides on `*.example.org` (Pictures are there)"),
            ("recipients = [\"phone\"]", "", "nor refused.recipients decides on `phone`"),
            ("recipients = [\"email\"]", "", "decides on `email`"),
            ("secrets = { key = [\"api.example.com\"] }", "", "neither grants.secrets nor refused.secrets"),
            ("[\"api.example.com\"]\nrec", "[\"api.example.com\", \"b.example\"]\nrec", "does not ask for `b.example`"),
            ("key = [\"api.example.com\"]", "key = [\"b.example\"]", "does not send `key` to `b.example`"),
            ("[\"phone\"]", "[\"phone\", \"email\"]", "refused.recipients: `email` is granted as well"),
            ("[\"phone\"]", "[\"phone\"]\nkv = true", "refused.kv: state is granted as well"),
            ("limits =", "kv_bytes = 5\nlimits =", "grants.kv_bytes: the manifest asks for no state"),
        ] {
            let edited = WHOLE.replacen(from, to, 1);
            assert_ne!(edited, WHOLE, "{from}");
            let found = mistakes(&edited);
            assert_eq!(found.len(), 1, "{to}: {found:?}");
            assert!(found[0].contains(expected), "{to}: {found:?}");
        }
    }

    #[test]
    fn a_file_says_where_it_is_wrong_and_is_toml_or_json() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            GrantsFile::read(&path)
        };
        assert!(read("a.toml", WHOLE).is_ok() && read("a", WHOLE).is_ok());
        let json = r#"{ "grants": { "http": ["a.example"] }, "config": { "n": 12345678901234567890123 } }"#;
        let file = read("a", json).unwrap();
        assert_eq!(digits::line(&file.config.unwrap()), r#"{"n":12345678901234567890123}"#);
        for (name, text, expected) in [
            ("a.toml", "[grants]\nhttp = []\nhtpp = []\n", "line 3"),
            ("a.toml", "[grants]\nlimits = { speed = 1 }\n", "speed"),
            ("a.toml", "[grants]\n[refuse]\n", "refuse"),
            ("a.toml", "[refused]\n", "grants"),
            ("a.toml", "grants = [[\"a.example\"]]\n", "expected struct"),
            ("a.toml", "[grants]\nhttp = []\nlimits = [1]\n", "line 3"),
            ("a.json", "{ \"grants\": [[\"a.example\"]] }", "expected struct"),
            ("a.json", "{\n \"grants\": { \"htpp\": [] } }", "line 2"),
            ("a.json", "{ \"grants\": {}, \"grants\": {} }", "twice"),
        ] {
            let error = read(name, text).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{text}");
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
        let mut body = json!({ "config": { "a": 1 } });
        let both = read("a.toml", WHOLE).unwrap().put_into(&notes(), &mut body).unwrap_err();
        assert!(both.to_string().contains("leave out --config"), "{both}");
    }

    #[test]
    fn what_was_looked_at_is_pinned_where_nothing_else_is() {
        let listed = json!({ "id": "acme/notes", "version": "0.1.0", "digest": "ab".repeat(32), "manifest": NOTES });
        assert_eq!(manifest_of(&listed).unwrap().version, semver::Version::new(0, 1, 0));
        let (mut body, mut pinned) = (json!({ "version": "0.1.0" }), json!({ "digest": "sha256:cd" }));
        pin(&mut body, &listed);
        pin(&mut pinned, &listed);
        assert_eq!(body, json!({ "version": "0.1.0", "digest": "ab".repeat(32) }));
        assert_eq!(pinned, json!({ "digest": "sha256:cd" }));
        let unread = manifest_of(&json!({ "id": "acme/notes" })).unwrap_err().to_string();
        assert!(unread.starts_with("the manifest of acme/notes does not read"), "{unread}");
    }

    #[test]
    fn the_version_is_the_one_that_would_be_installed() {
        fn listed<'v>(versions: &'v [Value], wanted: Option<&semver::Version>) -> Option<&'v Value> {
            chosen(versions, wanted).map(|(_, listed)| listed)
        }
        let versions = ["0.9.0", "0.10.0", "0.11.0-rc.1"].map(|version| json!({ "version": version }));
        assert_eq!(listed(&versions, None), Some(&versions[1]));
        assert_eq!(listed(&versions, Some(&semver::Version::new(0, 9, 0))), Some(&versions[0]));
        assert_eq!(listed(&versions[2..], None), Some(&versions[2]));
        let yanked = json!({ "version": "0.12.0", "yanked": { "reason": "it loses rows" } });
        assert_eq!(listed(&[versions[0].clone(), yanked], None), Some(&versions[0]));
        assert_eq!(listed(&versions, Some(&semver::Version::new(1, 0, 0))), None);
    }

    /// A page of versions has room for so many, and the server offers whichever of all is the newest release.
    #[test]
    fn what_is_offered_is_looked_for_on_all_pages() {
        let id: PluginId = "kith/csv".parse().unwrap();
        let listed = |version: &str, is_yanked: bool| {
            let yanked = if is_yanked { json!({ "reason": "it loses rows" }) } else { Value::Null };
            json!({ "version": version, "yanked": yanked })
        };
        let page = |path: &str| {
            let (versions, older) = match path {
                "/api/v1/plugins/kith/csv" => (vec![listed("2.0.0-rc.1", false), listed("2.0.0-rc.2", false)], 3),
                "/api/v1/plugins/kith/csv?before=2.0.0-rc.1" => (vec![listed("1.2.0", true), listed("1.3.0", true)], 1),
                "/api/v1/plugins/kith/csv?before=1.2.0" => (vec![listed("1.1.0", false)], 0),
                other => panic!("{other}"),
            };
            Ok(json!({ "versions": versions, "older_left_out": older }))
        };
        let version = |wanted: Option<&str>| {
            let wanted = wanted.map(|version| version.parse::<semver::Version>().unwrap());
            held(&id, wanted.as_ref(), page).map(|found| field(&found, "version"))
        };
        assert_eq!(version(None).unwrap(), "1.1.0");
        assert_eq!(version(Some("2.0.0-rc.2")).unwrap(), "2.0.0-rc.2");
        assert_eq!(version(Some("1.2.0")).unwrap(), "1.2.0", "it is there, though nobody is given it");
        assert!(version(Some("9.0.0")).unwrap_err().to_string().contains("holds no kith/csv 9.0.0"));
        // A pre-release where there is nothing else, and nothing where all are yanked.
        let only = |is_yanked: bool| {
            let page = |_: &str| Ok(json!({ "versions": [listed("2.0.0-rc.1", is_yanked)], "older_left_out": 0 }));
            held(&id, None, page).map(|found| field(&found, "version"))
        };
        assert_eq!(only(false).unwrap(), "2.0.0-rc.1");
        assert!(only(true).unwrap_err().to_string().contains("plugin upload"));
    }

    #[test]
    fn each_purpose_that_is_named_is_granted_or_refused() {
        let text = NOTES.replacen(
            "[[capabilities.http]]",
            "[capabilities]\npurposes = [\"news\", \"service\"]\n[[capabilities.http]]",
            1,
        );
        let [naming, silent] = [text.as_str(), NOTES].map(|text| kith_host::parse_manifest(text).unwrap());
        let of_purposes = |manifest: &Manifest, granted: Option<&[&str]>, refused: &[&str]| -> Vec<String> {
            let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let grants = Grants { purposes: granted.map(texts), ..Grants::default() };
            let mistakes =
                decide(manifest, grants, &Refused { purposes: texts(refused), ..Refused::default() }).mistakes;
            mistakes.into_iter().filter(|mistake| mistake.contains("purposes")).collect()
        };
        assert!(of_purposes(&naming, Some(&["news"]), &["service"]).is_empty());
        assert!(of_purposes(&naming, Some(&["news", "service"]), &[]).is_empty());
        let open = of_purposes(&naming, None, &["service"]);
        assert_eq!(open, ["neither grants.purposes nor refused.purposes decides on `news`"]);
        assert!(of_purposes(&naming, Some(&["news", "service"]), &["service"])[0].contains("is granted as well"));
        let in_vain = of_purposes(&naming, Some(&["news", "service", "alarms"]), &[]);
        assert_eq!(in_vain, ["grants.purposes: the manifest does not name `alarms`"]);
        // Of a plugin that names none a file may narrow it, and need not.
        assert!(of_purposes(&silent, None, &[]).is_empty() && of_purposes(&silent, Some(&["news"]), &[]).is_empty());
        let template = template_of(&naming);
        assert!(
            template.contains("purposes = [\"news\", \"service\"]") && template.contains("purposes = []"),
            "{template}"
        );
    }

    #[test]
    fn a_relay_is_granted_or_refused_as_well() {
        let text = NOTES.replacen("license =", "idempotent = false\nlicense =", 1);
        let text = text + "[[capabilities.mail]]\nhost = \"*\"\nreason = \"To write\"\n";
        let manifest = kith_host::parse_manifest(&text).unwrap();
        let of_mail = |grants: Grants, refused: &Refused| -> Vec<String> {
            let mistakes = decide(&manifest, grants, refused).mistakes;
            mistakes.into_iter().filter(|mistake| mistake.contains("mail: ") || mistake.contains(".mail ")).collect()
        };
        let granting = |relay: &str| Grants { mail: vec![relay.to_owned()], ..Grants::default() };
        let nothing = Refused::default();
        let refusing = Refused { mail: vec!["*".to_owned()], ..Refused::default() };
        assert_eq!(
            of_mail(Grants::default(), &nothing),
            ["neither grants.mail nor refused.mail decides on `*` (To write)"]
        );
        assert!(of_mail(granting("smtp.example.com:587"), &nothing).is_empty());
        assert!(of_mail(Grants::default(), &refusing).is_empty());
        assert_eq!(of_mail(granting("smtp.example.com:587"), &refusing).len(), 1, "both");
        assert!(of_mail(granting("smtp.example.com"), &refusing)[0].contains("names no port"));
        assert!(template_of(&manifest).contains("mail = []"));
    }
}
