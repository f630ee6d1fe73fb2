//! The form of a plugin in a registry: the CNCF's *Wasm OCI artifact*, one layer of type `application/wasm` and a configuration
//! that says what the component imports and exports, so that tools of the ecosystem take it as any other component.
//!
//! The signature goes with it as an annotation of the manifest, because those tools refuse a second layer, and registries that
//! keep signatures by themselves are not everywhere.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kith::signatures::{MAX_FILE_BYTES, Signature};
use kith_host::Inspection;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::OciError;
use super::reference::Digest;

/// What a manifest is.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const LAYER_TYPE: &str = "application/wasm";

/// The annotation that holds the signature: the `.minisig` file in base64, as an upload's header has it.
const SIGNATURE: &str = "kith.minisig";

/// A manifest is small.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 256 << 10;

/// A blob as a manifest names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

/// A plugin as it is put into a registry.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
}

impl Artifact {
    /// Of a component and its signature, in base64. The same ones give the same bytes.
    pub(crate) fn of(inspected: &Inspection, signature: Option<&str>) -> Artifact {
        let layer = format!("sha256:{}", inspected.digest);
        let config = json!({
            // The form wants a time, and one of now would make another artifact of the same component.
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [layer],
            "component": { "exports": inspected.exports, "imports": inspected.imports },
        });
        let config = config.to_string().into_bytes();
        let manifest = &inspected.manifest;
        let said = [("title", &manifest.id.to_string()), ("version", &manifest.version.to_string())]
            .map(|(name, text)| (format!("org.opencontainers.image.{name}"), text.clone()));
        let signed = signature.map(|text| (SIGNATURE.to_owned(), text.to_owned()));
        let document = Document {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            config: Descriptor {
                media_type: CONFIG_TYPE.to_owned(),
                digest: Digest::of(&config).to_string(),
                size: config.len() as u64,
            },
            layers: vec![Descriptor { media_type: LAYER_TYPE.to_owned(), digest: layer, size: inspected.size as u64 }],
            annotations: Some(said.into_iter().chain(signed).collect()),
        };
        // Numbers and texts can always be written.
        Artifact { manifest: serde_json::to_vec(&document).unwrap_or_default(), config }
    }
}

/// What the manifest of a plugin in a registry says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ArtifactManifest {
    /// Of the component.
    pub(crate) component: Digest,
    pub(crate) size: u64,
    /// In base64, as an upload takes it.
    pub(crate) signature: Option<String>,
}

fn form(problem: impl Into<String>) -> OciError {
    OciError::Form { what: "this is no plugin in a registry", problem: problem.into() }
}

impl ArtifactManifest {
    /// Read a manifest, of a component of at most so many bytes.
    ///
    /// # Errors
    /// [`OciError::Form`] says what of it is otherwise.
    pub(crate) fn read(bytes: &[u8], most: u64) -> Result<ArtifactManifest, OciError> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| form(format!("its manifest does not read: {error}")))?;
        if value.get("manifests").is_some() {
            return Err(form("it is a list of several; name one of them by its digest"));
        }
        let document: Document =
            serde_json::from_value(value).map_err(|error| form(format!("its manifest does not read: {error}")))?;
        if document.schema_version != 2 || document.media_type.is_some_and(|kind| kind != MANIFEST_TYPE) {
            return Err(form("its manifest is none of version 2 of the OCI's"));
        }
        if document.config.media_type != CONFIG_TYPE {
            let kind = crate::cli::output::cut(&document.config.media_type, 80);
            return Err(form(format!("its configuration is `{kind}`, not `{CONFIG_TYPE}`")));
        }
        let [layer] = document.layers.as_slice() else {
            return Err(form(format!("it has {} layers, and a component is one", document.layers.len())));
        };
        if layer.media_type != LAYER_TYPE {
            let kind = crate::cli::output::cut(&layer.media_type, 80);
            return Err(form(format!("its layer is `{kind}`, not `{LAYER_TYPE}`")));
        }
        if layer.size > most {
            return Err(OciError::TooLarge { what: "the component".to_owned(), most });
        }
        let component = layer.digest.parse().map_err(form)?;
        let annotations = document.annotations.unwrap_or_default();
        let signature = annotations.get(SIGNATURE).map(|text| signature(text)).transpose()?;
        Ok(ArtifactManifest { component, size: layer.size, signature })
    }
}

/// A signature that came with an artifact, which must read; whether it holds is the server's to say.
fn signature(text: &str) -> Result<String, OciError> {
    let bad = |problem: String| form(format!("its signature does not read: {problem}"));
    if text.len() > 2 * MAX_FILE_BYTES {
        return Err(bad(format!("it is of more than {MAX_FILE_BYTES} bytes")));
    }
    let bytes = STANDARD.decode(text).map_err(|_| bad("it is no base64".to_owned()))?;
    let file = String::from_utf8(bytes).map_err(|_| bad("it is no text".to_owned()))?;
    let read = Signature::parse(&file).map_err(|error| bad(error.to_string()))?;
    Ok(STANDARD.encode(read.file()))
}

#[cfg(test)]
mod tests {
    use kith::signatures::{Prehash, SecretKey};

    use super::*;

    const CONNECTOR: &[u8] = include_bytes!("../../../../host/tests/fixtures/0.1/connector.wasm");
    const MOST: u64 = 8 << 20;

    fn problem(bytes: &[u8]) -> String {
        ArtifactManifest::read(bytes, MOST).unwrap_err().to_string()
    }

    #[test]
    fn a_plugin_is_one_layer_of_wasm_with_its_signature_beside_it() {
        let inspected = kith_host::inspect(CONNECTOR).unwrap();
        let key = SecretKey::generate().unwrap();
        let file = STANDARD.encode(key.sign(&Prehash::of(CONNECTOR), "c").file());
        let artifact = Artifact::of(&inspected, Some(&file));
        let manifest: serde_json::Value = serde_json::from_slice(&artifact.manifest).unwrap();
        let layer = json!({
            "mediaType": "application/wasm", "digest": Digest::of(CONNECTOR).as_str(), "size": CONNECTOR.len(),
        });
        assert_eq!((&manifest["schemaVersion"], &manifest["layers"]), (&json!(2), &json!([layer])));
        assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
        assert_eq!(manifest["config"]["digest"], Digest::of(&artifact.config).as_str());
        assert_eq!(manifest["annotations"]["org.opencontainers.image.title"], "fixture/connector");
        let config: serde_json::Value = serde_json::from_slice(&artifact.config).unwrap();
        assert_eq!((&config["architecture"], &config["os"]), (&json!("wasm"), &json!("wasip2")));
        assert_eq!(config["layerDigests"], json!([layer["digest"]]));
        assert_eq!(config["component"]["exports"], json!(inspected.exports));

        let read = ArtifactManifest::read(&artifact.manifest, MOST).unwrap();
        let size = CONNECTOR.len() as u64;
        assert_eq!(read, ArtifactManifest { component: Digest::of(CONNECTOR), size, signature: Some(file) });
        let again = Artifact::of(&inspected, None);
        assert_eq!(again.manifest, Artifact::of(&inspected, None).manifest, "the same component gives the same bytes");
        assert_eq!(ArtifactManifest::read(&again.manifest, MOST).unwrap().signature, None);
        let large = ArtifactManifest::read(&again.manifest, size - 1).unwrap_err();
        assert!(matches!(large, OciError::TooLarge { .. }), "{large}");
    }

    /// As `wkg oci push` writes one, whose configuration also says who made it and for which world.
    #[test]
    fn what_other_tools_put_there_is_read() {
        let bytes = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{"mediaType":"application/vnd.wasm.config.v0+json",
                "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":615},
            "layers":[{"mediaType":"application/wasm",
                "digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","size":3,"annotations":null}],
            "annotations":{"org.opencontainers.image.licenses":"Apache-2.0"}}"#;
        let read = ArtifactManifest::read(bytes, MOST).unwrap();
        assert_eq!(read, ArtifactManifest { component: Digest::of(b"abc"), size: 3, signature: None });
    }

    #[test]
    fn what_is_no_plugin_says_why() {
        let good = json!({
            "schemaVersion": 2,
            "config": { "mediaType": CONFIG_TYPE, "digest": Digest::of(b"").as_str(), "size": 0 },
            "layers": [{ "mediaType": LAYER_TYPE, "digest": Digest::of(b"").as_str(), "size": 0 }],
        });
        assert!(ArtifactManifest::read(good.to_string().as_bytes(), MOST).is_ok());
        let image = "application/vnd.oci.image.layer.v1.tar+gzip";
        for (place, value, said) in [
            ("/schemaVersion", json!(1), "version 2"),
            ("/config/mediaType", json!("application/vnd.oci.image.config.v1+json"), "its configuration is"),
            ("/layers", json!([]), "0 layers"),
            ("/layers/0/mediaType", json!(image), "its layer is"),
            ("/layers/0/digest", json!("sha256:../../etc"), "a digest is"),
            ("/layers/0/size", json!(-1), "does not read"),
            ("/config", json!({}), "does not read"),
        ] {
            let mut other = good.clone();
            *other.pointer_mut(place).unwrap() = value;
            let said_is = problem(other.to_string().as_bytes());
            assert!(said_is.contains(said), "{place}: {said_is}");
        }
        let mut unsigned = good.clone();
        unsigned["annotations"] = json!({ "kith.minisig": "?" });
        assert!(problem(unsigned.to_string().as_bytes()).contains("its signature does not read"));
        assert!(problem(br#"{"schemaVersion":2,"manifests":[]}"#).contains("a list of several"));
        assert!(problem(b"<html>").contains("does not read"));
    }
}
