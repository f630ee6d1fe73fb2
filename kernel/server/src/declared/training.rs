//! What `[training]` may read: the label events alone, and inputs nothing of which nobody knows what it was, unless their author says
//! that it is the same at all times.

use kith_features::Expression;
use kith_host::{ManifestMistake, mistake_in};
use kith_model::plugin::{InputSpec, Manifest, Training};
use kith_model::table::ColumnType;

use super::filled_in;

/// Note what is wrong with the label; inputs are noted by [`leak`].
pub(super) fn check(manifest: &Manifest, text: &str, found: &mut Vec<ManifestMistake>) {
    let Some(training) = &manifest.training else { return };
    let place = ["training", "label"];
    let Some(label) = filled_in(manifest, text, (&place[..], "label"), &training.label, found) else { return };
    if let Some(problem) = mislabelled(&label) {
        found.push(mistake_in(text, &place, problem));
    }
}

/// The first thing of a model's label or inputs, filled in, by which it would not learn from the history alone: whose it is and why.
/// An expression that is none is refused where it is compiled.
pub(crate) fn unlearnable(training: &Training, inputs: &[InputSpec]) -> Option<(String, String)> {
    if let Some(problem) = training.label.parse::<Expression>().ok().and_then(|label| mislabelled(&label)) {
        return Some(("label".to_owned(), problem));
    }
    inputs.iter().find_map(|input| Some((input.name.clone(), leak(training, input, &input.expression.parse().ok()?)?)))
}

/// Why an input of a row of the past would tell what came after it, in words.
pub(super) fn leak(training: &Training, input: &InputSpec, expression: &Expression) -> Option<String> {
    let read = without_history(expression).filter(|_| !training.timeless.contains(&input.name))?;
    Some(format!(
        "`{}` reads {read}, of which only the present value is known: a row of the past would tell what came after it; make it of \
         events, or name it in `timeless` of [training] where it is the same at all times",
        input.name
    ))
}

/// Why an expression is no label, in words.
fn mislabelled(label: &Expression) -> Option<String> {
    let (kinds, reads) = (label.kinds(), label.reads());
    if let Some(read) = without_history(label) {
        let message = "may read events alone, those from the cut-off to the end of the horizon; make it of events";
        return Some(format!("the label reads {read}, and {message}"));
    }
    if reads.leaves.is_empty() {
        let message = "so that it says the same of everybody; write e.g. \"events('Order Completed').size() > 0\"";
        return Some(format!("the label reads no events, {message}"));
    }
    let is_label = kinds.fit(&ColumnType::Boolean) || kinds.fit(&ColumnType::Float64);
    (!is_label).then(|| format!("the label gives {kinds}; write one that is true or false, or a number"))
}

/// The first thing that an expression reads of which there is only the present value.
fn without_history(expression: &Expression) -> Option<String> {
    let reads = expression.reads();
    let named = [("traits", &reads.traits), ("tags", &reads.tags), ("scores", &reads.scores)];
    let mut of_names = named.into_iter().filter_map(|(of, names)| Some(format!("`{of}.{}`", names.first()?)));
    let identifiers = || Some(format!("`profile.identifiers.{}`", reads.identifiers.first()?));
    let created_at = || reads.created_at.then(|| "`profile.created_at`".to_owned());
    of_names.next().or_else(identifiers).or_else(created_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::mistakes;

    const MANIFEST: &str = r#"[plugin]
id = "acme/again"
version = "0.1.0"
kind = "scorer"
abi = "0.2"
kernel = ">=0.1, <0.2"
title = "Again"
description = "Says who buys again"
license = "Apache-2.0"

[inputs.orders]
expression = "events('Order Completed', '90d').size()"
type = "int64"
reason = "Who bought buys again"

[inputs.city]
expression = "traits.city"
type = "text"
reason = "Cities differ"

[outputs.again]
type = "float64"
description = "How likely somebody buys again"

[outputs.rank]
type = "int64"
description = "The same as a rank"

[training]
label = "events('${config.event}').size() > 0"
horizon = "60d"
every = "30d"
cut_offs = 6
predicts = "again"
timeless = ["city"]

[config.properties.event]
type = "string"
default = "Order Completed"
"#;

    fn found(from: &str, to: &str) -> Vec<String> {
        assert!(MANIFEST.contains(from), "{from}");
        let text = MANIFEST.replacen(from, to, 1);
        match kith_host::parse_manifest(&text) {
            Ok(manifest) => mistakes(&manifest, &text).iter().map(ToString::to_string).collect(),
            Err(error) => error.mistakes.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_model_that_learns_from_events_and_from_what_is_timeless_has_no_mistakes() {
        assert_eq!(found("title", "title"), Vec::<String>::new());
        let numbers = found(".size() > 0\"\nhorizon", ".map(e, e.total).sum()\"\nhorizon");
        assert_eq!(numbers, Vec::<String>::new());
        let manifest = kith_host::parse_manifest(MANIFEST).unwrap();
        let training = manifest.training.unwrap();
        assert_eq!((training.horizon_ms, training.every_ms, training.cut_offs), (5_184_000_000, 2_592_000_000, 6));
    }

    /// Each with its line, what is wrong, and what to write.
    #[test]
    fn what_would_not_be_learnt_from_the_past_is_refused() {
        for (from, to, expected) in [
            ("timeless = [\"city\"]\n", "", "17:14: `city` reads `traits.city`, of which only the present value"),
            (
                "events('Order Completed', '90d').size()",
                "profile.created_at",
                "12:14: `orders` reads `profile.created_at`, of which",
            ),
            (
                "events('${config.event}').size() > 0",
                "traits.lost",
                "30:9: the label reads `traits.lost`, and may read",
            ),
            ("events('${config.event}').size() > 0", "tags.lost == 'x'", "30:9: the label reads `tags.lost`"),
            ("events('${config.event}').size() > 0", "1 > 0", "30:9: the label reads no events"),
            (".size() > 0\"\nhorizon", ".map(e, e.time).max()\"\nhorizon", "30:9: the label gives a time; write one"),
            (".size() > 0\"\nhorizon", ".map(e, e.total)\"\nhorizon", "30:9: the label gives a list"),
            ("${config.event}", "${config.evnet}", "30:9: `${config.evnet}` is not in [config], which has `event`"),
            (".size() > 0\"\nhorizon", ".size( > 0\"\nhorizon", "30:9: the expression of `label`: line 1, column"),
            ("[\"city\"]", "[\"citty\"]", "35:13: the manifest has no input `citty`; did you mean `city`?"),
            ("[\"city\"]", "[\"city\", \"city\"]", "35:21: `city` stands in `timeless` twice; remove one"),
            (
                "= \"again\"\ntimeless",
                "= \"agian\"\ntimeless",
                "34:12: the manifest has no output `agian`; did you mean",
            ),
            ("\"60d\"", "\"3y\"", "31:11: `3y` is no length of time; write e.g. 12h or 60d"),
            ("\"60d\"", "\"731d\"", "31:11: `731d` is out of bounds; write 1h to 730d"),
            ("\"30d\"", "\"5m\"", "32:9: `5m` is out of bounds; write 1h to 730d"),
            ("cut_offs = 6", "cut_offs = 25", "33:12: `cut_offs` in [training] is 25; write at most 24"),
            ("cut_offs = 6\n", "", "[training] has no `cut_offs`; write how many"),
            ("abi = \"0.2\"", "abi = \"0.1\"", "only tag models and scorers of ABI 0.2 learn from the history"),
        ] {
            let found = found(from, to);
            assert!(found.iter().any(|mistake| mistake.contains(expected)), "{from} -> {to}: {found:?}");
        }
        let text = "type = \"text\"\ndescription = \"a name\"";
        let tagged = MANIFEST.replace("\"scorer\"", "\"tag-model\"");
        let tagged = tagged.replace("type = \"float64\"\ndescription = \"How likely somebody buys again\"", text);
        let refused = kith_host::parse_manifest(&tagged).unwrap_err().to_string();
        assert!(refused.contains("`again` is neither a number nor true or false"), "{refused}");
    }

    /// A configuration may make another expression of an input than its defaults.
    #[test]
    fn what_a_configuration_makes_of_an_input_may_not_tell_the_future_either() {
        let manifest = kith_host::parse_manifest(MANIFEST).unwrap();
        let training = Training { label: "events('a').size() > 0".into(), ..manifest.training.unwrap() };
        assert_eq!(unlearnable(&training, &manifest.inputs), None);
        let timed = Training { timeless: Vec::new(), ..training.clone() };
        assert_eq!(unlearnable(&timed, &manifest.inputs).unwrap().0, "city");
        let other = Training { label: "scores.x > 1.0".into(), ..training };
        assert_eq!(unlearnable(&other, &manifest.inputs).unwrap().0, "label");
    }
}
