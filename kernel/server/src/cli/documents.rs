//! The documents say what this program takes: every command in their blocks of shell is one of its commands, with its
//! condition and its payload, and every line in their blocks of CEL is an expression.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use kith_pipeline::{Kernel, check_payload};

use super::args::{AudienceCommand, Cli, Command};

/// The README and the pages of `docs`.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = pages.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    all.sort();
    all.insert(0, root.join("README.md"));
    all
}

/// The lines inside a document's blocks of `language`, those that go on behind a `\` as one.
fn lines_of(document: &Path, language: &str) -> Vec<String> {
    lines_in(&std::fs::read_to_string(document).unwrap(), language)
}

/// The same of a part of one.
fn lines_in(text: &str, language: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let (mut lines, mut is_inside) = (Vec::new(), false);
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(opened) => is_inside = !is_inside && opened == language,
            None if is_inside && !line.trim().is_empty() => lines.push(line.to_owned()),
            None => {}
        }
    }
    lines
}

/// The words of a line as a shell takes them apart, without its comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = line.chars();
    while let Some(next) = rest.next() {
        match (next, quote) {
            (quoted, Some(open)) if quoted == open => quote = None,
            ('\\', Some('"')) => word.get_or_insert_default().extend(rest.next()),
            ('"' | '\'', None) => {
                quote = Some(next);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            (other, _) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

fn check_audience(command: &AudienceCommand, line: &str) {
    let (condition, actions) = match command {
        AudienceCommand::Create(args) => (Some(&args.condition), Some(&args.actions)),
        AudienceCommand::Change(args) => (args.condition.as_ref(), Some(&args.actions)),
        AudienceCommand::Count { condition } | AudienceCommand::Preview { condition } => (Some(condition), None),
        _ => (None, None),
    };
    if let Some(condition) = condition {
        assert!(Kernel::check_expression(condition).is_ok(), "{line}");
    }
    // What the webhook channel declares.
    let inputs = BTreeSet::from(["name".to_owned(), "first_name".to_owned()]);
    for payload in actions.iter().flat_map(|actions| [&actions.payload, &actions.on_exit_payload]).flatten() {
        check_payload(payload, &inputs).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn every_command_is_one() {
    let mut number = 0;
    for document in documents() {
        for line in lines_of(&document, "sh").iter().filter(|line| line.starts_with("kith ")) {
            // What is behind an arrow is the shell's.
            let parsed = Cli::try_parse_from(words(line).into_iter().take_while(|word| word != ">"));
            let cli = parsed.unwrap_or_else(|error| panic!("{}: {line}: {error}", document.display()));
            if let Command::Audience(command) = &cli.command {
                check_audience(command, line);
            }
            number += 1;
        }
    }
    assert!(number > 10, "the documents have {number} commands");
}

/// From an empty folder to a signed plugin that is installed, or published, it takes less than ten commands.
#[test]
fn from_nothing_to_a_plugin_takes_few_commands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |page: &str| std::fs::read_to_string(root.join(page)).unwrap();
    let part = |page: &str, heading: &str| {
        let text = read(page);
        let (_, behind) = text.split_once(heading).unwrap_or_else(|| panic!("{page} has no {heading}"));
        behind.split("\n## ").next().unwrap_or_default().to_owned()
    };
    let guide = "docs/guides.md";
    for (page, heading, ends) in [
        ("README.md", "\n## Write a plugin in five minutes\n", "install"),
        ("examples/connector-stripe-js/README.md", "# acme/stripe", "install"),
        (guide, "\n## A connector\n", "publish"),
        (guide, "\n## A tag model\n", "publish"),
        (guide, "\n## A scorer\n", "publish"),
        (guide, "\n## A channel\n", "publish"),
    ] {
        let commands = lines_in(&part(page, heading), "sh");
        assert!((5..10).contains(&commands.len()), "{page}, {heading}: {commands:#?}");
        for step in ["test", "keygen", "sign ", ends] {
            let step = format!("kith plugin {step}");
            assert!(commands.iter().any(|command| command.starts_with(&step)), "{page}, {heading}: {step}");
        }
    }
}

#[test]
fn every_expression_is_one() {
    let mut number = 0;
    for document in documents() {
        for line in lines_of(&document, "cel") {
            let checked = Kernel::check_expression(&line);
            checked.unwrap_or_else(|error| panic!("{}: {line}: {error}", document.display()));
            number += 1;
        }
    }
    assert!(number > 10, "the documents have {number} expressions");
}

#[test]
fn words_are_taken_apart_as_a_shell_does() {
    assert_eq!(words(r#"kith a "b c" '{"d": "\"e\""}' f\g  # h"#), ["kith", "a", "b c", r#"{"d": "\"e\""}"#, "f\\g"]);
    assert_eq!(words(r#"x "a \"b\"" '' y#z"#), ["x", r#"a "b""#, "", "y#z"]);
}
