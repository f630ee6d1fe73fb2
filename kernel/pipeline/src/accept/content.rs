//! What of a draft is content: its texts as JSON that every reader below takes, and the digest that tells a repeat from another message.

use std::borrow::Cow;

use kith_json::{Duplicates, Numbers, Oddity, fingerprint, is_plain_object, read_as};
use kith_model::event::{DraftEvent, Event};
use kith_model::flag;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::validate::MAX_DEPTH;

/// The draft with texts that are JSON objects, as far as they can be read as such; what had to be changed is flagged. What is no JSON
/// at all, or too deep, is left for the checks to refuse.
///
/// A connector is trusted with nothing: half a surrogate pair in a text would be read by the one who stores it and not by the
/// one who computes with it.
pub(super) fn cleaned(draft: &DraftEvent) -> Cow<'_, DraftEvent> {
    let mut cleaned = Cow::Borrowed(draft);
    type Field = fn(&mut DraftEvent) -> &mut String;
    let fields: [(&str, &String, Duplicates, Field); 3] = [
        ("properties", &draft.properties, Duplicates::LastHolds, |draft| &mut draft.properties),
        // Of consents each is heard, also one whose key came again.
        ("traits", &draft.traits, Duplicates::Kept, |draft| &mut draft.traits),
        ("context", &draft.context, Duplicates::LastHolds, |draft| &mut draft.context),
    ];
    for (name, text, duplicates, field) in fields {
        // Nearly every text is plain, and is as it would be read.
        if text.is_empty() || is_plain_object(text, MAX_DEPTH) {
            continue;
        }
        let Ok(document) = read_as(text.as_bytes(), duplicates, Numbers::Kept) else { continue };
        if document.flags.has(Oddity::TooDeep) {
            continue;
        }
        let (text, odd) = match document.text.as_str() {
            _ if document.text.starts_with('{') => {
                if document.flags.is_empty() {
                    continue;
                }
                (document.text, None)
            }
            "null" => (String::new(), None),
            "[]" => (String::new(), Some(flag::LIST_FOR_OBJECT)),
            // The person is known, and what happened is too: a list in the place of facts costs the facts alone.
            _ if name == "traits" => (String::new(), Some(flag::NOT_AN_OBJECT)),
            _ => continue,
        };
        let draft = cleaned.to_mut();
        let told = document.flags.iter().map(|flag| flag.under(name)).chain(odd.map(|code| format!("{code}:{name}")));
        // The connector may have told of the same.
        let new: Vec<String> = told.filter(|flag| !draft.flags.contains(flag)).collect();
        draft.flags.extend(new);
        *field(draft) = text;
    }
    cleaned
}

/// A hash of what the sender said, to tell a repeat from another message with the same id. How JSON is spelt and in which order keys come
/// is not said, and `sent_at` differs between attempts; so does a time that was taken from it, for which the time as it came stands.
pub(super) fn digest(draft: &DraftEvent) -> u64 {
    said(draft).digest()
}

/// The same of what became of a draft, which is what its sender said unless rules changed that: then what is sent again corrects it.
pub(super) fn digest_of(event: &Event) -> u64 {
    // Without a time of its own it has that of its receipt.
    let is_dated = event.time != event.received_at;
    digest(&DraftEvent {
        kind: event.kind,
        name: event.name.clone(),
        time: is_dated.then_some(event.time),
        identifiers: event.identifiers.clone(),
        properties: event.properties.clone(),
        traits: event.traits.clone(),
        context: event.context.clone(),
        original_time: event.original_time.clone(),
        ..DraftEvent::default()
    })
}

/// The same in 128 bits, to name a message that has no id.
pub(crate) fn content_hash(draft: &DraftEvent) -> u128 {
    said(draft).digest128()
}

fn said(draft: &DraftEvent) -> Xxh3 {
    let mut hash = Xxh3::new();
    let mut add = |part: &[u8]| {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(draft.kind.as_str().as_bytes());
    add(draft.name.as_bytes());
    match &draft.original_time {
        Some(written) => add(written.as_bytes()),
        None => add(&draft.time.map_or(i64::MIN, |time| time.0).to_be_bytes()),
    }
    for identifier in &draft.identifiers {
        add(identifier.kind.as_bytes());
        add(identifier.value.as_bytes());
    }
    for text in [&draft.properties, &draft.traits, &draft.context] {
        let text = if text.is_empty() { "{}" } else { text };
        add(&fingerprint(text, xxh3_64).to_be_bytes());
    }
    hash
}

#[cfg(test)]
mod tests {
    use kith_model::identity::Identifier;
    use kith_model::time::Timestamp;

    use super::*;

    fn draft(properties: &str) -> DraftEvent {
        DraftEvent {
            message_id: Some("m1".into()),
            name: "Order Completed".into(),
            identifiers: vec![Identifier::new("user_id", "u1")],
            properties: properties.into(),
            ..DraftEvent::default()
        }
    }

    #[test]
    fn a_repeat_has_the_same_digest_whenever_and_however_it_was_sent() {
        let first = draft(r#"{"total": 5, "b": [1, {"c": "é"}]}"#);
        for again in [
            DraftEvent { sent_at: Some(Timestamp(9)), flags: vec!["x".into()], ..first.clone() },
            draft(r#"{"b":[1.0,{"c":"\u00e9"}],"total":5e0}"#),
            DraftEvent { traits: "{}".into(), ..first.clone() },
        ] {
            assert_eq!(digest(&first), digest(&again), "{again:?}");
        }
        for other in [
            draft(r#"{"total": 6, "b": [1, {"c": "é"}]}"#),
            draft(r#"{"total": "5", "b": [1, {"c": "é"}]}"#),
            draft(r#"{"total": 5, "b": [{"c": "é"}, 1]}"#),
            DraftEvent { time: Some(Timestamp(9)), ..first.clone() },
            DraftEvent { traits: r#"{"a":1}"#.into(), ..first.clone() },
        ] {
            assert_ne!(digest(&first), digest(&other), "{other:?}");
        }
    }

    #[test]
    fn a_time_that_was_taken_from_the_sending_is_not_content() {
        let sent = |at: i64| DraftEvent {
            time: Some(Timestamp(at)),
            sent_at: Some(Timestamp(at)),
            original_time: Some("yesterday".into()),
            ..draft("")
        };
        assert_eq!(digest(&sent(5)), digest(&sent(9)));
        assert_ne!(digest(&sent(5)), digest(&DraftEvent { original_time: Some("today".into()), ..sent(5) }));
    }

    #[test]
    fn texts_become_objects_that_every_reader_takes() {
        for (properties, becomes, flags) in [
            (r#"{"a": 1}"#, r#"{"a": 1}"#, &[][..]),
            ("[]", "", &["list-for-object:properties"]),
            ("null", "", &[]),
            (r#"{"t":"\ud83d"}"#, "{\"t\":\"\u{fffd}\"}", &["half-surrogate:properties.t"]),
            (
                r#"{"a":NaN,"a":1,}"#,
                r#"{"a":1}"#,
                &["not-a-number:properties.a", "trailing-comma:properties", "duplicate-key:properties.a"],
            ),
            ("[1]", "[1]", &[]),
            ("{oops", "{oops", &[]),
        ] {
            let draft = draft(properties);
            let cleaned = cleaned(&draft);
            assert_eq!(
                (cleaned.properties.as_str(), &cleaned.flags[..]),
                (becomes, &flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>()[..])
            );
        }
        let listed = DraftEvent { traits: r#"["a","b"]"#.into(), ..draft("") };
        assert_eq!(
            (cleaned(&listed).traits.as_str(), &cleaned(&listed).flags[..]),
            ("", &["not-an-object:traits".to_owned()][..])
        );
        let twice = DraftEvent { traits: r#"{"consent":false,"consent":true}"#.into(), ..draft("") };
        assert_eq!(cleaned(&twice).traits, twice.traits, "each consent is heard");
    }
}
