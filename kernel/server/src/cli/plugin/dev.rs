//! `kith plugin dev`: the sources of a plugin's crate are built, checked, uploaded as a dev version and put to work, again with each
//! change of theirs; between the changes the installation's log is followed.

mod followed;
mod sources;

use std::time::{Duration, Instant};

use kith::plugin_build::{self, BuiltPlugin, Toolchain};
use kith_host::Carried;
use kith_model::id::Name;
use kith_model::plugin::DEV;
use semver::Version;
use serde_json::{Value, json};

use self::followed::Followed;
use self::sources::Sources;
use super::grants::{GrantsFile, held_version, manifest_of, pin};
use super::remote::{INSTALLATIONS, path};
use super::secrets::secrets;
use super::upgrade::upgrade;
use super::uploads::{Outgoing, send_bytes};
use super::{BuildStep, build_crate};
use crate::cli::args::{MOST_PLUGIN_BYTES, PinArgs, PluginDevArgs, UpgradeArgs};
use crate::cli::client::{ApiError, Client, pause};
use crate::cli::consent::Consent;
use crate::cli::output::{self, AnswerFormat, Step, field};
use crate::cli::{Failure, digits, json_argument};

/// How often the sources and the log are looked at.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn run(args: &PluginDevArgs, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    // Where there is no crate, none will come of waiting.
    if !args.dir.join("Cargo.toml").is_file() {
        return Err(plugin_build::BuildError::NoCrate(args.dir.clone()).into());
    }
    let target = Toolchain::from(&args.tools).locate(&args.dir).map_err(plugin_build::BuildError::from)?.target_dir;
    // As cargo names what it writes.
    let folder =
        args.dir.canonicalize().map_err(|source| Failure::File { what: "find", path: args.dir.clone(), source })?;
    let look = || Sources::look(&folder, &target);
    let mut seen = look()?;
    if args.once {
        return round(args, client, format, |_| {});
    }
    let mut followed = None;
    followed_round(args, client, format, &mut followed);
    output::tell(&format!("watching {}", args.dir.display()), format);
    loop {
        if let Some(followed) = &mut followed {
            followed.look(format)?;
        }
        pause(LOOK);
        let mut now = look()?;
        if now != seen {
            // Whoever writes several files writes the last of them soon.
            while now != seen {
                seen = now;
                pause(LOOK);
                now = look()?;
            }
            followed_round(args, client, format, &mut followed);
        }
    }
}

/// A round whose installation is followed from before its bytes are there, so that what they log at once is shown too. Of one that
/// failed the report is shown, and the bytes before are followed on.
fn followed_round<'a>(
    args: &PluginDevArgs,
    client: &'a Client,
    format: AnswerFormat,
    followed: &mut Option<Followed<'a>>,
) {
    let done = round(args, client, format, |name| {
        if followed.as_ref().is_none_or(|known| !known.is_of(name)) {
            *followed = Some(Followed::begin(client, name, format));
        }
    });
    match done {
        Ok(()) => followed.iter_mut().for_each(Followed::put_to_work),
        Err(failure) => {
            if let Some(report) = failure.report(format) {
                eprintln!("{report}");
            }
        }
    }
}

/// Build, check, upload and put to work what the sources are now. `begins` is told the name of the installation before anything is
/// uploaded.
fn round(
    args: &PluginDevArgs,
    client: &Client,
    format: AnswerFormat,
    begins: impl FnOnce(&Name),
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut shown = BuildStep::begin(format!("building {}", args.dir.display()), format);
    let built = build_crate(&args.dir, &args.tools, &mut shown)?;
    shown.end(&built.path.display().to_string());
    let step = Step::begin("checking", format);
    let (component, version) = as_dev(&built)?;
    let manifest = (&built.manifest, built.inspection.manifest_toml.as_str());
    let mistakes =
        plugin_build::crate_mistakes(&args.dir, manifest, &Toolchain::from(&args.tools)).map_err(Failure::from)?;
    if !mistakes.is_empty() {
        return Err(Failure::Failed(format!("{}:\n  - {}", args.dir.display(), mistakes.join("\n  - "))));
    }
    step.end(&format!("{} {version}", built.manifest.id));
    let own = || built.manifest.id.name().parse::<Name>().map_err(|error| Failure::Failed(error.to_string()));
    let name = args.name.clone().map_or_else(own, Ok)?;
    begins(&name);
    let consent = Consent::from_flag(args.yes, format);
    let outgoing = Outgoing { title: "uploading".to_owned(), signature: None, consent };
    let answer = send_bytes(client, &component, &outgoing, format)?;
    let step = Step::begin(format!("putting it to work as {name}"), format);
    let done = put_to_work(args, client, (&built, &version, &name), &answer, format)?;
    step.end(done);
    if format.is_json() {
        output::say(digits::line(&json!({
            "id": built.manifest.id, "version": version, "digest": answer["digest"], "installation": name, "done": done,
            "took_ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        })))?;
    }
    Ok(())
}

/// Have an installation run the version: a new one, or the present one with it; what was done.
fn put_to_work(
    args: &PluginDevArgs,
    client: &Client,
    (built, version, name): (&BuiltPlugin, &Version, &Name),
    uploaded: &Value,
    format: AnswerFormat,
) -> Result<&'static str, Failure> {
    let place = path(name);
    let present = match client.get(&place) {
        Ok(present) => present,
        Err(ApiError::Refused(problem)) if problem.http_status == 404 => {
            install(args, client, (built, version, name))?;
            return Ok("installed");
        }
        Err(error) => return Err(error.into()),
    };
    if field(&present, "plugin") != built.manifest.id.to_string() {
        let message = format!("{name} is an installation of {}; give another --name", field(&present, "plugin"));
        return Err(Failure::Usage(message));
    }
    if field(&present, "version") != version.to_string() {
        let upgraded = UpgradeArgs {
            installation: name.clone(),
            version: Some(version.clone()),
            config: None,
            grants: args.grants.clone(),
            secret: args.secret.clone(),
            yes: args.yes,
            pin: PinArgs::default(),
        };
        upgrade(client, &upgraded, format).map_err(below)?;
    }
    // What the bytes before were stopped for says nothing of these.
    if present["mode"] == "quarantined" {
        client.patch(&place, &json!({ "mode": "live" }))?;
        return Ok("it runs again");
    }
    Ok(match uploaded["upgraded"].is_array() || field(&present, "version") != version.to_string() {
        true => "it runs these bytes",
        false => "nothing is new",
    })
}

fn install(
    args: &PluginDevArgs,
    client: &Client,
    (built, version, name): (&BuiltPlugin, &Version, &Name),
) -> Result<(), Failure> {
    let mut body = json!({
        "name": name, "plugin": built.manifest.id, "version": version, "config": json_argument("--config", &args.config)?,
    });
    let secrets = secrets(&args.secret)?;
    if !secrets.is_empty() {
        body["secrets"] = Value::Object(secrets);
    }
    if let Some(file) = &args.grants {
        let listed = held_version(client, &built.manifest.id, Some(version))?;
        GrantsFile::read(file)?.put_into(&manifest_of(&listed)?, &mut body)?;
        pin(&mut body, &listed);
    }
    client.post(INSTALLATIONS, &body).map_err(|error| below(error.into()))?;
    Ok(())
}

/// A dev version below what was installed already: there is a release of it.
fn below(failure: Failure) -> Failure {
    match failure {
        Failure::Api(ApiError::Refused(problem)) if problem.code == "downgrade" => {
            let why = problem.message.rsplit_once("; send").map_or(&*problem.message, |(why, _)| why);
            let message = format!("{why}; raise the version in plugin.toml and Cargo.toml to the one that comes next");
            Failure::Coded { code: problem.code.clone(), message }
        }
        other => other,
    }
}

/// A built plugin with the ending `-dev` to its version.
fn as_dev(built: &BuiltPlugin) -> Result<(Vec<u8>, Version), Failure> {
    let mut version = built.manifest.version.clone();
    version.pre = semver::Prerelease::new(DEV).map_err(|error| Failure::Failed(error.to_string()))?;
    let manifest = with_version(&built.inspection.manifest_toml, &version)?;
    let component = kith_host::pack(&built.component, &manifest, Carried::Replaced, MOST_PLUGIN_BYTES)
        .map_err(|error| Failure::Failed(format!("as {version} it is no plugin: {error}")))?;
    Ok((component, version))
}

/// A manifest's text with another version; everything else stands where it stood.
fn with_version(text: &str, version: &Version) -> Result<String, Failure> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        plugin: Plugin,
    }
    #[derive(serde::Deserialize)]
    struct Plugin {
        version: toml::Spanned<String>,
    }
    let read: Manifest = toml::from_str(text).map_err(|error| Failure::Failed(error.to_string()))?;
    let mut other = text.to_owned();
    other.replace_range(read.plugin.version.span(), &format!("\"{version}\""));
    Ok(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_alone_is_another() {
        let version = "0.2.0-dev".parse().unwrap();
        let text = "# version = \"0.1.0\"\n[plugin]\nid = \"acme/x\" # 0.1.0\nversion   = '0.2.0' # now\n[inputs.version]\nx = 1\n";
        let expected = text.replace("'0.2.0'", "\"0.2.0-dev\"");
        assert_eq!(with_version(text, &version).unwrap(), expected);
        assert!(with_version("[plugin]\n", &version).is_err());
    }

    #[test]
    fn who_works_below_a_release_is_told_to_raise_the_version() {
        let problem = crate::cli::client::Problem {
            code: "downgrade".to_owned(),
            message:
                "acme/x 0.2.0-dev is older than 0.2.0, which was installed here already; send `allow_downgrade: true`"
                    .to_owned(),
            ..Default::default()
        };
        let said = below(ApiError::Refused(Box::new(problem)).into()).to_string();
        assert!(said.contains("is older than 0.2.0") && said.ends_with("to the one that comes next"), "{said}");
    }
}
