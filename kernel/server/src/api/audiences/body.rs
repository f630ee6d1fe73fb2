//! The bodies of audiences' requests and answers.

use kith_features::Part;
use kith_model::audience::{Audience, ConsentBasis, Reach};
use kith_model::budget::table;
use kith_pipeline::{AudienceProgress, AudienceStatus, ConditionFault, Count};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::action::{self, Moment};
use crate::api::masks::{Lens, Masked};
use crate::api::view::{IdentifierView, time};
use crate::catalogue::WorkspaceTables;

/// A message for each person who enters or leaves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActionBody {
    /// The channel's installation.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    pub(super) channel: String,
    /// What the message is for; consent is kept per purpose, e.g. `marketing`.
    pub(super) purpose: String,
    /// `opt_in` unless told: the person agreed to the purpose. `not_refused`: the person did not refuse it.
    #[serde(default = "opt_in")]
    #[schema(value_type = String, pattern = "^(opt_in|not_refused)$")]
    pub(super) basis: ConsentBasis,
    /// What the message says; its texts are templates over the channel's inputs.
    #[schema(value_type = Object)]
    pub(super) payload: Box<RawValue>,
    /// Whether a person for whom it has fired is written to again.
    #[serde(default)]
    pub(super) re_entry: ReEntryBody,
    /// Of `on_enter` alone: `skip` unless told, or `send`: whether it writes to those who are members when the condition is first
    /// computed, or when this is asked for. Takes a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^(skip|send)$")]
    pub(super) existing: Option<Reach>,
    /// `skip` unless told, or `send`: whether it writes to those who move because history was imported:
    /// by `POST /v1/import` or as a source's records.
    #[serde(default)]
    #[schema(value_type = String, pattern = "^(skip|send)$")]
    pub(super) imports: Reach,
}

fn opt_in() -> ConsentBasis {
    ConsentBasis::OptIn
}

/// Whether an action fires again for a person for whom it has fired: `always` unless told, `never`, or
/// `{"after": "30d"}` for when the last one that fired is at least so long ago.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReEntryBody {
    Never,
    #[default]
    Always,
    After(String),
}

/// What to change of an action; absent stays. Where there is none yet, `channel`, `purpose` and `payload` make one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchAction {
    pub(super) channel: Option<String>,
    pub(super) purpose: Option<String>,
    #[schema(value_type = Option<String>, pattern = "^(opt_in|not_refused)$")]
    pub(super) basis: Option<ConsentBasis>,
    /// All of it, in place of the present one.
    #[schema(value_type = Option<Object>)]
    pub(super) payload: Option<Box<RawValue>>,
    pub(super) re_entry: Option<ReEntryBody>,
    #[schema(value_type = Option<String>, pattern = "^(skip|send)$")]
    pub(super) existing: Option<Reach>,
    #[schema(value_type = Option<String>, pattern = "^(skip|send)$")]
    pub(super) imports: Option<Reach>,
}

/// An audience to define.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAudience {
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    pub(super) name: String,
    /// The name unless told.
    pub(super) title: Option<String>,
    /// A CEL expression over features that yields true or false.
    #[schema(min_length = 1, max_length = 8192)]
    pub(super) condition: String,
    pub(super) on_enter: Option<ActionBody>,
    pub(super) on_exit: Option<ActionBody>,
    /// The `token` of a preview of the condition, where `on_enter` writes to existing members.
    pub(super) previewed: Option<String>,
    /// Whether a condition with `warnings` is refused.
    pub(super) strict: Option<bool>,
}

/// What to change; absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchAudience {
    pub(super) title: Option<String>,
    #[schema(min_length = 1, max_length = 8192)]
    pub(super) condition: Option<String>,
    /// `null` to send nothing any more.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<PatchAction>)]
    pub(super) on_enter: Option<Option<PatchAction>>,
    /// `null` to send nothing any more.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<PatchAction>)]
    pub(super) on_exit: Option<Option<PatchAction>>,
    /// The `token` of a preview of the condition, where `on_enter` writes to existing members.
    pub(super) previewed: Option<String>,
    /// Whether a condition with `warnings` is refused.
    pub(super) strict: Option<bool>,
}

/// Tells a `null` from an absent field.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An audience.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AudienceBody {
    /// By which the routes know it.
    name: String,
    title: String,
    condition: String,
    on_enter: Option<ActionBody>,
    on_exit: Option<ActionBody>,
    created_at: String,
    /// `null` while it is computed for the first time, and where it is withheld.
    size: Option<u64>,
    /// Says that `size` and `pending` are not exact, for a key without the scope `profiles:read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    masked: Option<Masked>,
    /// People of whom it is not known yet, because a value that the condition reads is being computed. `null` where only a
    /// look at every profile would tell; a count of the condition takes it.
    pending: Option<u64>,
    progress: Option<ProgressBody>,
    /// Present while the condition is set aside for somebody.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<FaultBody>,
    /// The log position that the size holds for.
    as_of: u64,
    /// The time that the size holds for.
    as_of_time: String,
    /// What may be a mistake in the condition, in words: above all names and values that nobody has written so far. Where an
    /// audience stands alone, not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) warnings: Option<Vec<String>>,
}

/// People for whom the condition is not evaluated, because it takes more than one evaluation may. They stay where they are until
/// the condition, or what is known of them, changes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FaultBody {
    since: String,
    /// `null` where it is withheld.
    people: Option<u64>,
    /// One of them, for whoever may read profiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<String>,
    /// In words.
    reason: String,
}

impl FaultBody {
    fn new(fault: &ConditionFault, lens: Lens) -> FaultBody {
        let people = lens.number(fault.people);
        let many = people.map_or_else(|| "some".to_owned(), |people| people.to_string());
        let steps = table::EXPRESSION_STEPS.default;
        FaultBody {
            since: time(fault.since),
            people,
            example: fault.example.filter(|_| lens.is_clear()).map(|example| example.to_string()),
            reason: format!(
                "the condition passed the budget of {steps} steps for {many} people; they stay where they are"
            ),
        }
    }
}

/// Profiles looked at of how many.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProgressBody {
    done: u64,
    total: u64,
}

/// A member.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberBody {
    pub(super) profile: String,
    /// The person's identifiers, the strongest first and 16 at most.
    pub(super) identifiers: Vec<IdentifierView>,
}

/// A condition to count.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    /// A CEL expression over features that yields true or false.
    #[schema(min_length = 1, max_length = 8192)]
    pub(super) condition: String,
}

/// How many people meet a condition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountBody {
    count: u64,
    /// People of whom it is not known yet; they are not counted.
    pending: u64,
    /// Whether the count is the whole truth for `as_of` and `as_of_time`: nobody is pending, and nothing that the condition
    /// reads is being computed again.
    exact: bool,
    /// Whether all that had come when it was asked is in it. Where this is false, newer events are not counted yet.
    current: bool,
    /// How many people there are.
    population: u64,
    /// The log position that the count holds for.
    as_of: u64,
    /// The time that the count holds for.
    as_of_time: String,
    /// What may be a mistake in the condition, in words: above all names and values that nobody has written so far.
    warnings: Vec<String>,
}

impl CountBody {
    pub(super) fn new(counted: Count, warnings: Vec<String>) -> CountBody {
        let Count { count, pending, population, exact, current, as_of, as_of_time } = counted;
        let (exact, as_of, as_of_time) = (exact && pending == 0, as_of.0, time(as_of_time));
        CountBody { count, pending, exact, current, population, as_of, as_of_time, warnings }
    }
}

/// Whose membership is explained.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// The person's profile id.
    pub(super) profile: String,
}

/// Why a person is, or is not, in an audience.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplainedBody {
    pub(super) audience: String,
    pub(super) profile: String,
    /// Whether the person belongs in it; `null` while that is not known.
    pub(super) holds: Option<bool>,
    /// Whoever refuses to be profiled is in no audience, whatever its condition says.
    pub(super) refuses_profiling: bool,
    /// Each part of the condition with its value.
    #[schema(value_type = Object)]
    pub(super) explanation: Part,
    /// How many values are cut, because they are longer than 4 KiB: each is a text that begins like its JSON and ends with `…`.
    pub(super) cut: usize,
}

/// An audience as an answer.
pub(super) fn audience_body(
    tables: &WorkspaceTables,
    audience: &Audience,
    status: &AudienceStatus,
    lens: Lens,
) -> AudienceBody {
    AudienceBody {
        name: audience.name.to_string(),
        title: audience.title.clone(),
        condition: audience.condition.clone(),
        on_enter: audience.on_enter.as_ref().map(|action| action::body(tables, Moment::Enter, action)),
        on_exit: audience.on_exit.as_ref().map(|action| action::body(tables, Moment::Exit, action)),
        created_at: time(audience.created_at),
        size: status.size.and_then(|size| lens.number(size)),
        masked: status.size.and_then(|size| lens.masked(size)),
        pending: status.pending.and_then(|pending| lens.number(pending)),
        fault: status.fault.as_ref().map(|fault| FaultBody::new(fault, lens)),
        progress: status.progress.map(|AudienceProgress { done, total }| ProgressBody { done, total }),
        as_of: status.as_of.0,
        as_of_time: time(status.as_of_time),
        warnings: None,
    }
}

#[cfg(test)]
mod tests {
    use kith_model::id::Position;
    use kith_model::time::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_count_with_somebody_pending_is_never_exact() {
        let counted = |pending, exact| Count {
            count: 5,
            pending,
            population: 9,
            exact,
            current: true,
            as_of: Position(3),
            as_of_time: Timestamp(0),
        };
        let is_exact = |counted: Count| CountBody::new(counted, Vec::new()).exact;
        assert!(is_exact(counted(0, true)));
        assert!(!is_exact(counted(0, false)), "something is computed again");
        assert!(!is_exact(counted(1, true)));
    }

    #[test]
    fn re_entry_is_written_in_three_ways() {
        for (text, read) in [
            (json!("never"), ReEntryBody::Never),
            (json!("always"), ReEntryBody::Always),
            (json!({ "after": "30d" }), ReEntryBody::After("30d".to_owned())),
        ] {
            assert_eq!(serde_json::from_value::<ReEntryBody>(text.clone()).unwrap(), read);
            assert_eq!(serde_json::to_value(read).unwrap(), text);
        }
        assert!(serde_json::from_value::<ReEntryBody>(json!("sometimes")).is_err());
    }
}
