//! What the gate would say of a message that nobody has made: for whoever asks what a change would send.

use kith_model::audience::Action;
use kith_model::change::Movement;
use kith_model::delivery::DeliveryState;
use kith_model::id::{AudienceId, ProfileId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{ReadError, Store};

use super::{ProfileLookup, Verdict, installed, judge, person_behind};
use crate::rows::DeliveryRow;
use crate::setup::Setup;

/// A message that nobody has made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Imagined<'a> {
    pub audience: AudienceId,
    pub movement: Movement,
    pub profile: ProfileId,
    pub action: &'a Action,
    pub at: Timestamp,
}

/// Why a message would not leave if it were made and claimed now; `None` where it would.
pub(crate) fn refusal(
    store: &dyn Store,
    workspace: WorkspaceId,
    setup: &Setup,
    message: Imagined<'_>,
) -> Result<Option<String>, ReadError> {
    let Imagined { audience, movement, profile, action, at } = message;
    let Some(channel) = installed(setup, action.channel) else {
        return Ok(Some("its channel was removed".to_owned()));
    };
    let row = DeliveryRow {
        channel: action.channel,
        audience,
        movement,
        profile,
        purpose: action.purpose.clone(),
        basis: action.basis,
        payload: action.payload.clone(),
        created_at: at,
        state: DeliveryState::Pending { attempts: 0, due_at: at, last_reason: None },
        cause: None,
    };
    let by = (workspace, &setup.realm_key, &setup.identity_rules);
    let mut found = person_behind(store, by, profile)?;
    // Nothing has set it off yet.
    if let ProfileLookup::Person(person) = &mut found {
        person.retraction = None;
    }
    Ok(match judge(setup, channel, &row, &found, at) {
        Verdict::Pass { .. } => None,
        Verdict::Refuse { reason } => Some(reason),
        Verdict::Later | Verdict::Early { .. } | Verdict::Settled | Verdict::Interrupted => {
            Some("the person was merged or parted at each look".to_owned())
        }
    })
}
