//! What requests want of installations.

use std::collections::BTreeMap;
use std::fmt;

use kith_model::plugin::Grants;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::fitting_rules::WantedFitting;

/// What to install.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewInstallation {
    /// `vendor/name`.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}/[a-z][a-z0-9-]{0,63}$")]
    pub(super) plugin: String,
    /// The newest unless told.
    pub(super) version: Option<String>,
    /// `sha256:` and the digest that the version's component must have.
    #[schema(pattern = "^(sha256:)?[0-9A-Fa-f]{64}$")]
    pub(super) digest: Option<String>,
    /// Allow a version below the highest that the workspace ever installed of the plugin.
    #[serde(default)]
    pub(super) allow_downgrade: bool,
    /// Its name in the workspace; the plugin's unless told.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    pub(super) name: Option<String>,
    /// What the plugin's schema asks for.
    #[schema(value_type = Option<Object>)]
    pub(super) config: Option<Value>,
    /// `{"http": ["host"], "networks": ["10.1.0.0/16"], "secrets": {"name": ["host"]}, "kv_bytes": 0, "recipients": ["email"],
    /// "purposes": ["service"], "emits": ["Order Completed"], "consent": "give", "limits": {}}`; nothing unless told. A host of `http` may have methods
    /// before it, `GET,HEAD host`, and is granted no others. `networks` are private ranges that the hosts may be in, of those
    /// that the server is started with. Without `recipients`, or with `*` among them, a channel is given the types of
    /// identifiers that its manifest asks for; without `purposes` it carries messages for those that its manifest names, or
    /// for every one where that names none; without `emits` a plugin may emit the events that its manifest names. `consent` lets a source end refusals of consent, which its write key may not
    /// else. `limits` are lower ones than the host's: `memory_bytes`, `cpu_ms`, `wall_ms`, `fuel`, `output_bytes`,
    /// `log_bytes`, `host_calls`, of a connector or a channel `requests_per_minute`, and of a channel `messages_at_once` and
    /// `requests_per_host`, how much it sends at once. `"later"` installs it without grants although its configuration
    /// names hosts.
    #[serde(default)]
    #[schema(value_type = Value)]
    pub(super) grants: WantedGrants,
    /// Name → value. Never shown again.
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, String>,
    /// When a tag model or a scorer is fitted without being asked, never unless told, and which fits are put in use.
    #[serde(default)]
    pub(super) fitting: WantedFitting,
    /// `live` unless told, or `disabled`.
    #[schema(pattern = "^(live|disabled)$")]
    pub(super) mode: Option<String>,
    /// How often a connector that polls does so, where not as its manifest says.
    pub(super) poll: Option<WantedPoll>,
}

/// How often to poll.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedPoll {
    /// `5m`, `6h` or `1d`, a minute at least; `null` for what the manifest says.
    #[schema(pattern = "^[1-9][0-9]{0,5}[smhd]$")]
    pub(super) interval: Option<String>,
}

/// What to change; absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchInstallation {
    /// Merged into the present one (RFC 7396): what is absent stays, and `null` puts a key back to its default.
    #[schema(value_type = Option<Object>)]
    pub(super) config: Option<Value>,
    /// All grants, in place of the present ones. Limits hold at once. `"later"` leaves them as they are, although the
    /// configuration names hosts that are not granted.
    #[schema(value_type = Value, required = false)]
    pub(super) grants: Option<WantedGrants>,
    /// Name → value, or `null` to forget it. Names that are absent stay.
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, Option<String>>,
    /// When a tag model or a scorer is fitted without being asked, and which fits are put in use; what is absent stays.
    #[serde(default)]
    pub(super) fitting: WantedFitting,
    /// `live` or `disabled`; `live` also ends a quarantine, during which a model can be fitted.
    #[schema(pattern = "^(live|disabled)$")]
    pub(super) mode: Option<String>,
    /// How often a connector that polls does so.
    pub(super) poll: Option<WantedPoll>,
    /// Upgrade or downgrade to this version.
    pub(super) version: Option<String>,
    /// `sha256:` and the digest that the component of this version, or of the present one, must have.
    #[schema(pattern = "^(sha256:)?[0-9A-Fa-f]{64}$")]
    pub(super) digest: Option<String>,
    /// Allow a version below the highest that the workspace ever installed of the plugin.
    #[serde(default)]
    pub(super) allow_downgrade: bool,
    /// Allow a version that asks for more than the present one.
    #[serde(default)]
    pub(super) consent: bool,
    /// Change nothing: the answer has in `changed` what would be, and what would be refused is.
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// Grants as they are asked for.
#[allow(clippy::large_enum_variant, reason = "there is one in a request")]
pub(super) enum WantedGrants {
    Given(Grants),
    /// None now, and hosts that the configuration names are granted later.
    Later,
}

impl Default for WantedGrants {
    fn default() -> WantedGrants {
        WantedGrants::Given(Grants::default())
    }
}

impl<'de> Deserialize<'de> for WantedGrants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WantedGrants, D::Error> {
        struct GrantsVisitor;

        impl<'de> Visitor<'de> for GrantsVisitor {
            type Value = WantedGrants;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of grants, or `later`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WantedGrants, E> {
                match text {
                    "later" => Ok(WantedGrants::Later),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<WantedGrants, A::Error> {
                Grants::deserialize(MapAccessDeserializer::new(members)).map(WantedGrants::Given)
            }
        }

        deserializer.deserialize_any(GrantsVisitor)
    }
}
