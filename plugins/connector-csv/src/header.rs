//! Which field of a line each of the mapping's columns is, by the file's header.

use kith_plugin_sdk::Rejection;

/// What becomes of a second column of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Duplicates {
    /// The file is refused where the mapping uses the name.
    #[default]
    Refuse,
    /// It is called `name_2`, the third `name_3`.
    Number,
}

/// The names as the mapping finds them: without spaces and marks around them.
pub(crate) fn names(fields: &[std::borrow::Cow<'_, str>], duplicates: Duplicates) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(fields.len());
    for field in fields {
        let plain = field.trim_matches(|letter: char| letter.is_whitespace() || letter == '\u{feff}').to_owned();
        let mut name = plain.clone();
        let mut count = 1;
        while duplicates == Duplicates::Number && names.contains(&name) {
            count += 1;
            name = format!("{plain}_{count}");
        }
        names.push(name);
    }
    names
}

/// The same without case and with one space for several.
fn loose(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The places at which `column` may stand: where it is named exactly, otherwise where its letters are the same without case.
pub(crate) fn places(column: &str, header: &[String]) -> Vec<usize> {
    let matches = |is_it: &dyn Fn(&String) -> bool| -> Vec<usize> {
        header.iter().enumerate().filter(|(_, name)| is_it(name)).map(|(at, _)| at).collect()
    };
    let exact = matches(&|name| name == column);
    if exact.is_empty() { matches(&|name| loose(name) == loose(column)) } else { exact }
}

/// The place of each of `columns`.
pub(crate) fn find(columns: &[String], header: &[String]) -> Result<Vec<usize>, Rejection> {
    columns
        .iter()
        .map(|column| match places(column, header)[..] {
            [place] => Ok(place),
            [] => {
                let message = format!("the file has no column `{column}`; it has: {}", header.join(", "));
                Err(Rejection::new(400, "unknown-column", message))
            }
            ref several => {
                let numbers: Vec<String> = several.iter().map(|place| (place + 1).to_string()).collect();
                let message = format!(
                    "the file has {} columns `{column}`, its columns {}; name all in `columns`, or set `duplicate_columns` to \
                     `number` and use `{column}_2`",
                    several.len(),
                    numbers.join(" and ")
                );
                Err(Rejection::new(400, "duplicate-column", message))
            }
        })
        .collect()
}
