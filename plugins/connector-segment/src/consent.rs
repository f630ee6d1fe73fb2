//! What a message says of consents. Where it does so in several places, or twice in one, a refusal in any of them must reach the
//! kernel, which decides among them; so none of them gives way to another as ordinary traits do.

use std::borrow::Cow;

use kith_plugin_sdk::EventKind;
use kith_plugin_sdk::json::{self, Unreadable};

use crate::message::Shared;
use crate::object::{self, Object, ObjectWriter, Raw};

/// The trait that tells of consents, in any case.
const CONSENT: &str = "consent";

/// A `consent` with its name as it was written.
pub(crate) type Said<'a> = (String, Raw<'a>);

fn is_consent(name: &str) -> bool {
    name.eq_ignore_ascii_case(CONSENT)
}

/// Whether a text of JSON may hold a `consent`. Cheap, since few do: escapes, which could spell it, are not read.
fn may_be_in(text: &str) -> bool {
    let bytes = text.as_bytes();
    let begins =
        |at: usize| bytes.get(at..at + CONSENT.len()).is_some_and(|part| part.eq_ignore_ascii_case(CONSENT.as_bytes()));
    bytes.iter().enumerate().any(|(at, byte)| match byte {
        b'c' | b'C' => begins(at),
        b'\\' => bytes.get(at + 1) == Some(&b'u'),
        _ => false,
    })
}

/// Each `consent` of the person in a message: in its traits, in its context and that of the batch, in their traits and in the
/// preferences of Segment's consent tools. The traits of
/// a group are facts about the group.
pub(crate) fn said<'a>(object: &Object<'a>, kind: EventKind, shared: &Shared<'a>) -> Vec<Said<'a>> {
    let mut said = shared.consents.clone();
    let of_person = |key: &str, value: Raw<'_>| key == "traits" && kind != EventKind::Group && may_be_in(value.get());
    for (_, traits) in object.all().filter(|&(key, value)| of_person(key, value)) {
        add(traits, &mut said);
    }
    object.all().filter(|(key, _)| *key == "context").for_each(|(_, context)| add_of_context(context, &mut said));
    said
}

/// The same of a context.
pub(crate) fn add_of_context<'a>(context: Raw<'a>, said: &mut Vec<Said<'a>>) {
    if !may_be_in(context.get()) {
        return;
    }
    let context = Object::read(context.get()).unwrap_or_default();
    context.all().filter(|(key, _)| *key == "traits").for_each(|(_, traits)| add(traits, said));
    // What Segment's consent tools send with each message: an object of categories. What is none says nothing that could be heard.
    for (_, consent) in context.all().filter(|(key, _)| *key == CONSENT) {
        let consent = Object::read(consent.get()).unwrap_or_default();
        let preferences =
            consent.all().filter(|(key, value)| *key == "categoryPreferences" && object::is_object(*value));
        said.extend(preferences.map(|(_, value)| (CONSENT.to_owned(), value)));
    }
}

fn add<'a>(traits: Raw<'a>, said: &mut Vec<Said<'a>>) {
    let traits = Object::read(traits.get()).unwrap_or_default();
    said.extend(traits.all().filter(|(name, _)| is_consent(name)).map(|(name, value)| (name.to_owned(), value)));
}

/// The traits with every `consent` of the message. What the traits would show anyway stays last, as what they show.
pub(crate) fn with_all<'t>(traits: Cow<'t, str>, said: &[Said<'_>]) -> Result<Cow<'t, str>, Unreadable> {
    if said.is_empty() {
        return Ok(traits);
    }
    let read = if traits.is_empty() { Object::default() } else { Object::read(&traits)? };
    let shown: Vec<(&str, &str)> = read.all().map(|(name, value)| (name, value.get())).collect();
    let missing: Vec<&Said<'_>> =
        said.iter().filter(|(name, value)| !shown.contains(&(name.as_str(), value.get()))).collect();
    if missing.is_empty() {
        return Ok(traits);
    }
    let mut whole = ObjectWriter::beginning_with("", traits.len() + 256);
    missing.into_iter().for_each(|(name, value)| whole.entry(name, value.get()));
    whole.entries_of(&traits);
    Ok(Cow::Owned(whole.finish()))
}

/// Traits that say what these refuse, and no more; `None` where they refuse nothing.
pub(crate) fn refused(said: &[Said<'_>]) -> Option<String> {
    let mut whole = ObjectWriter::beginning_with("", 64);
    let mut any = false;
    for (_, value) in said {
        let refused = match Object::read(value.get()) {
            Ok(purposes) => {
                let mut refused = ObjectWriter::beginning_with("", value.get().len());
                let mut purposes = purposes.all().filter(|(_, answer)| answer.get() != "true").peekable();
                if purposes.peek().is_none() {
                    continue;
                }
                purposes.for_each(|(purpose, answer)| refused.entry(purpose, plain(answer.get())));
                refused.finish()
            }
            Err(_) => value.get().to_owned(),
        };
        // Whatever it says, it is no agreement; what is too long for one is kept as a refusal of everything.
        whole.entry(CONSENT, if refused.len() <= MAX_REFUSAL_BYTES { plain(&refused) } else { "false" });
        any = true;
    }
    any.then(|| whole.finish())
}

/// An answer as it can be kept: one that lies deeper than any answer is none, and refuses.
fn plain(answer: &str) -> &str {
    if json::is_deeper_than(answer, MAX_ANSWER_DEPTH) { "false" } else { answer }
}

/// The kernel takes objects of 64 levels, and an answer is a word or a few.
const MAX_ANSWER_DEPTH: usize = 16;

/// A longer refusal is one of everything.
const MAX_REFUSAL_BYTES: usize = 16 * 1024;
