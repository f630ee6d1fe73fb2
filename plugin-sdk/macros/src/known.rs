//! Responsible for keys that no manifest has, which would be left out silently, and for versions of the contract that there are not.
//! The words are the host's.

use toml::de::{DeTable, DeValue};

use crate::keys::{ABIS, TABLES};

/// The first thing in a manifest that nobody reads, with its place in bytes.
pub(crate) fn first_unknown(root: &DeTable<'_>) -> Option<(usize, String)> {
    let mut found = Vec::new();
    for (title, keys) in TABLES {
        let path: Vec<&str> = title.trim_matches(['[', ']']).split('.').filter(|key| !key.is_empty()).collect();
        hold(root, &path, title, keys, &mut found);
    }
    let plugin = root.get("plugin").and_then(|plugin| plugin.get_ref().as_table());
    if let Some(abi) = plugin.and_then(|plugin| plugin.get("abi"))
        && let Some(text) = abi.get_ref().as_str()
        && !ABIS.contains(&text)
    {
        found.push((abi.span().start, format!("this kernel has no ABI `{text}`; it has {}", ABIS.join(" and "))));
    }
    found.into_iter().min()
}

/// Note what is unknown in the tables under a path, of which each has these keys and no others.
fn hold(table: &DeTable<'_>, path: &[&str], title: &str, keys: &[&str], found: &mut Vec<(usize, String)>) {
    let Some((first, rest)) = path.split_first() else {
        let title = if title.is_empty() { "the manifest" } else { title };
        for key in table.keys() {
            let written: &str = key.get_ref();
            if !keys.contains(&written) {
                let hint = match nearest(written, keys) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", keys.join(", ")),
                };
                found.push((key.span().start, format!("unknown key `{written}` in {title}; {hint}")));
            }
        }
        return;
    };
    for (name, value) in table {
        let name: &str = name.get_ref();
        let title = match *first {
            "NAME" => title.replacen("NAME", name, 1),
            wanted if wanted == name => title.to_owned(),
            _ => continue,
        };
        match value.get_ref() {
            DeValue::Table(table) => hold(table, rest, &title, keys, found),
            DeValue::Array(items) => {
                let tables = items.iter().filter_map(|item| item.get_ref().as_table());
                tables.for_each(|table| hold(table, rest, &title, keys, found));
            }
            _ => {}
        }
    }
}

/// The known word that is at most two edits (a third of the word, if that is more) away from `written`.
fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|word| (edits(written, word), *word)).min()?;
    (near.0 <= (near.1.len() / 3).max(2)).then_some(near.1)
}

/// How many letters are to be put in, left out or changed to make one word of the other.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    // How many it is from what is read of one to each beginning of the other.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (read, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = read + 1;
        for (place, expected) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *expected);
            diagonal = row[place + 1];
            row[place + 1] = changed.min(row[place] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_far_apart_as_letters_are_changed() {
        for (one, other, expected) in
            [("", "", 0), ("kind", "kind", 0), ("valuse", "values", 2), ("licence", "license", 1), ("", "abi", 3)]
        {
            assert_eq!((edits(one, other), edits(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn a_key_of_a_table_that_repeats_is_found_in_each() {
        let text = "[plugin]\nabi = \"0.2\"\n[[capabilities.http]]\nhost = \"a\"\n[[capabilities.http]]\nhots = \"b\"\n\
            [config.properties.hots]\ntype = \"string\"\n";
        let document = DeTable::parse(text).unwrap();
        let (at, message) = first_unknown(document.get_ref()).unwrap();
        assert!(text[at..].starts_with("hots = "), "{at}");
        assert_eq!(message, "unknown key `hots` in [[capabilities.http]]; did you mean `host`?");
        let right = text.replacen("hots = ", "host = ", 1);
        assert_eq!(first_unknown(DeTable::parse(&right).unwrap().get_ref()), None, "what a schema says is its own");
    }
}
