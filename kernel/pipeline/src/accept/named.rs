//! Whom a draft names: each identifier as it came and in its normal form, and those that name nobody with the reason.

use std::fmt;

use kith_model::event::{DraftEvent, EventKind};
use kith_model::identity::{Identifier, IdentityRules, MAX_IDENTIFIER_BYTES, PREVIOUS_ID, USER_ID, Unfit, is_type};

/// How much of a value that names nobody is shown.
const MAX_SHOWN_BYTES: usize = 64;

/// An identifier of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventIdentifier {
    /// As it came, without the spaces around it.
    pub spelled: Identifier,
    pub normal: Identifier,
}

/// A value that was sent as an identifier and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub kind: String,
    /// The beginning of it.
    value: String,
    pub why: Unfit,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {:?} {}", self.kind, self.value, self.why.reason())
    }
}

/// The identifiers of a draft, the strongest first and none twice, and what it sent that is none.
///
/// An alias names two ids and no more. What else a client sends along, e.g. the device and the address of whoever uses it
/// at that moment, is of the old or of the new one, and nobody can tell of which.
pub(crate) fn identifiers(draft: &DraftEvent, rules: &IdentityRules) -> (Vec<EventIdentifier>, Vec<LeftOut>) {
    of(draft.kind, &draft.identifiers, rules)
}

/// The same of the identifiers that came with an event of a kind.
pub(crate) fn of(kind: EventKind, came: &[Identifier], rules: &IdentityRules) -> (Vec<EventIdentifier>, Vec<LeftOut>) {
    let (mut named, mut left_out) = (Vec::new(), Vec::new());
    for identifier in came {
        if identifier.is_previous() && kind != EventKind::Alias {
            continue;
        }
        match judge(identifier, rules) {
            Ok(found) => named.push(found),
            Err(why) => {
                let value = identifier.value.trim();
                let value = value[..value.floor_char_boundary(MAX_SHOWN_BYTES)].to_owned();
                left_out.push(LeftOut { kind: identifier.kind.clone(), value, why });
            }
        }
    }
    named.sort_by(|one, other| {
        (rules.rank(&one.normal), &one.spelled).cmp(&(rules.rank(&other.normal), &other.spelled))
    });
    named.dedup();
    if kind == EventKind::Alias && named.iter().any(|named| named.normal.is_previous()) {
        let strongest = named.iter().find(|named| !named.normal.is_previous()).cloned();
        let is_itself = |old: &EventIdentifier| {
            strongest.as_ref().is_some_and(|new| new.normal.kind == USER_ID && new.normal.value == old.normal.value)
        };
        let previous = named.iter().find(|named| named.normal.is_previous() && !is_itself(named)).cloned();
        named = strongest.into_iter().chain(previous).collect();
    }
    (named, left_out)
}

/// Most identifiers of an event that are kept with it.
const MAX_CAME: usize = 16;

/// The identifiers that an event keeps: those by which it is tied, the strongest first, and behind them what came beside them
/// and names nobody by the rules of today, or nobody for an alias. Under other rules it may, and history is tied by those then.
pub(crate) fn came(draft: &DraftEvent, named: Vec<EventIdentifier>) -> Vec<Identifier> {
    let mut came: Vec<Identifier> = named.into_iter().map(|named| named.spelled).collect();
    for identifier in &draft.identifiers {
        let identifier = identifier.trimmed();
        let is_kept = (!identifier.is_previous() || draft.kind == EventKind::Alias)
            && is_type(&identifier.kind)
            && (1..=MAX_IDENTIFIER_BYTES).contains(&identifier.value.len());
        if is_kept && came.len() < MAX_CAME && !came.contains(&identifier) {
            came.push(identifier);
        }
    }
    came
}

fn judge(identifier: &Identifier, rules: &IdentityRules) -> Result<EventIdentifier, Unfit> {
    if identifier.is_previous() {
        // It is found under the user's or the device's id, whose normal form it has to have.
        let value = rules.judge(&Identifier::new(USER_ID, identifier.value.as_str()))?.value;
        let normal = Identifier::new(PREVIOUS_ID, value);
        return Ok(EventIdentifier { spelled: normal.clone(), normal });
    }
    Ok(EventIdentifier { spelled: identifier.trimmed(), normal: rules.judge(identifier)? })
}

/// Why a draft names nobody, for people.
pub(crate) fn nobody(left_out: &[LeftOut]) -> String {
    const ADVICE: &str = "give a user or anonymous id that is not empty, `null`, `anonymous` or the like";
    let listed: Vec<String> = left_out.iter().take(4).map(ToString::to_string).collect();
    match listed.is_empty() {
        true => format!("the event names nobody: {ADVICE}"),
        false => format!("the event names nobody: {}; {ADVICE}", listed.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(kind: EventKind, identifiers: &[(&str, &str)]) -> DraftEvent {
        DraftEvent {
            kind,
            message_id: None,
            name: String::new(),
            time: None,
            sent_at: None,
            identifiers: identifiers.iter().map(|(kind, value)| Identifier::new(*kind, *value)).collect(),
            properties: String::new(),
            traits: String::new(),
            context: String::new(),
            flags: Vec::new(),
            original_time: None,
        }
    }

    fn found(kind: EventKind, identifiers: &[(&str, &str)]) -> Vec<String> {
        let (named, _) = identifiers_of(kind, identifiers);
        named.into_iter().map(|named| named.spelled.to_string()).collect()
    }

    fn identifiers_of(kind: EventKind, sent: &[(&str, &str)]) -> (Vec<EventIdentifier>, Vec<LeftOut>) {
        identifiers(&draft(kind, sent), &IdentityRules::default())
    }

    #[test]
    fn an_alias_names_the_new_and_the_old_id_and_nobody_else() {
        let sent = [("user_id", "new"), ("anonymous_id", "device"), ("previous_id", "old"), ("email", "a@b.c")];
        assert_eq!(found(EventKind::Alias, &sent), ["user_id:new", "previous_id:old"]);
        assert_eq!(found(EventKind::Track, &sent), ["user_id:new", "email:a@b.c", "anonymous_id:device"]);
        let to_itself = [("user_id", "a"), ("previous_id", " a ")];
        assert_eq!(found(EventKind::Alias, &to_itself), ["user_id:a"]);
        let of_before = [("user_id", "new"), ("anonymous_id", "old")];
        assert_eq!(found(EventKind::Alias, &of_before), ["user_id:new", "anonymous_id:old"]);
    }

    #[test]
    fn what_names_nobody_is_told_with_its_reason() {
        let (named, left_out) =
            identifiers_of(EventKind::Identify, &[("email", "N/A"), ("phone", "no"), ("user_id", "u1")]);
        assert_eq!(named.len(), 1);
        let told: Vec<String> = left_out.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["`email` \"N/A\" stands for a value that is missing", "`phone` \"no\" is no telephone number"]
        );
        let (_, left_out) = identifiers_of(EventKind::Identify, &[("email", "ada@shop")]);
        assert!(nobody(&left_out).contains("`email` \"ada@shop\" is no e-mail address"));
    }
}
