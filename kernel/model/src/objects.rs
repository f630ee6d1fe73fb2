//! Responsible for what stands where an object is described: derived readers take a list there as well, field after field, and a
//! document of somebody is then read as something that he did not write. [`Objects`] around any reader refuses such lists, however
//! deep they stand; all else it passes on.
//!
//! What serde keeps until it knows what to do with it (what is in an untagged, an internally tagged or a flattened type, and what
//! stands before the tag of an adjacently tagged one) is read from serde's own memory of it, where a list goes on being taken. So
//! is the list that an internally tagged type takes in place of itself.

use std::fmt;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

/// A reader that takes an object, and no list, where an object is described.
#[derive(Debug)]
pub struct Objects<R>(pub R);

/// Read a document of JSON that somebody wrote.
///
/// # Errors
/// That it is none, or not of the form that is described.
pub fn from_json<'t, T: Deserialize<'t>>(text: &'t str) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(Objects(&mut reader))?;
    reader.end().map(|()| value)
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Object,
    Other,
}

/// Who asked, and for what.
struct Asking<V> {
    visitor: V,
    asked: Asked,
}

impl<V> Asking<V> {
    fn other(visitor: V) -> Asking<V> {
        Asking { visitor, asked: Asked::Other }
    }

    fn object(visitor: V) -> Asking<V> {
        Asking { visitor, asked: Asked::Object }
    }
}

macro_rules! pass_on_what_is_asked {
    ($($ask:ident)*) => {
        $(
            fn $ask<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, R::Error> {
                self.0.$ask(Asking::other(visitor))
            }
        )*
    };
}

impl<'de, R: Deserializer<'de>> Deserializer<'de> for Objects<R> {
    type Error = R::Error;

    pass_on_what_is_asked! {
        deserialize_any deserialize_bool
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_option deserialize_unit
        deserialize_seq deserialize_map deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, R::Error> {
        self.0.deserialize_unit_struct(name, Asking::other(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, R::Error> {
        self.0.deserialize_newtype_struct(name, Asking::other(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, R::Error> {
        self.0.deserialize_tuple(length, Asking::other(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, R::Error> {
        self.0.deserialize_tuple_struct(name, length, Asking::other(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, R::Error> {
        self.0.deserialize_struct(name, fields, Asking::object(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, R::Error> {
        self.0.deserialize_enum(name, variants, Asking::other(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! pass_on_what_stands_there {
    ($($visit:ident: $value:ty)*) => {
        $(
            fn $visit<E: Error>(self, value: $value) -> Result<V::Value, E> {
                self.visitor.$visit(value)
            }
        )*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Asking<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    pass_on_what_stands_there! {
        visit_bool: bool
        visit_i8: i8 visit_i16: i16 visit_i32: i32 visit_i64: i64 visit_i128: i128
        visit_u8: u8 visit_u16: u16 visit_u32: u32 visit_u64: u64 visit_u128: u128
        visit_f32: f32 visit_f64: f64 visit_char: char
        visit_str: &str visit_borrowed_str: &'de str visit_string: String
        visit_bytes: &[u8] visit_borrowed_bytes: &'de [u8] visit_byte_buf: Vec<u8>
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<R: Deserializer<'de>>(self, inner: R) -> Result<V::Value, R::Error> {
        self.visitor.visit_some(Objects(inner))
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_newtype_struct<R: Deserializer<'de>>(self, inner: R) -> Result<V::Value, R::Error> {
        self.visitor.visit_newtype_struct(Objects(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        match self.asked {
            Asked::Object => Err(A::Error::invalid_type(Unexpected::Seq, &self.visitor)),
            Asked::Other => self.visitor.visit_seq(Objects(items)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Objects(members))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(Objects(variant))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Objects<S> {
    type Value = S::Value;

    fn deserialize<R: Deserializer<'de>>(self, reader: R) -> Result<S::Value, R::Error> {
        self.0.deserialize(Objects(reader))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(Objects(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Objects<A> {
    type Error = A::Error;
    type Variant = Objects<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Objects<A::Variant>), A::Error> {
        self.0.variant_seed(Objects(seed)).map(|(value, variant)| (value, Objects(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Objects(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(length, Asking::other(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Asking::object(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Point {
        x: u8,
        y: Option<u8>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wrapped(Point);

    #[derive(Debug, PartialEq, Deserialize)]
    struct Pair(u8, Point);

    #[derive(Debug, PartialEq, Deserialize)]
    enum Shape {
        Nothing,
        Dot(Point),
        Line(Point, Point),
        Circle { centre: Point, radius: u8 },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "is", content = "of")]
    enum Beside {
        Dot(Point),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "is")]
    enum Within {
        Circle { radius: u8 },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u8),
        Point(Point),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Flat {
        own: Option<Point>,
        #[serde(flatten)]
        point: Point,
    }

    fn read<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, String> {
        from_json(text).map_err(|error| error.to_string())
    }

    fn point() -> Point {
        Point { x: 1, y: None }
    }

    /// The same text is read by a derived reader alone, else the test would show nothing.
    fn refuses<'t, T: Deserialize<'t> + fmt::Debug>(text: &'t str) {
        assert!(serde_json::from_str::<T>(text).is_ok(), "{text}");
        let said = read::<T>(text).unwrap_err();
        assert!(said.starts_with("invalid type: sequence, expected struct "), "{text}: {said}");
    }

    #[test]
    fn a_list_is_no_object_however_deep_it_stands() {
        refuses::<Point>("[1,null]");
        refuses::<Option<Point>>("[1,2]");
        refuses::<Vec<Point>>(r#"[{"x":1},[1,2]]"#);
        refuses::<BTreeMap<String, Vec<Option<Point>>>>(r#"{"a":[null,[1,2]]}"#);
        refuses::<(u8, Point)>("[1,[1,2]]");
        refuses::<Wrapped>("[1,2]");
        refuses::<Pair>("[1,[1,2]]");
        refuses::<Shape>(r#"{"Dot":[1,2]}"#);
        refuses::<Shape>(r#"{"Line":[{"x":1},[1,2]]}"#);
        refuses::<Shape>(r#"{"Circle":{"centre":[1,2],"radius":1}}"#);
        refuses::<Beside>(r#"{"is":"Dot","of":[1,2]}"#);
        refuses::<Flat>(r#"{"own":[1,2],"x":1}"#);
        for text in [r#"{"Circle":[{"x":1},1]}"#, r#"["Dot",{"x":1}]"#] {
            assert!(read::<Shape>(text).is_err() && read::<Beside>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn all_else_is_read_as_without() {
        assert_eq!(read(r#"{"x":1}"#), Ok(point()));
        assert_eq!(read(r#"{"x":1,"y":2}"#), Ok(Some(Point { x: 1, y: Some(2) })));
        assert_eq!(read("null"), Ok(None::<Point>));
        assert_eq!(read(r#"{"x":1}"#), Ok(Wrapped(point())));
        assert_eq!(read(r#"[1,{"x":1}]"#), Ok(Pair(1, point())));
        assert_eq!(read(r#"[1,{"x":1}]"#), Ok((1_u8, point())));
        assert_eq!(read(r#""Nothing""#), Ok(Shape::Nothing));
        assert_eq!(read(r#"{"Dot":{"x":1}}"#), Ok(Shape::Dot(point())));
        assert_eq!(read(r#"{"Line":[{"x":1},{"x":1}]}"#), Ok(Shape::Line(point(), point())));
        let circle = Shape::Circle { centre: point(), radius: 3 };
        assert_eq!(read(r#"{"Circle":{"centre":{"x":1},"radius":3}}"#), Ok(circle));
        assert_eq!(read(r#"{"is":"Dot","of":{"x":1}}"#), Ok(Beside::Dot(point())));
        assert_eq!(read(r#"{"is":"Circle","radius":3}"#), Ok(Within::Circle { radius: 3 }));
        assert_eq!(read::<Vec<Either>>(r#"[7,{"x":1}]"#), Ok(vec![Either::Number(7), Either::Point(point())]));
        assert_eq!(read(r#"{"own":{"x":1},"x":1}"#), Ok(Flat { own: Some(point()), point: point() }));
        // Keys that are numbers, and texts that are lent.
        assert_eq!(read(r#"{"1":"a"}"#), Ok(BTreeMap::from([(1_u8, "a")])));
        assert_eq!(read::<Value>(r#"{"a":[1,[2.5,null]]}"#), Ok(json!({"a": [1, [2.5, null]]})));
        assert_eq!(read::<Vec<&RawValue>>("[ [1, 2 ] ]").unwrap()[0].get(), "[1, 2 ]");
        assert!(read::<Point>(r#"{"x":1} 2"#).is_err());
    }

    /// What the module's description says of it.
    #[test]
    fn what_serde_keeps_for_later_is_not_seen() {
        assert_eq!(read(r#"[1,null]"#), Ok(Either::Point(point())));
        assert_eq!(read(r#"["Circle",3]"#), Ok(Within::Circle { radius: 3 }));
        assert_eq!(read(r#"{"of":[1,null],"is":"Dot"}"#), Ok(Beside::Dot(point())));
    }
}
