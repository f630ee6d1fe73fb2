//! Flags of events: what was odd in a record and what was done about it, so that nobody has to guess why a value is not as it was sent.
//!
//! A flag is a code and, where there is one, the place behind a colon: `half-surrogate:properties.title`.

/// Most flags that an event keeps; a connector chooses how many it gives, and a record with more is as well told by these.
pub const MAX_FLAGS: usize = 16;

/// The longest flag that is kept, in bytes.
pub const MAX_FLAG_BYTES: usize = 128;

/// The time was moved by the difference between the sender's clock and the kernel's.
pub const CLOCK_CORRECTED: &str = "clock-corrected";

/// The time is outside of the bounds, and another one was taken for it.
pub const TIME_CLAMPED: &str = "time-clamped";

/// The time is past receipt by less than a day, and was taken as it is: nothing counts the event before that, and no fact of it is newer
/// than its receipt. A sender that writes the time of its own zone as UTC is ahead so.
pub const TIME_AHEAD: &str = "time-ahead";

/// It came with a write key, which everybody may be able to read: as evidence of who is who it is not as old as it says. Not
/// counted.
pub const EVIDENCE_BOUNDED: &str = "evidence-bounded";

/// `[]` stood where an object belongs.
pub const LIST_FOR_OBJECT: &str = "list-for-object";

/// What stood where an object belongs is none, and was left out.
pub const NOT_AN_OBJECT: &str = "not-an-object";

/// The tracking plan has no event of the name.
pub const UNPLANNED_EVENT: &str = "unplanned-event";

/// It is not as the tracking plan has it, at the place behind the colon.
pub const PLAN_VIOLATION: &str = "plan-violation";

/// A rule of the workspace took a property, a fact or an identifier out. Behind the colon are the rule and the version of the
/// rules, e.g. `rule-dropped:no-ssn@3`; the same of the other rules.
pub const RULE_DROPPED: &str = "rule-dropped";

/// A rule of the workspace gave an event, a property or a fact another name.
pub const RULE_RENAMED: &str = "rule-renamed";

/// A rule of the workspace would have given something a name that something else in the record has; it keeps its own.
pub const RULE_NOT_RENAMED: &str = "rule-not-renamed";

/// A rule of the workspace put a keyed hash in the place of a value.
pub const RULE_HASHED: &str = "rule-hashed";

/// Every code that is counted by its name: those of the reader of JSON, of the kernel and of the first-party connectors. A plugin's own
/// codes are counted together, so that no sender and no plugin makes a series of figures.
const CODES: [&str; 32] = [
    "half-surrogate",
    "invalid-utf8",
    "not-a-number",
    "undefined",
    "loose-literal",
    "number-form",
    "number-too-large",
    "control-character",
    "bad-escape",
    "trailing-comma",
    "duplicate-key",
    "too-deep",
    "trailing-bytes",
    "more-flags",
    LIST_FOR_OBJECT,
    NOT_AN_OBJECT,
    "not-an-id",
    "time-unreadable",
    "time-from-original",
    "time-from-sent-at",
    "time-from-receipt",
    CLOCK_CORRECTED,
    TIME_AHEAD,
    TIME_CLAMPED,
    "id-unreadable",
    UNPLANNED_EVENT,
    PLAN_VIOLATION,
    RULE_DROPPED,
    RULE_RENAMED,
    RULE_NOT_RENAMED,
    RULE_HASHED,
    OTHER,
];

/// What stands in the counts for a code that is not known.
pub const OTHER: &str = "other";

/// The code under which a flag is counted.
pub fn counted(flag: &str) -> &'static str {
    let code = flag.split(':').next().unwrap_or_default();
    CODES.into_iter().find(|known| *known == code).unwrap_or(OTHER)
}

/// A connector's flags as they are kept: few, short and printable, and none by which the kernel reads its own events.
pub fn kept(flags: &[String]) -> Vec<String> {
    let short = |flag: &String| -> String {
        let cut = &flag[..flag.floor_char_boundary(MAX_FLAG_BYTES)];
        cut.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
    };
    flags.iter().filter(|flag| *flag != EVIDENCE_BOUNDED).take(MAX_FLAGS).map(short).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_counted_by_a_closed_set_of_codes() {
        assert_eq!(counted("half-surrogate:properties.title"), "half-surrogate");
        assert_eq!(counted("clock-corrected"), CLOCK_CORRECTED);
        for odd in ["", "mine", "clock-corrected-not", ":", "\u{1f600}:x"] {
            assert_eq!(counted(odd), OTHER, "{odd}");
        }
    }

    #[test]
    fn few_and_short_flags_are_kept() {
        let many = vec!["ü".repeat(1_000) + "\n"; 100];
        let kept = kept(&many);
        assert_eq!(kept.len(), MAX_FLAGS);
        assert!(kept.iter().all(|flag| flag.len() <= MAX_FLAG_BYTES));
        assert_eq!(super::kept(&["a\nb".to_owned(), EVIDENCE_BOUNDED.to_owned()]), ["a b"]);
    }
}
