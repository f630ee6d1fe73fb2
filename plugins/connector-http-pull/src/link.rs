//! The header `Link` (RFC 8288): where the next page is.

use kith_plugin_sdk::http::Response;

/// The target of the first link with the relation `next`, as it is written.
pub(crate) fn next(response: &Response) -> Option<&str> {
    let mut headers = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("link"));
    headers.find_map(|(_, value)| next_in(value))
}

fn next_in(mut header: &str) -> Option<&str> {
    loop {
        let (_, rest) = header.split_once('<')?;
        let (target, rest) = rest.split_once('>')?;
        let (parameters, following) = rest.split_at(first_outside_of_quotes(rest, b','));
        if is_next(parameters) {
            return Some(target.trim());
        }
        header = following;
    }
}

/// Where the sign stands first that is in no quotes; the end where it stands nowhere.
fn first_outside_of_quotes(text: &str, sign: u8) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            byte if byte == sign && !is_quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// Whether `; rel="prev next"; title="x"` names the relation.
fn is_next(mut parameters: &str) -> bool {
    while !parameters.is_empty() {
        let (parameter, rest) = parameters.split_at(first_outside_of_quotes(parameters, b';'));
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("rel")
        {
            let relations = value.trim().trim_matches('"');
            return relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"));
        }
        parameters = rest.strip_prefix(';').unwrap_or(rest);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_other_links() {
        for (header, expected) in [
            (r#"<https://a.example/?page=2>; rel="next""#, Some("https://a.example/?page=2")),
            (r#"<https://a.example/?a=1,2>; rel=prev, </?page=3>;rel=next"#, Some("/?page=3")),
            (r#"</1>; title="a, <b>"; rel="first", </2>; REL="last Next""#, Some("/2")),
            (r#"</1>; title="say \"next\", rel=next"; rel=last"#, None),
            (r#"</1>; title="a; rel=next"; rel=last"#, None),
            (r#"</1>; rel="nextish""#, None),
            ("</1", None),
            ("", None),
        ] {
            let response = Response::new(200).with_header("Link", header);
            assert_eq!(next(&response), expected, "{header}");
        }
        let several = Response::new(200).with_header("link", "</1>; rel=prev").with_header("link", "</2>; rel=next");
        assert_eq!(next(&several), Some("/2"));
    }
}
