//! Removing an installation: what goes with it is shown first, because only a removal takes values back from people.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::audience::Audience;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::Grants;
use kith_pipeline::{QueryError, Removal};
use serde_json::json;

use super::body::public;
use super::named;
use crate::api::extract::{Authority, Confirmation, Path, Query, right};
use crate::api::masks::Sight;
use crate::api::plugins::computes;
use crate::app::App;
use crate::auth::digest;
use crate::catalogue::{CredentialRow, Draft, InstallationRow, UnshownRow, WorkspaceTables};
use crate::error::{ApiError, Problem};

/// Remove an installation with its secrets, fits, write keys and the plugin's own state. A tag model's tags and a scorer's
/// scores go with it: where people hold some, or an audience reads them, the answer is 409 with `people`, `audiences` and a
/// `token`, and the removal is done when it comes again with that token in `confirm`. Without the scope `profiles:read` it is so
/// whether somebody holds one or nobody, and `people` is `null`. Events stay.
#[utoipa::path(
    delete, path = "/api/v1/installations/{id}", tag = "installations",
    params(("id" = String, Path, description = "the installation's name"), Confirmation),
    security(("key" = ["plugins:admin"])),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    Query(query): Query<Confirmation>,
) -> Result<StatusCode, ApiError> {
    let (workspace, actor, caller) = (authority.caller.workspace, authority.actor(), authority.caller);
    app.offload(move |app| {
        // Counting takes longer than others may be held up, so it comes before the change.
        let seen = app.catalogue.workspace(workspace)?;
        let row = named(&seen, &name)?;
        check_unused(&seen, row.id)?;
        confirm(app, &seen, row, query.confirm.as_deref(), caller.sight())?;
        let removed = app.change(workspace, actor, |draft| {
            let before = InstallationRow::clone(named(draft.tables(), &name)?);
            if before.id != row.id || before.version != row.version || draft.tables().audiences != seen.audiences {
                let message = "an installation or audience was changed at the same moment; look again".to_owned();
                return Err(ApiError::Conflict { code: "changed-meanwhile", message });
            }
            take_out(app, draft, workspace, before)?;
            Ok(StatusCode::NO_CONTENT)
        })?;
        // What is left of it, also by a call that is under way, goes with the next round of `retention`.
        if let (_, Err(error)) = app.wiring.states().of(workspace, row.id).clear() {
            tracing::warn!(installation = %name, %error, "what a removed plugin kept is there still");
        }
        Ok(removed)
    })
    .await
}

/// A channel that an audience sends through cannot be removed.
fn check_unused(tables: &WorkspaceTables, id: InstallationId) -> Result<(), ApiError> {
    let sends =
        |audience: &Audience| [&audience.on_enter, &audience.on_exit].into_iter().flatten().any(|a| a.channel == id);
    match tables.audiences.values().find(|audience| sends(audience)) {
        None => Ok(()),
        Some(audience) => {
            let message = format!("audience `{}` sends through it; change the audience first", audience.name);
            Err(ApiError::Conflict { code: "in-use", message })
        }
    }
}

/// Insist that who removes it knows what goes with it as it is now.
fn confirm(
    app: &App,
    tables: &WorkspaceTables,
    row: &InstallationRow,
    given: Option<&str>,
    sight: Sight,
) -> Result<(), ApiError> {
    if !tables.plugin_of(row).is_some_and(|plugin| computes(plugin.manifest.kind)) {
        return Ok(());
    }
    let removal = match app.kernel.removal(tables.row.id, row.id) {
        // What never ran has written nothing.
        Err(QueryError::UnknownInstallation) => Removal::default(),
        counted => counted?,
    };
    // Who chose what the plugin asks of people learns neither from the number nor from its absence who answered.
    let people = (sight == Sight::People).then_some(removal.people);
    let token = token(row, people, &removal);
    let is_for_nothing = people == Some(0) && removal.audiences.is_empty();
    if is_for_nothing || given == Some(token.as_str()) {
        return Ok(());
    }
    let audiences: Vec<String> = removal.audiences.iter().map(|id| tables.audience_name(*id)).collect();
    let of_audiences = match audiences.as_slice() {
        [] => "no audience reads".to_owned(),
        names => format!("{} audiences ({}) read", names.len(), names.join(", ")),
    };
    let hold = match people {
        Some(people) => format!("{people} people hold"),
        None => "people may hold (how many needs the scope `profiles:read`)".to_owned(),
    };
    let message = format!(
        "{hold} a value of `{}`, and {of_audiences} its outputs; these values go with it. To remove it all the same, send \
         `?confirm={token}`",
        row.name
    );
    let details = json!({ "people": people, "audiences": audiences, "token": token });
    Err(ApiError::Unconfirmed { code: "confirmation-required", message, details })
}

/// Changes with anything that a removal's numbers say to who sees them: enough guesses would find a number that is in it.
fn token(row: &InstallationRow, people: Option<u64>, removal: &Removal) -> String {
    let audiences: Vec<u32> = removal.audiences.iter().map(|id| id.0).collect();
    let people = people.map_or_else(|| "-".to_owned(), |people| people.to_string());
    let text = format!("{} {} {people} {audiences:?}", row.id.0, row.version);
    digest(text.as_bytes())[..16].to_owned()
}

/// Take an installation and all that is its own out of the catalogue. Its name stays, for its events do.
fn take_out(app: &App, draft: &mut Draft<'_>, workspace: WorkspaceId, before: InstallationRow) -> Result<(), ApiError> {
    let now = draft.now();
    let tables = app.catalogue.tables();
    for key in tables.credentials.values() {
        if key.workspace == workspace && key.source == Some(before.id) && key.revoked_at.is_none() {
            draft.put_credential(CredentialRow { revoked_at: Some(now), ..CredentialRow::clone(key) });
        }
    }
    draft.clear_installation(before.id)?;
    draft.audit("installation.remove", &before.name, Some(public(&before)), None)?;
    let (config, unshown, grants) = (json!({}), UnshownRow::default(), Grants::default());
    draft.put_installation(InstallationRow {
        removed_at: Some(now),
        config,
        unshown,
        grants,
        fit: None,
        shadow: None,
        backtest: None,
        falls_back_to: None,
        ..before
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use kith_model::id::AudienceId;

    use super::*;

    #[test]
    fn a_token_holds_for_what_was_seen_and_nothing_else() {
        let row = |version: &str| InstallationRow {
            version: version.parse().unwrap(),
            ..crate::api::tests::installation_row(3, "level")
        };
        let token = |version: &str, people: Option<u64>, audiences: &[u32]| {
            let audiences = audiences.iter().copied().map(AudienceId).collect();
            super::token(&row(version), people, &Removal { people: people.unwrap_or(300), audiences })
        };
        let seen = token("1.0.0", Some(300), &[7]);
        assert_eq!(seen, token("1.0.0", Some(300), &[7]));
        for (version, people, audiences) in [
            ("1.0.1", Some(300), &[7][..]),
            ("1.0.0", Some(301), &[7]),
            ("1.0.0", Some(300), &[7, 8]),
            ("1.0.0", None, &[7]),
        ] {
            assert_ne!(seen, token(version, people, audiences));
        }
    }
}
