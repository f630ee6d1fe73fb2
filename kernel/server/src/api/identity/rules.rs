//! The identity rules of a workspace, read and replaced as one document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use kith_model::id::WorkspaceId;
use kith_model::identity::{AliasRule, Case, IdentityRules, Shape, TypeRules};
use kith_pipeline::change_token;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::extract::{Authority, Confirmation, Json as Body, Query, right};
use crate::app::App;
use crate::catalogue::Actor;
use crate::error::{ApiError, Problem};

/// What is an identifier, and what may be joined. What is absent has its default.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IdentityRulesBody {
    /// How many different values of a type one person may have.
    limits: BTreeMap<String, usize>,
    /// Types from the strongest to the weakest; an event belongs to its strongest identifier.
    priority: Vec<String>,
    /// Values that name nobody, whatever their type, in any case; beside the placeholders that Kith knows.
    #[schema(value_type = Vec<String>)]
    blocked_values: BTreeSet<String>,
    /// Values that name somebody although Kith takes them for placeholders.
    #[schema(value_type = Vec<String>)]
    allowed_values: BTreeSet<String>,
    /// Identifiers of one person at most.
    max_members: usize,
    /// An identifier that came with more identifiers of a limited, stronger type ties nobody.
    shared_above: usize,
    /// What values of a type are.
    types: BTreeMap<String, TypeRulesBody>,
    /// The country of telephone numbers that come without one, e.g. `DE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_region: Option<String>,
    /// `merge`: an alias from one user to another makes them one. `refuse`: it does not, and is counted as not followed.
    #[schema(value_type = String, pattern = "^(merge|refuse)$")]
    alias: AliasRule,
    /// Identifiers that tie nobody, each as `TYPE:VALUE` in its normal form: all that they tied is undone.
    #[schema(value_type = Vec<String>)]
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    ties_nobody: BTreeSet<String>,
    /// Evidence that is not followed: `same_event`, `alias`, `spelling` or `same_id`, or one of them with a type, e.g.
    /// `same_event:phone`. All that it tied is undone.
    #[schema(value_type = Vec<String>)]
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    unfollowed: BTreeSet<String>,
}

/// What a value of one type is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TypeRulesBody {
    /// `keep`, or `fold`: `Ada` and `ada` are one value.
    #[schema(value_type = String, pattern = "^(keep|fold)$")]
    case: Case,
    /// `any`, `email` or `phone`.
    #[schema(value_type = String, pattern = "^(any|email|phone)$")]
    shape: Shape,
    /// Values of this type that name nobody.
    #[schema(value_type = Vec<String>)]
    blocked_values: BTreeSet<String>,
    /// The longest value, in bytes; 512 unless told.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<usize>,
}

impl Default for IdentityRulesBody {
    fn default() -> IdentityRulesBody {
        IdentityRulesBody::from(&IdentityRules::default())
    }
}

impl From<&IdentityRules> for IdentityRulesBody {
    fn from(rules: &IdentityRules) -> IdentityRulesBody {
        let types = rules.types.iter().map(|(kind, rules)| {
            let TypeRules { case, shape, blocked_values, max_bytes } = rules.clone();
            (kind.clone(), TypeRulesBody { case, shape, blocked_values, max_bytes })
        });
        let types = types.collect();
        let IdentityRules {
            limits,
            priority,
            blocked_values,
            allowed_values,
            max_members,
            shared_above,
            types: _,
            phone_region,
            alias,
            ties_nobody,
            unfollowed,
        } = rules.clone();
        IdentityRulesBody {
            limits,
            priority,
            blocked_values,
            allowed_values,
            max_members,
            shared_above,
            types,
            phone_region,
            alias,
            ties_nobody,
            unfollowed,
        }
    }
}

impl IdentityRulesBody {
    pub(super) fn checked(self) -> Result<IdentityRules, ApiError> {
        let types = self.types.into_iter().map(|(kind, rules)| {
            let TypeRulesBody { case, shape, blocked_values, max_bytes } = rules;
            (kind, TypeRules { case, shape, blocked_values, max_bytes })
        });
        let rules = IdentityRules {
            limits: self.limits,
            priority: self.priority,
            blocked_values: self.blocked_values,
            allowed_values: self.allowed_values,
            max_members: self.max_members,
            shared_above: self.shared_above,
            types: types.collect(),
            phone_region: self.phone_region,
            alias: self.alias,
            ties_nobody: self.ties_nobody,
            unfollowed: self.unfollowed,
        };
        rules.check().map_err(|error| ApiError::at(error.field, error.problem))?;
        Ok(rules)
    }
}

/// The identity rules in force.
#[utoipa::path(
    get, path = "/api/v1/identity/rules", tag = "identity", security(("key" = ["profiles:read"])),
    responses((status = 200, body = IdentityRulesBody)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
) -> Result<Json<IdentityRulesBody>, ApiError> {
    let tables = app.catalogue.workspace(authority.caller.workspace)?;
    Ok(Json(IdentityRulesBody::from(&*tables.identity_rules())))
}

/// Replace the identity rules: what is absent has its default again. They hold for what comes from now on, and history is tied
/// by them in the background; `POST /api/v1/identity/rules/dry-run` tells before what that does, and its `token` in `confirm`
/// lets the change be made only from the rules that it was looked at with.
#[utoipa::path(
    put, path = "/api/v1/identity/rules", tag = "identity", security(("key" = ["identity:write"])), params(Confirmation),
    request_body = IdentityRulesBody,
    responses(
        (status = 200, body = IdentityRulesBody), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 413, body = Problem),
    ),
)]
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    authority: Authority<right::IdentityWrite>,
    Query(query): Query<Confirmation>,
    Body(wanted): Body<IdentityRulesBody>,
) -> Result<Json<IdentityRulesBody>, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    let rules = wanted.checked()?;
    put(&app, workspace, actor, "identity.rules", rules, query.confirm).await.map(Json)
}

/// Put rules in force, audited; with a token only where they take the place of those that it names.
pub(super) async fn put(
    app: &Arc<App>,
    workspace: WorkspaceId,
    actor: Actor,
    action: &'static str,
    rules: IdentityRules,
    token: Option<String>,
) -> Result<IdentityRulesBody, ApiError> {
    app.offload(move |app| {
        let shown = |rules: &IdentityRules| {
            serde_json::to_value(IdentityRulesBody::from(rules))
                .map_err(|error| ApiError::internal("writing identity rules", error))
        };
        app.change(workspace, actor, |draft| {
            let current = draft.tables().identity_rules();
            if token.as_deref().is_some_and(|token| token != change_token(workspace, &current, &rules)) {
                let message = "the token is of another change, or the identity rules have changed since; look again at what \
                               the change does";
                return Err(ApiError::Conflict { code: "confirmation-stale", message: message.to_owned() });
            }
            if *current == rules {
                return Ok(IdentityRulesBody::from(&rules));
            }
            let (before, after) = (shown(&current)?, shown(&rules)?);
            draft.audit(action, "identity rules", Some(before), Some(after))?;
            draft.put_identity_rules(rules.clone());
            Ok(IdentityRulesBody::from(&rules))
        })
    })
    .await
}
