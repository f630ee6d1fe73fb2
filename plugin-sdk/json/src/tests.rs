//! What senders write, that the outcome is well-formed whatever comes, and that spelling is not content.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::scalar::{push_value_of, unescaped};
use crate::walk::{Walk, is_word};

fn flags(text: &[u8]) -> Vec<String> {
    read(text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
        .flags
        .iter()
        .map(Flag::to_string)
        .collect()
}

fn text(bytes: &[u8]) -> String {
    read(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes))).text
}

fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(to_bytes).collect()
}

#[test]
fn what_senders_write_is_read_and_said() {
    for (bytes, expected, flagged) in [
        (&b"\xef\xbb\xbf{\"a\":1}"[..], r#"{"a":1}"#, &[][..]),
        (b" {\"a\" : [ 1 , 2 ] }\r\n\0\0", r#"{"a":[1,2]}"#, &[]),
        (br#"{"t":"cut \ud83d"}"#, "{\"t\":\"cut \u{fffd}\"}", &["half-surrogate:t"]),
        (br#"{"t":"\ude00\ud83d\ude00"}"#, "{\"t\":\"\u{fffd}\\ud83d\\ude00\"}", &["half-surrogate:t"]),
        (br#"{"\ud83d":1}"#, "{\"\u{fffd}\":1}", &["half-surrogate:\u{fffd}"]),
        (b"{\"t\":\"a\xffb\"}", "{\"t\":\"a\u{fffd}b\"}", &["invalid-utf8:t"]),
        (b"{\"t\":\"\xe2\x82\"}", "{\"t\":\"\u{fffd}\"}", &["invalid-utf8:t"]),
        (
            b"[NaN,Infinity,-Infinity,nan,-inf,1]",
            "[null,null,null,null,null,1]",
            &["not-a-number:[0]", "not-a-number:[1]", "not-a-number:[2]", "not-a-number:[3]", "not-a-number:[4]"],
        ),
        (b"{\"a\":{\"b\":[{\"c\":undefined}]}}", r#"{"a":{"b":[{"c":null}]}}"#, &["undefined:a.b[0].c"]),
        (b"[True,False,None]", "[true,false,null]", &["loose-literal:[0]", "loose-literal:[1]", "loose-literal:[2]"]),
        (
            b"[+1,.5,1.,-.5,1.e3]",
            "[1,0.5,1,-0.5,1e3]",
            &["number-form:[0]", "number-form:[1]", "number-form:[2]", "number-form:[3]", "number-form:[4]"],
        ),
        (b"{\"zip\":01234}", r#"{"zip":"01234"}"#, &["number-form:zip"]),
        (
            b"[1e400,-1e999,1e-999,1e308]",
            "[1e400,-1e999,1e-999,1e308]",
            &["number-too-large:[0]", "number-too-large:[1]"],
        ),
        (b"{\"t\":\"a\nb\x01\"}", r#"{"t":"a\nb\u0001"}"#, &["control-character:t"]),
        (br#"{"t":"\x\'\u12zz"}"#, "{\"t\":\"x'\u{fffd}zz\"}", &["bad-escape:t"]),
        (b"{\"a\":[1,],}", r#"{"a":[1]}"#, &["trailing-comma:a", "trailing-comma"]),
        (br#"{"a":1,"b":2,"a":3}"#, r#"{"b":2,"a":3}"#, &["duplicate-key:a"]),
        (br#"{"x":{"a":1,"\u0061":2}}"#, r#"{"x":{"\u0061":2}}"#, &["duplicate-key:x.a"]),
        (b"{\"a\":1} garbage", r#"{"a":1}"#, &["trailing-bytes"]),
        (b"\"text\"", "\"text\"", &[]),
        (b"-0", "-0", &[]),
    ] {
        assert_eq!(
            (text(bytes).as_str(), flags(bytes)),
            (expected, flagged.iter().map(|flag| (*flag).to_owned()).collect())
        );
    }
}

#[test]
fn utf16_is_read_where_it_is_unmistakable() {
    let plain = "{\"t\":\"Grüße 😀\"}";
    for (mark, to_bytes) in [
        ("\u{feff}", u16::to_le_bytes as fn(u16) -> [u8; 2]),
        ("\u{feff}", u16::to_be_bytes),
        ("", u16::to_le_bytes),
        ("", u16::to_be_bytes),
    ] {
        assert_eq!(text(&utf16(&format!("{mark}{plain}"), to_bytes)), plain);
    }
}

#[test]
fn numbers_of_any_size_come_back_digit_by_digit() {
    let long = format!("[123456789012345678901,0.1234567890123456789,{},-9007199254740993,1E400]", "9".repeat(500));
    assert_eq!(text(long.as_bytes()), long);
    let finite = read_as(long.as_bytes(), Duplicates::LastHolds, Numbers::Finite).unwrap().text;
    assert_eq!(finite, "[123456789012345678901,0.1234567890123456789,null,-9007199254740993,null]");
    let texts = read_as(b"[1E400,-1e999,7,1e308]", Duplicates::LastHolds, Numbers::Texts).unwrap().text;
    assert_eq!(texts, r#"["1E400","-1e999",7,1e308]"#);
}

#[test]
fn what_is_no_json_says_where() {
    for (bytes, at) in [
        (&b""[..], 0),
        (b"{", 1),
        (b"nope", 0),
        (b"{\"a\":}", 5),
        (b"[1,,2]", 3),
        (b"[1 2]", 3),
        (b"{\"a\" 1}", 5),
        (b"{a:1}", 1),
        (b"[\"abc", 1),
        (b"[1e]", 1),
        (b"[0x1f]", 1),
        (b"[1}", 2),
        (b"[--1]", 1),
        (b"[1.2.3]", 1),
        (b"[\"a\\", 1),
        (b"[-]", 1),
        (b"[,]", 1),
    ] {
        let error = read(bytes).map_err(|error| error.at);
        assert_eq!(error, Err(at), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn what_is_deep_is_passed_over() {
    let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(flags(deep(MAX_DEPTH - 1).as_bytes()), Vec::<String>::new());
    let (million, bracket) = (deep(1_000_000), "]}\"\\\"".to_owned());
    assert_eq!(flags(million.as_bytes()).len(), 1);
    assert!(flags(million.as_bytes())[0].starts_with("too-deep:a"));
    let odd = format!("{{\"a\":{}{}{}}}", "[".repeat(200), serde_json::to_string(&bracket).unwrap(), "]".repeat(200));
    assert!(text(odd.as_bytes()).contains("null"));
    assert!(serde_json::from_str::<Value>(&text(odd.as_bytes())).is_ok());
}

#[test]
fn flags_and_their_paths_are_bounded() {
    let many = format!("[{}]", vec!["NaN"; 10_000].join(","));
    let told = flags(many.as_bytes());
    assert_eq!((told.len(), told.last().map(String::as_str)), (MAX_FLAGS, Some("more-flags")));
    let long = format!("{{\"{}\":NaN}}", "ü".repeat(5_000));
    assert!(flags(long.as_bytes())[0].len() < 128);
}

#[test]
fn parts_are_found_around_what_cannot_be_read() {
    let body = br#"{"batch":[{"a":1},{"b": oops "}]"},{"c":[1,{"d":2}}, 7 ,"x"],"batch":[1],"sentAt":"\u0032"} rest"#;
    let (entries, end) = members(body).unwrap();
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_ref()).collect();
    assert_eq!((names, &body[end..]), (vec!["batch", "batch", "sentAt"], &b" rest"[..]));
    let items = elements(entries[0].1).unwrap();
    assert_eq!(items[0], br#"{"a":1}"#);
    assert_eq!((items[1], items[2]), (&br#"{"b": oops "}]"}"#[..], &br#"{"c":[1,{"d":2}}"#[..]));
    assert_eq!(items.len(), 5);
    assert_eq!(member(body, "sentAt").as_deref(), Some("2"));
    assert_eq!(member(b"\xef\xbb\xbf{\"writeKey\":\"k\\u0031\"}", "writeKey").as_deref(), Some("k1"));
    for nothing in [&b"[]"[..], b"{\"writeKey\":1}", b"{\"writeKey\":null}", b"{", b"nope"] {
        assert_eq!(member(nothing, "writeKey"), None);
    }
    assert_eq!(elements(b"[1,2,]").unwrap().len(), 2);
    assert_eq!(elements(b"[1,,2").unwrap(), [&b"1"[..], b"2"]);
    assert_eq!(elements(br#"[{"a":1},{"b":[1,{"c":2}]"#).unwrap(), [&br#"{"a":1}"#[..], br#"{"b":[1,{"c":2}]"#]);
    for broken in [&b"{}"[..], b"7", b""] {
        assert!(elements(broken).is_err());
    }
}

/// A hash that shows what it was given: enough to tell documents apart in tests.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn a_fingerprint_is_of_what_is_said() {
    let of = |text: &str| fingerprint(text, hash);
    for (one, other) in [
        (r#"{"a":1,"b":[1,2]}"#, " { \"b\" : [1, 2], \"a\" : 1 } "),
        (r#"{"a":"\u00e9\/"}"#, r#"{"a":"é/"}"#),
        ("[1.0,10,1e2,-0.50,0,-0.0]", "[1,1e1,100,-5e-1,0.000,0]"),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
    ] {
        assert_eq!(of(one), of(other), "{one} {other}");
    }
    for (one, other) in [
        ("[1,2]", "[2,1]"),
        ("[1]", "[\"1\"]"),
        ("[[1],2]", "[1,[2]]"),
        ("[]", "{}"),
        ("[null]", "[]"),
        ("[1]", "[-1]"),
        ("[10]", "[100]"),
        ("[9007199254740993]", "[9007199254740992]"),
        ("[1e99999999999999999999]", "[1e99999999999999999998]"),
        (r#"{"a":1,"a":2}"#, r#"{"a":1}"#),
        ("[true]", "[\"true\"]"),
    ] {
        assert_ne!(of(one), of(other), "{one} {other}");
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,3}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

/// The same value with its keys backwards and blanks wherever they may be.
fn respelt(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[ {} ]", items.iter().map(respelt).collect::<Vec<_>>().join(" ,\n")),
        Value::Object(map) => {
            let entries =
                map.iter().rev().map(|(key, value)| format!("{} :\t{}", Value::from(key.as_str()), respelt(value)));
            format!(" {{{}}}\r", entries.collect::<Vec<_>>().join(" , "))
        }
        other => other.to_string(),
    }
}

/// Documents, most of them plain or nearly.
fn documents() -> impl Strategy<Value = String> {
    let object = || values().prop_map(|value| format!("{{\"a\":{value},\"b\":[{value}]}}"));
    let texts = "[\\[\\]{}\",:\\\\ 0-2aenrtu.E\\-]{0,24}";
    let keys = r#"\{("(a|b|\\u0061|é|\\n)":(0|-1\.50|1e2|01|true|null|"x\\\\"|"\\u00e9"|\[\]|\{\}),?){0,4}\}"#;
    prop_oneof![
        values().prop_map(|value| value.to_string()),
        object(),
        object().prop_map(|text| respelt(&serde_json::from_str(&text).unwrap())),
        texts.prop_map(|inner| format!("{{\"a\":{inner}}}")),
        keys,
    ]
}

/// What a document's fingerprint is, said simply: a list of its parts for each object, of which the last of a key holds.
fn simple_fingerprint(walk: &mut Walk<'_>, depth: usize) -> Option<u64> {
    if depth > MAX_DEPTH {
        return None;
    }
    let text = |walk: &mut Walk<'_>| Some(hash(unescaped(walk.quoted()?).as_bytes()).rotate_left(1));
    let close = match walk.peek()? {
        b'{' => b'}',
        b'[' => b']',
        b'"' => return text(walk),
        _ => {
            let token = walk.token()?;
            let mut number = Vec::new();
            push_value_of(token, &mut number);
            return Some(hash(if is_word(token) { token.as_bytes() } else { &number }));
        }
    };
    walk.skip();
    let mut parts: Vec<(u64, u64)> = Vec::new();
    while !walk.eat(close) {
        if !parts.is_empty() && !walk.eat(b',') {
            return None;
        }
        let mut key = 0;
        if close == b'}' {
            walk.peek().filter(|byte| *byte == b'"')?;
            key = text(walk)?;
            walk.eat(b':').then_some(())?;
        }
        parts.push((key, simple_fingerprint(walk, depth + 1)?));
    }
    if close == b']' {
        let items = parts.iter().flat_map(|(_, item)| item.to_be_bytes());
        return Some(hash(&[b'['].into_iter().chain(items).collect::<Vec<u8>>()));
    }
    let entries: std::collections::BTreeMap<u64, u64> = parts.into_iter().collect();
    let entries = entries.iter().flat_map(|(key, value)| [key.to_be_bytes(), value.to_be_bytes()]).flatten();
    Some(hash(&[b'{'].into_iter().chain(entries).collect::<Vec<u8>>()))
}

proptest! {
    /// What is seen in one look to be plain, or is copied, is what would be written of it.
    #[test]
    fn a_copy_is_what_would_be_written(
        document in documents(),
        cut in any::<prop::sample::Index>(),
        other in prop::sample::select(&b"\0 \n\"\\,:{}[]0-.eu\xff"[..]),
    ) {
        let mut broken = document.clone().into_bytes();
        let at = cut.index(broken.len());
        broken[at] = other;
        for bytes in [document.as_bytes(), broken.as_slice()] {
            for duplicates in [Duplicates::Kept, Duplicates::LastHolds] {
                for numbers in [Numbers::Kept, Numbers::Finite, Numbers::Texts] {
                    let written = write::Writer::new(&decoded(bytes), duplicates, numbers).document();
                    prop_assert_eq!(read_as(bytes, duplicates, numbers), written);
                }
            }
            let Ok(text) = std::str::from_utf8(bytes) else { continue };
            for most in [1, 2, MAX_DEPTH] {
                if is_plain_object(text, most) {
                    let written = write::Writer::new(bytes, Duplicates::Kept, Numbers::Kept).document().unwrap();
                    prop_assert!(written.flags.is_empty() && !is_deeper_than(text, most), "{}", text);
                    let value: Value = serde_json::from_str(text).unwrap();
                    prop_assert!(value.is_object());
                    prop_assert_eq!(value, serde_json::from_str::<Value>(&written.text).unwrap());
                }
            }
        }
    }

    /// An outline has what the readers of parts find, of every list under a key of the document.
    #[test]
    fn an_outline_has_the_parts(records in prop::collection::vec(documents(), 0..4), other in documents()) {
        let whole = format!(" {{ \"x\" :{other}, \"list\": [{}] }}", records.join(" ,\n"));
        for (text, list) in [(whole.as_str(), Some("list")), (whole.as_str(), None), (other.as_str(), Some("a"))] {
            let Some(outline) = Outline::of(text, list) else { continue };
            let read = |bytes: &[u8]| read_as(bytes, Duplicates::Kept, Numbers::Kept).unwrap();
            let entries = |bytes: &[u8]| {
                let (entries, end) = members(bytes).unwrap();
                assert!(bytes[end..].trim_ascii().is_empty());
                let entry = |(key, value): (std::borrow::Cow<'_, str>, &[u8])| (key.into_owned(), read(value).text);
                entries.into_iter().map(entry).collect::<Vec<_>>()
            };
            let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
            prop_assert!(read(text.as_bytes()).flags.is_empty());
            prop_assert_eq!(outline.entries().map(owned).collect::<Vec<_>>(), entries(text.as_bytes()));
            let (all, _) = members(text.as_bytes()).unwrap();
            let listed = all.iter().find(|(key, _)| list == Some(key.as_ref()));
            let items = listed.map(|(_, value)| elements(value).unwrap());
            prop_assert_eq!(outline.records().map(<[Record]>::len), items.as_ref().map(Vec::len));
            for (record, item) in outline.records().unwrap_or_default().iter().zip(items.unwrap_or_default()) {
                prop_assert_eq!(text[record.span()].as_bytes(), item);
                prop_assert_eq!(outline.entries_of(record).map(owned).collect::<Vec<_>>(), entries(item));
            }
        }
    }

    /// Parts in one list and bytes in another give the fingerprint of a list for each.
    #[test]
    fn a_fingerprint_is_that_of_the_parts(document in documents()) {
        let simple = simple_fingerprint(&mut Walk::new(&document), 0);
        prop_assert_eq!(fingerprint(&document, hash), simple.unwrap_or_else(|| hash(document.as_bytes())));
    }

    /// A member that is looked for by its letters first is the one that the entries have.
    #[test]
    fn a_member_is_found_however_its_key_is_spelt(document in documents()) {
        for key in ["a", "b", "é", "\n", "c", ""] {
            let bytes = decoded(document.as_bytes());
            let entries = members(&bytes).map(|(entries, _)| entries).unwrap_or_default();
            let value = entries.iter().rev().find(|(name, _)| name == key).and_then(|(_, value)| parts::text(value));
            prop_assert_eq!(member(document.as_bytes(), key), value.map(std::borrow::Cow::into_owned));
        }
    }

    /// What is JSON is the same JSON afterwards, without a flag, however it was spelt.
    #[test]
    fn json_is_left_as_it_is(value in values()) {
        for spelling in [value.to_string(), respelt(&value), serde_json::to_string_pretty(&value).unwrap()] {
            let read = read(spelling.as_bytes()).unwrap();
            prop_assert!(read.flags.is_empty(), "{:?}", read.flags);
            prop_assert_eq!(serde_json::from_str::<Value>(&read.text).unwrap(), serde_json::from_str::<Value>(&spelling).unwrap());
            prop_assert_eq!(fingerprint(&spelling, hash), fingerprint(&value.to_string(), hash));
        }
    }

    /// What differs has another fingerprint.
    #[test]
    fn other_values_have_another_fingerprint(one in values(), other in values()) {
        if one != other {
            // `0.0` and `0` are one number to the fingerprint, and two to this comparison.
            let is_numeric = format!("{one}{other}").bytes().any(|byte| byte.is_ascii_digit());
            prop_assert!(is_numeric || fingerprint(&one.to_string(), hash) != fingerprint(&other.to_string(), hash));
        }
    }

    /// Whatever bytes come, the answer is well-formed JSON for a strict reader, or a place in them; and parts never fail.
    #[test]
    fn whatever_is_read_is_well_formed(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "[\\[\\]{}\",:\\\\ 0-9a-fNIutn.eE+\\-]{0,40}".prop_map(String::into_bytes),
        values().prop_map(|value| value.to_string().into_bytes()),
    ], cut in any::<prop::sample::Index>(), other in any::<u8>()) {
        let mut broken = bytes.clone();
        if !broken.is_empty() {
            let at = cut.index(broken.len());
            broken[at] = other;
        }
        for bytes in [&bytes, &broken] {
            match read_as(bytes, Duplicates::LastHolds, Numbers::Finite) {
                Ok(document) => {
                    let strict = serde_json::from_str::<Value>(&document.text);
                    prop_assert!(strict.is_ok(), "{:?} of {:?}", strict, String::from_utf8_lossy(bytes));
                    let again = read(document.text.as_bytes()).unwrap();
                    prop_assert_eq!(&again.text, &document.text);
                    prop_assert!(again.flags.is_empty());
                }
                Err(error) => prop_assert!(error.at <= decoded(bytes).len()),
            }
            let _ = (members(bytes), elements(bytes), member(bytes, "a"));
        }
    }

    /// A list's elements are found as they were put in.
    #[test]
    fn elements_are_found_as_they_were_put_in(items in prop::collection::vec(values(), 0..6)) {
        let spelt: Vec<String> = items.iter().map(|item| respelt(item).trim().to_owned()).collect();
        let list = format!("[{}]", spelt.join(" , "));
        let found = elements(list.as_bytes()).unwrap();
        prop_assert_eq!(found.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect::<Vec<_>>(), spelt);
    }
}

#[test]
fn depth_is_that_of_lists_and_objects_outside_of_texts() {
    for (text, depth) in [("1", 0), ("[]", 1), (r#"{"a":[{"b":1}],"c":[]}"#, 3), (r#"["[\"[\\",[1]]"#, 2), ("[[[", 3)] {
        assert!(!is_deeper_than(text, depth), "{text}");
        assert!(depth == 0 || is_deeper_than(text, depth - 1), "{text}");
    }
}
