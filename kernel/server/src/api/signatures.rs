//! What is said of plugins' signatures, what is insisted on before one is taken or installed, and where a workspace says how
//! much. What a signature is worth is `signatures/trust.rs`'s part.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kith_model::plugin::is_dev;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Authority, Json, right};
use super::view::time;
use crate::app::App;
use crate::catalogue::publishers::SignatureRow;
use crate::catalogue::{PluginRow, Tables, WorkspaceTables};
use crate::error::{ApiError, Mistake, Problem};
use crate::signatures::trust::{Judgement, Known, SignaturePolicy, SignatureState, judge};

/// The header in which a signature comes with a component.
pub(super) const SIGNATURE_HEADER: &str = "kith-signature";

/// How the signature of a plugin version stands, by the publishers that are known now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignatureBody {
    /// `unsigned`, `valid`, `unknown-key`, `unchecked`, `forged`, `revoked`, `expired`, `not-yet-valid` or `other-namespace`.
    #[schema(value_type = String)]
    state: SignatureState,
    /// Whose key signed it.
    publisher: Option<String>,
    /// The key that it names.
    key_id: Option<String>,
    /// What the signer says of it, where the key is known.
    comment: Option<String>,
    /// When it came; a key's validity is judged by that.
    received_at: Option<String>,
    /// What is wrong; `null` where it is valid.
    problem: Option<String>,
}

/// Which plugins a workspace takes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignaturePolicyBody {
    /// What the workspace says: `any`, `known-publisher` or `required`.
    #[schema(value_type = String, pattern = "^(any|known-publisher|required)$")]
    policy: SignaturePolicy,
    /// What the host says, by its own publishers.
    #[schema(value_type = String, pattern = "^(any|known-publisher|required)$")]
    host: SignaturePolicy,
    /// The stricter of both.
    #[schema(value_type = String, pattern = "^(any|known-publisher|required)$")]
    in_force: SignaturePolicy,
}

/// Which plugins a workspace is to take.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedSignaturePolicy {
    /// `any`, `known-publisher` or `required`.
    #[schema(value_type = String, pattern = "^(any|known-publisher|required)$")]
    policy: SignaturePolicy,
}

/// Who is known in a workspace.
pub(super) fn known<'a>(all: &'a Tables, tables: &'a WorkspaceTables) -> Known<'a> {
    Known { host: &all.publishers, workspace: Some(&tables.publishers) }
}

/// How the signature of a version stands.
pub(super) fn signature_body(all: &Tables, tables: &WorkspaceTables, row: &PluginRow) -> SignatureBody {
    let Judgement { state, publisher, key, comment, problem, .. } =
        judge(&row.manifest.id, row.signature.as_ref(), known(all, tables));
    let received_at = row.signature.as_ref().map(|signature| time(signature.received_at));
    SignatureBody { state, publisher, key_id: key, comment, received_at, problem }
}

/// In which state a version's signature is.
pub(super) fn signature_state(all: &Tables, tables: &WorkspaceTables, row: &PluginRow) -> SignatureState {
    judge(&row.manifest.id, row.signature.as_ref(), known(all, tables)).state
}

/// The signature that a request's head carries, as the base64 of its file.
pub(super) fn signature_text(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(SIGNATURE_HEADER) else { return Ok(None) };
    let bad = || ApiError::at(SIGNATURE_HEADER, "is not the base64 of a `.minisig` file");
    let bytes = STANDARD.decode(value.as_bytes()).map_err(|_| bad())?;
    String::from_utf8(bytes).map(Some).map_err(|_| bad())
}

/// Give a version the signature that came with its component. One that is forged is refused whatever the policy: whoever sends it
/// believes that it holds.
pub(super) fn sign(
    app: &App,
    tables: &WorkspaceTables,
    row: &mut PluginRow,
    text: &str,
    component: &[u8],
) -> Result<(), ApiError> {
    let all = app.catalogue.tables();
    let known = known(&all, tables);
    let signature = SignatureRow::received(text, component, known, row.uploaded_at)
        .map_err(|error| ApiError::at(SIGNATURE_HEADER, error.to_string()))?;
    if signature.is_forged(&row.manifest.id, known) {
        let message = "does not hold: the component or the signature was changed, or another key made it";
        return Err(ApiError::BadInput {
            code: "bad-signature",
            message: format!("the signature of {} {} {message}", row.manifest.id, row.manifest.version),
            mistakes: vec![Mistake { path: SIGNATURE_HEADER.to_owned(), message: message.to_owned() }],
        });
    }
    row.signature = Some(signature);
    Ok(())
}

/// Insist that a version may be taken and installed, by what the host and the workspace ask for.
pub(super) fn insist_on_trust(app: &App, tables: &WorkspaceTables, row: &PluginRow) -> Result<(), ApiError> {
    let all = app.catalogue.tables();
    let (plugin, signature) = (&row.manifest.id, row.signature.as_ref());
    if app.config.no_dev_versions && is_dev(&row.manifest.version) {
        let version = &row.manifest.version;
        let message = format!("{plugin} {version} is a dev version, and the server takes none (`--no-dev-versions`)");
        return Err(ApiError::BadInput { code: "dev-version-refused", message, mistakes: Vec::new() });
    }
    let of_host = Known { host: &all.publishers, workspace: None };
    let asked = [
        ("the server", app.config.signatures, of_host),
        ("the workspace", tables.signature_policy, known(&all, tables)),
    ];
    let by_all = judge(plugin, signature, known(&all, tables));
    let findings = asked.into_iter().filter_map(|(who, policy, known)| {
        let judgement = judge(plugin, signature, known);
        let problem = judgement.refusal(policy)?;
        let own = by_all.publisher.as_ref();
        let own = own.filter(|_| known.workspace.is_none() && by_all.state == SignatureState::Valid);
        let own =
            own.map(|name| format!("; the server counts the host's publishers alone, and `{name}` is the workspace's"));
        Some(match judgement.is_never_taken() {
            true => format!("{problem}; no policy takes that"),
            false => format!("{who} has `signatures` at `{policy}`, and {problem}{}", own.unwrap_or_default()),
        })
    });
    let mut findings: Vec<String> = findings.collect();
    findings.dedup();
    if findings.is_empty() { Ok(()) } else { Err(refused(row, "is not taken", &findings)) }
}

/// Insist that an installation that does not run may run again: whatever the policy, none is put to work anew with a version that no
/// policy takes. One that runs goes on.
pub(super) fn insist_on_start(app: &App, tables: &WorkspaceTables, row: &PluginRow) -> Result<(), ApiError> {
    let all = app.catalogue.tables();
    let judgement = judge(&row.manifest.id, row.signature.as_ref(), known(&all, tables));
    match judgement.problem.as_deref() {
        Some(problem) if judgement.is_never_taken() => {
            let why = format!("{problem}; change to another version of it, or remove the installation");
            Err(refused(row, "is not started again", &[why]))
        }
        _ => Ok(()),
    }
}

fn refused(row: &PluginRow, what: &str, findings: &[String]) -> ApiError {
    let mistake = |message: &String| Mistake { path: "signature".to_owned(), message: message.clone() };
    let message = format!("{} {} {what}: {}", row.manifest.id, row.manifest.version, findings.join("; "));
    ApiError::BadInput { code: "signature-refused", message, mistakes: findings.iter().map(mistake).collect() }
}

fn policy_body(app: &App, policy: SignaturePolicy) -> SignaturePolicyBody {
    let host = app.config.signatures;
    SignaturePolicyBody { policy, host, in_force: policy.max(host) }
}

/// Which plugins the workspace takes, by their signatures.
#[utoipa::path(
    get, path = "/api/v1/signature-policy", tag = "plugins", security(("key" = ["plugins:admin"])),
    responses((status = 200, body = SignaturePolicyBody)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
) -> Result<Json<SignaturePolicyBody>, ApiError> {
    let policy = app.catalogue.workspace(authority.caller.workspace)?.signature_policy;
    Ok(Json(policy_body(&app, policy)))
}

/// Say which plugins the workspace takes from now on. What is installed goes on running.
#[utoipa::path(
    put, path = "/api/v1/signature-policy", tag = "plugins", security(("key" = ["plugins:admin"])),
    request_body = WantedSignaturePolicy,
    responses(
        (status = 200, body = SignaturePolicyBody), (status = 400, body = Problem), (status = 413, body = Problem),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Json(wanted): Json<WantedSignaturePolicy>,
) -> Result<Json<SignaturePolicyBody>, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    app.offload(move |app| {
        app.change(workspace, actor, |draft| {
            let before = draft.tables().signature_policy;
            if before != wanted.policy {
                let shown = |policy: SignaturePolicy| Some(json!({ "policy": policy }));
                draft.audit("signature-policy.change", "signatures", shown(before), shown(wanted.policy))?;
                draft.put_signature_policy(wanted.policy);
            }
            Ok(())
        })?;
        Ok(Json(policy_body(app, wanted.policy)))
    })
    .await
}
