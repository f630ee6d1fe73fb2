//! What of a record becomes properties or traits, as text: numbers keep their digits, and keys their order.

use kith_plugin_sdk::json;

use crate::path;
use crate::settings::Selection;

/// The chosen values as an object, absent ones left out; empty for none.
pub(crate) fn chosen(record: &[u8], selection: &Selection) -> String {
    let mut object = String::new();
    for (key, path) in selection.fields() {
        if let Some(value) = path::find(record, path) {
            push_member(&mut object, key, value);
        }
    }
    closed(object)
}

/// The record without what lies at these paths and under these of its own keys; empty where nothing is left.
pub(crate) fn without(record: &[u8], omit: &[String], is_left_out: impl Fn(&str) -> bool) -> String {
    let paths: Vec<&str> = omit.iter().map(String::as_str).collect();
    closed(kept(record, &paths, &is_left_out))
}

/// An object, or nothing, with one more member that it has not yet.
pub(crate) fn with_member(object: &str, key: &str, value: &str) -> String {
    let mut object = object.strip_suffix('}').unwrap_or_default().to_owned();
    push_member(&mut object, key, value.as_bytes());
    closed(object)
}

fn closed(mut object: String) -> String {
    if !object.is_empty() {
        object.push('}');
    }
    object
}

/// The members that are kept, as an object that is not closed yet. The recursion is as deep as the paths are long.
fn kept(object: &[u8], omit: &[&str], is_left_out: &dyn Fn(&str) -> bool) -> String {
    let mut left = String::new();
    for (key, value) in json::members(object).map(|(entries, _)| entries).unwrap_or_default() {
        if omit.contains(&&*key) || is_left_out(&key) {
            continue;
        }
        let below = omit.iter().filter_map(|path| path.strip_prefix(&*key)?.strip_prefix('.'));
        let below: Vec<&str> = below.collect();
        push_member(&mut left, &key, thinned(value, &below).as_deref().unwrap_or(value));
    }
    left
}

/// A value without what lies at paths in it; in a list, without what lies there in each of its objects. `None` where it stays as
/// it is.
fn thinned(value: &[u8], omit: &[&str]) -> Option<Vec<u8>> {
    if omit.is_empty() {
        return None;
    }
    match value.first()? {
        b'{' => {
            let left = kept(value, omit, &|_| false);
            Some(if left.is_empty() { b"{}".to_vec() } else { closed(left).into_bytes() })
        }
        b'[' => {
            let items = json::elements(value).ok()?;
            let items: Vec<Vec<u8>> =
                items.into_iter().map(|item| thinned_object(item, omit).unwrap_or_else(|| item.to_vec())).collect();
            Some([&b"["[..], items.join(&b',').as_slice(), b"]"].concat())
        }
        _ => None,
    }
}

fn thinned_object(item: &[u8], omit: &[&str]) -> Option<Vec<u8>> {
    item.starts_with(b"{").then(|| thinned(item, omit))?
}

/// Add a member to an object that is not closed yet.
pub(crate) fn push_member(object: &mut String, key: &str, value: &[u8]) {
    object.push(if object.is_empty() { '{' } else { ',' });
    object.push_str(&serde_json::Value::from(key).to_string());
    object.push(':');
    // It was written as text by whoever read the record.
    object.push_str(&String::from_utf8_lossy(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &[u8] = br#"{"id":7,"total":1.50,"customer":{"email":"a@b.c","card":{"number":"4"}},"lines":[{"sku":"x","cost":1},3,{"cost":2}],"note":null,"a.b":1}"#;

    #[test]
    fn all_but_what_is_left_out() {
        let without = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            super::without(RECORD, &paths, |_| false)
        };
        assert_eq!(without(&[]).as_bytes(), RECORD);
        assert_eq!(
            without(&["id", "customer.card", "lines.cost", "a.b", "note", "nothing.there", "total.x"]),
            r#"{"total":1.50,"customer":{"email":"a@b.c"},"lines":[{"sku":"x"},3,{}]}"#
        );
        assert_eq!(without(&["id", "total", "customer", "lines", "note", "a.b"]), "");
        assert_eq!(super::without(RECORD, &[], |key| key != "id"), r#"{"id":7}"#);
        assert_eq!(with_member("", "b", "1"), r#"{"b":1}"#);
        assert_eq!(with_member(r#"{"a":{}}"#, "b", "1"), r#"{"a":{},"b":1}"#);
    }

    #[test]
    fn chosen_values_have_their_last_key_or_a_new_one() {
        let list = Selection::List(["total", "customer.email", "gone"].map(str::to_owned).to_vec());
        assert_eq!(chosen(RECORD, &list), r#"{"total":1.50,"email":"a@b.c"}"#);
        let map = [("first \"sku\"", "lines.0.sku"), ("note", "note")];
        let map = Selection::Map(map.into_iter().map(|(key, path)| (key.to_owned(), path.to_owned())).collect());
        assert_eq!(chosen(RECORD, &map), r#"{"first \"sku\"":"x","note":null}"#);
        assert_eq!(chosen(RECORD, &Selection::List(vec!["gone".to_owned()])), "");
    }
}
