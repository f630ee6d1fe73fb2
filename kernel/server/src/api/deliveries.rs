//! What was sent, to whom and with which outcome. What failed is `letters.rs`.

use std::sync::Arc;

use axum::extract::State;
use kith_model::change::Movement;
use kith_model::delivery::DeliveryState;
use kith_model::id::ProfileId;
use kith_model::identity::Identifier;
use kith_model::plugin::InstallationMode;
use kith_pipeline::{DeliveryFilter, DeliveryView, PageRequest};
use serde::{Deserialize, Serialize};
#[cfg(test)]
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Authority, Query, WrittenJson, page_limit, right};
use super::masks::Sight;
use super::profiles::{no_profile, person, profile_id};
use super::sensitive::Mask;
use super::view::{Page, json, time};
use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::catalogue::WorkspaceTables;
use crate::error::{ApiError, Problem};

/// One message to one person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryBody {
    id: String,
    channel: String,
    audience: String,
    /// Whether that audience has been removed. What waited of it is not sent.
    audience_removed: bool,
    /// The audience's action that it is of.
    action: ActionName,
    /// `null` where it is withheld.
    profile: Option<String>,
    purpose: String,
    #[schema(value_type = Value)]
    payload: Box<RawValue>,
    created_at: String,
    #[serde(flatten)]
    state: StateBody,
    /// Why a message in the outbox does not leave, and what to do: its channel was stopped or is switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits: Option<String>,
    /// The fields that are `null` because the key has no scope `profiles:read`, or `sensitive:read` where it takes that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    withheld: Vec<&'static str>,
}

/// Which action of an audience made a message.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ActionName {
    OnEnter,
    OnExit,
}

/// Which deliveries are listed: those that meet all that is given.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryQuery {
    /// How many at most; 50 unless told, 500 at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// An audience's name; removed ones of that name count.
    #[param(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    audience: Option<String>,
    /// A channel's name; removed ones of that name count.
    #[param(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    channel: Option<String>,
    /// `pending`, `sending`, `accepted`, `delivered`, `skipped`, `dead` or `unknown`.
    #[param(pattern = "^(pending|sending|accepted|delivered|skipped|dead|unknown)$")]
    state: Option<String>,
    /// A profile's id or `TYPE:VALUE`, for whoever may read profiles.
    person: Option<String>,
}

/// Where a delivery stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum StateBody {
    /// In the outbox.
    Pending {
        attempts: u32,
        due_at: String,
        last_reason: Option<String>,
    },
    /// The attempt has begun; its request may be on its way.
    Sending {
        attempts: u32,
        since: String,
    },
    /// The attempt was cut off; it may have arrived. Replay it to send it again.
    Unknown {
        attempts: u32,
        since: String,
    },
    /// A provider took it; whether it arrives is not known yet.
    Accepted {
        attempts: u32,
        at: String,
        provider_id: Option<String>,
    },
    Delivered {
        attempts: u32,
        at: String,
        provider_id: Option<String>,
    },
    /// The gate refused it, e.g. for lack of consent; nothing was sent.
    Skipped {
        at: String,
        reason: String,
    },
    /// Given up; listed among the dead letters until replayed.
    Dead {
        attempts: u32,
        at: String,
        /// `null` where it is withheld.
        reason: Option<String>,
    },
}

fn state_body(state: DeliveryState) -> StateBody {
    match state {
        DeliveryState::Pending { attempts, due_at, last_reason } => {
            StateBody::Pending { attempts, due_at: time(due_at), last_reason }
        }
        DeliveryState::Delivered { attempts, at, provider_id } => {
            StateBody::Delivered { attempts, at: time(at), provider_id }
        }
        DeliveryState::Skipped { at, reason } => StateBody::Skipped { at: time(at), reason },
        DeliveryState::Dead { attempts, at, reason } => {
            StateBody::Dead { attempts, at: time(at), reason: Some(reason) }
        }
        DeliveryState::Accepted { attempts, at, provider_id } => {
            StateBody::Accepted { attempts, at: time(at), provider_id }
        }
        DeliveryState::Sending { attempts, since } => StateBody::Sending { attempts, since: time(since) },
        DeliveryState::Unknown { attempts, since } => StateBody::Unknown { attempts, since: time(since) },
    }
}

/// Leaves out what tells of one person, where it must not be seen, and says what.
pub(super) struct Withholding {
    sight: Sight,
    pub(super) fields: Vec<&'static str>,
}

impl Withholding {
    pub(super) fn new(sight: Sight) -> Withholding {
        Withholding { sight, fields: Vec::new() }
    }

    pub(super) fn of<T>(&mut self, field: &'static str, value: T) -> Option<T> {
        if self.sight == Sight::People {
            return Some(value);
        }
        self.fields.push(field);
        None
    }
}

/// Why a message that is due does not leave. Why a channel was stopped may be a peer's words, which are for those who may see people.
fn waits_for(tables: &WorkspaceTables, view: &DeliveryView, sight: Sight) -> Option<String> {
    if !matches!(view.state, DeliveryState::Pending { .. }) {
        return None;
    }
    let channel = tables.installations.get(&view.channel).filter(|row| row.removed_at.is_none())?;
    let enable = format!("`kith plugin enable {}`", channel.name);
    match channel.mode {
        InstallationMode::Live | InstallationMode::Shadow => None,
        InstallationMode::Disabled => Some(format!("its channel is switched off; {enable} lets it go")),
        InstallationMode::Quarantined => {
            let why = channel.mode_reason.as_ref().filter(|_| sight == Sight::People);
            let why = why.map_or_else(String::new, |why| format!(". Why it was stopped: {why}"));
            Some(format!("its channel was stopped; once the cause is mended, {enable} lets it go{why}"))
        }
    }
}

pub(super) fn delivery_body(tables: &WorkspaceTables, view: DeliveryView, sight: Sight) -> DeliveryBody {
    let waits = waits_for(tables, &view, sight);
    let mut withholding = Withholding::new(sight);
    let profile = withholding.of("profile", view.profile.to_string());
    let mut state = state_body(view.state);
    // A peer's words may name whom it would not write to.
    match &mut state {
        StateBody::Dead { reason, .. } => *reason = reason.take().and_then(|text| withholding.of("reason", text)),
        StateBody::Pending { last_reason, .. } => {
            *last_reason = last_reason.take().and_then(|text| withholding.of("last_reason", text));
        }
        StateBody::Sending { .. }
        | StateBody::Unknown { .. }
        | StateBody::Accepted { .. }
        | StateBody::Delivered { .. }
        | StateBody::Skipped { .. } => {}
    }
    DeliveryBody {
        id: view.id,
        channel: tables.installation_name(view.channel),
        audience: tables.audience_name(view.audience),
        audience_removed: !tables.audiences.contains_key(&view.audience),
        action: match view.movement {
            Movement::Entered => ActionName::OnEnter,
            Movement::Left => ActionName::OnExit,
        },
        profile,
        purpose: view.purpose,
        payload: json(&view.payload),
        created_at: time(view.created_at),
        state,
        waits,
        withheld: withholding.fields,
    }
}

/// What was sent, to whom, with which outcome, the newest first. To whom, and a peer's words, need the scope `profiles:read` too. A page may hold less than its limit, even nothing, and still
/// have a next one.
#[utoipa::path(
    get, path = "/api/v1/deliveries", tag = "deliveries", params(DeliveryQuery),
    security(("key" = ["deliveries:read"])),
    responses(
        (status = 200, body = Page<DeliveryBody>), (status = 400, body = Problem),
        (status = 404, body = Problem, description = "there is no such person"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesRead>,
    Query(query): Query<DeliveryQuery>,
) -> Result<WrittenJson, ApiError> {
    let caller = authority.caller;
    let limit = page_limit(query.limit)?;
    app.offload(move |app| {
        let workspace = caller.workspace;
        let tables = app.catalogue.workspace(workspace)?;
        let filter = filter(app, &caller, &tables, &query)?;
        let page = app.kernel.deliveries(workspace, &filter, PageRequest { limit, cursor: query.cursor.as_deref() })?;
        if caller.sight() == Sight::People {
            app.reads.note(&caller, "delivery.list", page.items.iter().map(|view| person(view.profile)));
        }
        let mask = Mask::new(&tables, &caller);
        let seen = page.items.into_iter().map(|view| {
            let sight = mask.sight_of(&tables, view.audience, caller.sight());
            (view, sight)
        });
        // Whoever asks for one person is told nothing of the messages of which it must not be seen to whom they went.
        let told = seen.filter(|(_, sight)| query.person.is_none() || *sight == Sight::People);
        let items = told.map(|(view, sight)| delivery_body(&tables, view, sight)).collect();
        WrittenJson::of(&Page { items, next: page.next })
    })
    .await
}

fn filter(
    app: &App,
    caller: &Caller,
    tables: &WorkspaceTables,
    query: &DeliveryQuery,
) -> Result<DeliveryFilter, ApiError> {
    let unknown = |part: &str, name: &str| {
        let shown: String = name.chars().take(64).collect();
        ApiError::at(format!("?{part}"), format!("there is no {part} `{shown}`, and there was none"))
    };
    let mut filter = DeliveryFilter::default();
    if let Some(name) = &query.audience {
        let those = tables.audiences_ever_named(name);
        filter.audiences = Some(those).filter(|those| !those.is_empty());
        filter.audiences.as_ref().ok_or_else(|| unknown("audience", name))?;
    }
    if let Some(name) = &query.channel {
        let those = tables.installations_ever_named(name);
        filter.channels = Some(those).filter(|those| !those.is_empty());
        filter.channels.as_ref().ok_or_else(|| unknown("channel", name))?;
    }
    if let Some(wanted) = &query.state {
        let known = DeliveryState::NAMES.into_iter().find(|name| name == wanted);
        let unknown = || ApiError::at("?state", format!("write one of {}", DeliveryState::NAMES.join(", ")));
        filter.state = Some(known.ok_or_else(unknown)?);
    }
    if let Some(person) = &query.person {
        // To whom a message went only they may ask who may read profiles.
        caller.require(Scope::ProfilesRead)?;
        let workspace = caller.workspace;
        let found = match person.split_once(':') {
            Some((kind, value)) => app.kernel.profile_by_identifier(workspace, &Identifier::new(kind, value))?,
            None => app.kernel.profile(workspace, profile_id(person)?)?,
        };
        let members = found.ok_or_else(|| no_profile(person))?.members;
        filter.profiles = Some(members.into_iter().map(|(identity, _)| ProfileId(identity)).collect());
    }
    Ok(filter)
}

/// A delivery as the routes show it.
#[cfg(test)]
pub(super) fn shown(tables: &WorkspaceTables, view: DeliveryView, sight: Sight) -> Value {
    serde_json::to_value(delivery_body(tables, view, sight)).unwrap()
}
