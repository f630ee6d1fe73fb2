//! The versions of the contract between kernel and plugins that this server loads, and what is promised of each.

use axum::Json;
use kith_host::{Abi, AbiWorld};
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::queries::KnownQuery;

/// The versions of the contract that this server loads, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AbiVersions {
    items: Vec<AbiBody>,
    /// The one that new plugins are written for.
    current: String,
}

/// A version of the contract between kernel and plugins.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AbiBody {
    /// As a manifest's `abi` writes it, e.g. `0.2`.
    version: String,
    /// Its WIT package, e.g. `kith:plugin@0.2.0`.
    package: String,
    /// `frozen`, and it never changes again, or `open`, and it may until it is frozen.
    status: String,
    /// The first kernel that loads it.
    since: String,
    /// How long it is loaded, in words.
    support: String,
    worlds: Vec<WorldBody>,
}

/// What a kind of plugins imports and exports.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorldBody {
    /// `connector`, `tag-model`, `scorer` or `channel`.
    kind: String,
    /// The host interfaces that it may import.
    imports: Vec<String>,
    exports: Vec<String>,
    /// Those of its exports that a component may go without.
    optional: Vec<String>,
}

fn abi_body(abi: Abi) -> AbiBody {
    let world = |world: AbiWorld| {
        let AbiWorld { kind, imports, exports, optional } = world;
        WorldBody { kind: kind.to_string(), imports, exports, optional }
    };
    AbiBody {
        version: abi.to_string(),
        package: abi.package().to_owned(),
        status: abi.status().as_str().to_owned(),
        since: abi.since().to_owned(),
        support: abi.support().to_owned(),
        worlds: abi.worlds().into_iter().map(world).collect(),
    }
}

/// The versions of the contract between kernel and plugins that this server loads: whether each still changes, how long it is
/// loaded, and what each kind of plugins imports and exports in it.
#[utoipa::path(get, path = "/api/v1/abi", tag = "plugins", responses((status = 200, body = AbiVersions)))]
pub(crate) async fn abi(_: KnownQuery) -> Json<AbiVersions> {
    Json(AbiVersions { items: Abi::ALL.map(abi_body).into(), current: Abi::CURRENT.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_says_whether_it_changes_and_how_long_it_is_loaded() {
        let versions: Vec<AbiBody> = Abi::ALL.map(abi_body).into();
        let written: Vec<(&str, &str)> =
            versions.iter().map(|abi| (abi.version.as_str(), abi.package.as_str())).collect();
        assert_eq!(written, [("0.1", "kith:plugin@0.1.0"), ("0.2", "kith:plugin@0.2.0")]);
        for abi in &versions {
            assert_eq!(abi.status, "frozen", "{}", abi.version);
            assert!(abi.support.contains("by every kernel 0.x"), "{}: {}", abi.version, abi.support);
            assert_eq!(abi.since, "0.1.0");
            let kinds: Vec<&str> = abi.worlds.iter().map(|world| world.kind.as_str()).collect();
            assert_eq!(kinds, ["connector", "tag-model", "scorer", "channel"]);
            let of_channel = &abi.worlds[3];
            let sends = of_channel.imports.contains(&format!("kith:plugin/http@{}.0", abi.version));
            assert_eq!(sends, abi.version == "0.1", "from 0.2 on the kernel sends");
        }
    }
}
