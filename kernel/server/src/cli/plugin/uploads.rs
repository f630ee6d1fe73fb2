//! `kith plugin upload`: a component of a file or of a registry handed to the server; `kith plugin install oci://…` begins with it,
//! too.

use std::fs::File;
use std::io::Read;

use serde_json::Value;

use super::signing::for_upload;
use crate::cli::args::{MOST_PLUGIN_BYTES, PluginReference, RegistryArgs, UploadArgs, UploadSubject};
use crate::cli::client::{ApiError, Client};
use crate::cli::consent::Consent;
use crate::cli::oci::{Access, ArtifactManifest, Logins, OciError, Reference, Registry, Transport};
use crate::cli::output::{AnswerFormat, Step, plain, size};
use crate::cli::{Failure, roots};

/// What stands before a component's bytes on their way to the server.
pub(super) struct Outgoing<'a> {
    pub(super) title: String,
    /// In base64.
    pub(super) signature: Option<&'a str>,
    /// Whether other bytes of a dev version may ask for more than the present ones.
    pub(super) consent: Consent,
}

/// Upload what the arguments name.
pub(super) fn upload(client: &Client, args: &UploadArgs, format: AnswerFormat) -> Result<Value, Failure> {
    let consent = Consent::from_flag(args.yes, format);
    match &args.component {
        UploadSubject::File(file) => {
            let signature = for_upload(file, args.signature.as_deref())?;
            let failed = |what| move |source| Failure::File { what, path: file.clone(), source };
            let open = || {
                let component = File::open(file).map_err(failed("open"))?;
                let bytes = component.metadata().map_err(failed("read"))?.len();
                Ok((component, bytes))
            };
            let title = format!("uploading {}", file.display());
            send(client, &Outgoing { title, signature: signature.as_deref(), consent }, open, format)
        }
        UploadSubject::Registry(reference) => {
            let mut fetched = fetch(reference, &args.registry, format)?;
            if let Some(file) = &args.signature {
                // With a name of its own the component's does not count.
                fetched.signature = for_upload(file, Some(file))?;
            }
            send_bytes(client, &fetched.component, &fetched.outgoing(consent), format)
        }
    }
}

/// Send a component that is read as often as it is asked for.
fn send<R: Read>(
    client: &Client,
    outgoing: &Outgoing<'_>,
    open: impl Fn() -> Result<(R, u64), Failure>,
    format: AnswerFormat,
) -> Result<Value, Failure> {
    let headers: Vec<(&str, &str)> = outgoing.signature.map(|text| ("kith-signature", text)).into_iter().collect();
    let once = |path: &str| -> Result<Value, Failure> {
        let (component, bytes) = open()?;
        let step = Step::over_bytes(&outgoing.title, bytes, format);
        let component = step.bar().wrap_read(component);
        let answer = client.upload_with(path, "application/wasm", &headers, component)?;
        step.end("verified and compiled");
        Ok(answer)
    };
    match once("/api/v1/plugins") {
        Err(Failure::Api(ApiError::Refused(problem))) if problem.code == "consent-required" => {
            // The rest of the sentence says how a program answers.
            let consequences = problem.message.rsplit_once("; upload it").map_or(&*problem.message, |(said, _)| said);
            outgoing.consent.insist(consequences, "give it to who runs the version")?;
            once("/api/v1/plugins?consent=true")
        }
        other => other,
    }
}

/// Send a component that is in memory.
pub(super) fn send_bytes(
    client: &Client,
    component: &[u8],
    outgoing: &Outgoing<'_>,
    format: AnswerFormat,
) -> Result<Value, Failure> {
    send(client, outgoing, || Ok((component, component.len() as u64)), format)
}

/// Say after an upload who runs other bytes by it.
pub(super) fn uploaded(table: String, answer: &Value) -> String {
    let names = answer["upgraded"].as_array().map(Vec::as_slice).unwrap_or_default();
    match names.iter().map(plain).collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => table,
        names => format!("{table}\n\n{names} runs these bytes now"),
    }
}

/// A plugin that came out of a registry.
pub(super) struct Fetched {
    component: Vec<u8>,
    /// In base64.
    signature: Option<String>,
    plugin: PluginReference,
    /// Of the component, with the algorithm.
    pub(super) digest: String,
}

impl Fetched {
    /// Which it is.
    pub(super) fn plugin(&self) -> PluginReference {
        self.plugin.clone()
    }

    fn outgoing(&self, consent: Consent) -> Outgoing<'_> {
        let version = self.plugin.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        let title = format!("uploading {}{version}", self.plugin.id);
        Outgoing { title, signature: self.signature.as_deref(), consent }
    }
}

/// Hand what came out of a registry to the server.
pub(super) fn send_fetched(client: &Client, fetched: &Fetched, format: AnswerFormat) -> Result<Value, Failure> {
    send_bytes(client, &fetched.component, &fetched.outgoing(Consent::from_flag(false, format)), format)
}

/// Fetch a plugin from a registry and see that it is one.
pub(super) fn fetch(reference: &Reference, args: &RegistryArgs, format: AnswerFormat) -> Result<Fetched, Failure> {
    let wanted = reference.wanted().ok_or_else(|| {
        Failure::Usage(format!("{reference} says not which; add a tag, `:1.0.0`, or a digest, `@sha256:…`"))
    })?;
    let logins = Logins::read(args.docker_config.as_deref())?;
    let registry = Registry::new(reference, Access::Pull, &logins, transport(args)?)?;
    let step = Step::begin(format!("fetching {reference}"), format);
    let (manifest, digest) =
        registry.manifest(wanted)?.ok_or_else(|| Failure::from(OciError::Missing(reference.to_string())))?;
    let manifest = ArtifactManifest::read(&manifest, MOST_PLUGIN_BYTES)?;
    let component = registry.blob(&manifest.component, manifest.size)?;
    step.end(&format!("{}, {}", size(manifest.size), reference.pinned(&digest)));
    let inspected = kith::declared::inspect(&component, MOST_PLUGIN_BYTES)
        .map_err(|error| Failure::Failed(format!("{reference}: {error}")))?;
    let plugin = PluginReference { id: inspected.manifest.id, version: Some(inspected.manifest.version) };
    Ok(Fetched { component, signature: manifest.signature, plugin, digest: manifest.component.to_string() })
}

/// How the arguments have a registry spoken to.
pub(super) fn transport(args: &RegistryArgs) -> Result<Transport, Failure> {
    if args.plain_http {
        return Ok(Transport::Plain);
    }
    match &args.registry_ca {
        Some(file) => Ok(Transport::Tls(roots(file)?)),
        None => Ok(Transport::Tls(ureq::tls::RootCerts::WebPki)),
    }
}
