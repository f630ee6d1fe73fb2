//! What a registry asks for before it answers: the `WWW-Authenticate` of a 401 (RFC 9110, 11.6.1).

use std::collections::BTreeMap;

/// One of the ways in that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A name and a password with each request.
    Basic,
    /// A token, which is asked for elsewhere.
    Bearer {
        /// Where.
        realm: String,
        /// What the token is for, as the registry calls itself.
        service: Option<String>,
    },
}

/// The way in to take, of what the headers of an answer offer: a token before a password that goes with every request.
pub(crate) fn wanted<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let offered: Vec<Challenge> = headers.flat_map(parse).collect();
    let bearer = offered.iter().find(|one| matches!(one, Challenge::Bearer { .. }));
    bearer.or_else(|| offered.first()).cloned()
}

/// The challenges of one header that are known; what cannot be read ends them.
fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while let Some((scheme, behind)) = token(rest) {
        let (parameters, behind) = parameters(behind);
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = parameters.get("realm")
        {
            found.push(Challenge::Bearer { realm: realm.clone(), service: parameters.get("service").cloned() });
        }
        rest = behind.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// The parameters behind a scheme, and what follows them: the next scheme is a word without `=`.
fn parameters(mut rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut all = BTreeMap::new();
    loop {
        let begin = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, behind)) = token(begin) else { return (all, begin) };
        let Some(behind) = behind.trim_start().strip_prefix('=') else { return (all, begin) };
        let Some((value, behind)) = value(behind.trim_start()) else { return (all, "") };
        all.entry(name.to_ascii_lowercase()).or_insert(value);
        rest = behind;
    }
}

/// A word of a header.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A word, or a text in quotes.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, behind)| (value.to_owned(), behind));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
    }

    #[test]
    fn the_challenges_of_registries_are_read() {
        let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull\"";
        // A line for each header.
        for (headers, expected) in [
            (hub, bearer("https://auth.docker.io/token", Some("registry.docker.io"))),
            ("bearer realm=\"https://a.example/t\"", bearer("https://a.example/t", None)),
            ("Basic realm=\"a, b = \\\"c\\\"\"", Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            ("Basic realm=x, Bearer realm=\"https://t\" , service = s", bearer("https://t", Some("s"))),
            ("Negotiate\nBasic realm=\"x\"\nBearer realm=\"https://t\"", bearer("https://t", None)),
            ("Bearer service=\"x\"", None),
            ("Bearer realm=\"cut", None),
            ("Digest realm=\"x\", nonce=\"y\"", None),
            (",,", None),
            ("=\"\"", None),
        ] {
            assert_eq!(wanted(headers.lines()), expected, "{headers:?}");
        }
    }
}
