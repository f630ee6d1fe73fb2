//! Responsible for schemas of tracking plans: admitted like those of configurations, because an admin's schema is checked against
//! every event that a sender chooses.

use jsonschema::Validator;
use kith_model::tracking::ObjectSchema;
use serde_json::Value;

use super::config::{ConfigMistake, cut, validator};
use super::schema::{self, SchemaMistake, SchemaSize};

/// A schema that is ready to use.
pub struct PlannedSchema {
    size: SchemaSize,
    validator: Validator,
}

impl PlannedSchema {
    /// Make a schema (JSON Schema, 2020-12) ready.
    ///
    /// # Errors
    /// Where it is no schema, or one that is not admitted, with the place in it.
    pub fn new(schema: &Value) -> Result<PlannedSchema, ConfigMistake> {
        // Measured first: how long the other two take depends on its size.
        let size = schema::admit(schema)
            .map_err(|SchemaMistake { path, message }| ConfigMistake { path: cut(path), message: cut(message) })?;
        jsonschema::draft202012::meta::validate(schema).map_err(|error| ConfigMistake {
            path: cut(error.instance_path().as_str().to_owned()),
            message: cut(format!("is not valid JSON Schema: {error}")),
        })?;
        let validator = validator(schema).map_err(|error| ConfigMistake {
            path: cut(error.instance_path().as_str().to_owned()),
            message: cut(format!("cannot be used as JSON Schema: {error}")),
        })?;
        Ok(PlannedSchema { size, validator })
    }

    /// The size that a schema would have, where it is one that is admitted.
    pub fn measure(schema: &Value) -> Option<u64> {
        schema::admit(schema).ok().map(|size| size.places)
    }

    /// Its places, each reference counted as what it stands for.
    pub fn size(&self) -> u64 {
        self.size.places
    }
}

impl ObjectSchema for PlannedSchema {
    fn steps(&self, value: &Value) -> u64 {
        self.size.steps(value)
    }

    fn mistake(&self, value: &Value) -> Option<(String, String)> {
        let error = self.validator.iter_errors(value).next()?;
        Some((error.instance_path().as_str().to_owned(), error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use kith_model::event::DraftEvent;
    use kith_model::tracking::{ExpectedFields, Policy, TrackingPlan};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_that_is_none_or_too_much_is_refused_with_its_place() {
        let twice = |name: &str| json!({ "allOf": [{ "$ref": format!("#/$defs/{name}") }, { "$ref": format!("#/$defs/{name}") }] });
        let mut defs = serde_json::Map::new();
        for level in 0..30 {
            defs.insert(level.to_string(), twice(&(level + 1).to_string()));
        }
        defs.insert("30".into(), json!({}));
        for (schema, place) in [
            (json!({ "type": "nummer" }), "/type"),
            (json!({ "properties": { "total": { "minimum": "x" } } }), "/properties/total/minimum"),
            (json!({ "properties": { "a": { "pattern": "(" } } }), ""),
            (json!({ "$ref": "https://example.com/schema.json" }), "/$ref"),
            (json!({ "$ref": "#" }), "/$ref"),
            (json!({ "$ref": "#/$defs/0", "$defs": defs }), ""),
            (json!(7), ""),
        ] {
            let refused = PlannedSchema::new(&schema).map(|schema| schema.size()).unwrap_err();
            assert!(refused.path.starts_with(place), "{schema}: {refused:?}");
        }
        assert!(PlannedSchema::new(&json!({ "type": "object", "required": ["total"] })).is_ok());
        assert!(PlannedSchema::new(&json!(true)).is_ok());
    }

    /// What an admin wrote in a few bytes is measured by what it becomes, and what a sender sends by how long it is.
    #[test]
    fn patterns_and_the_texts_that_they_are_held_against_are_measured() {
        let named = |pattern: &str| json!({ "patternProperties": { pattern: {} } });
        for pattern in [r"^\w{2700}x$", r"^(\w{70}){70}$", r"^((a{40}){40}){40}$"] {
            let twice = json!({ "allOf": [named(pattern), named(pattern)] });
            let refused = PlannedSchema::new(&twice).map(|schema| schema.size()).unwrap_err();
            assert!(refused.message.contains("places") || refused.message.contains("size"), "{pattern}: {refused:?}");
        }
        let schema =
            PlannedSchema::new(&json!({ "properties": { "sku": { "pattern": "^[A-Z]{2}-[0-9]{6}$" } } })).unwrap();
        let of_length = |length: usize| schema.steps(&json!({ "sku": "A".repeat(length) }));
        assert!(of_length(1_000) < of_length(100_000) / 10, "{} {}", of_length(1_000), of_length(100_000));
        let free = PlannedSchema::new(&json!({ "properties": { "sku": { "type": "string" } } })).unwrap();
        assert_eq!(free.steps(&json!({ "sku": "A" })), free.steps(&json!({ "sku": "A".repeat(100_000) })));
        let wide: serde_json::Map<String, Value> = (0..40_000).map(|n| (format!("n{n}"), json!(1))).collect();
        let many = json!({ "patternProperties": (0..55).map(|n| (format!("^(.*)x{n}$"), json!({}))).collect::<serde_json::Map<_, _>>() });
        let steps = PlannedSchema::new(&many).unwrap().steps(&Value::Object(wide));
        assert!(steps > kith_model::budget::table::CONFIG_STEPS.default, "{steps}");
    }

    fn judged(schema: &Value, properties: &str) -> Option<String> {
        let schema = PlannedSchema::new(schema).unwrap();
        let expected = ExpectedFields { policy: Policy::Flag, schema: Some(std::sync::Arc::new(schema)) };
        let plan = TrackingPlan {
            name: "web".into(),
            unplanned: Policy::Allow,
            events: [("Buy".to_owned(), expected)].into(),
            traits: None,
        };
        let event = DraftEvent { name: "Buy".into(), properties: properties.into(), ..DraftEvent::default() };
        plan.judge(&[event]).of(0).map(|judged| judged.place.clone())
    }

    #[test]
    fn the_place_of_a_mistake_is_named() {
        let schema = json!({
            "required": ["total"],
            "properties": { "total": { "type": "number" }, "items": { "items": { "properties": { "sku": { "type": "string" } } } } },
        });
        for (properties, place) in [
            (r#"{"total":1}"#, None),
            (r#"{"total":"1"}"#, Some("properties.total")),
            (r#"{"total":1,"items":[{"sku":"a"},{"sku":7}]}"#, Some("properties.items.1.sku")),
            ("", Some("properties")),
            ("{}", Some("properties")),
            (r#"{"total":1e400}"#, None),
        ] {
            assert_eq!(judged(&schema, properties).as_deref(), place, "{properties}");
        }
    }

    proptest! {
        /// What a schema of types takes is what the types say, whatever the values.
        #[test]
        fn types_are_told_apart(
            wanted in prop::sample::select(vec!["number", "string", "boolean", "array", "object", "null"]),
            value in prop_oneof![
                any::<f64>().prop_filter("JSON has no other", |number| number.is_finite()).prop_map(|number| json!(number)),
                any::<i64>().prop_map(|number| json!(number)),
                ".{0,8}".prop_map(|text| json!(text)), any::<bool>().prop_map(|truth| json!(truth)),
                Just(json!(null)), Just(json!([1])), Just(json!({ "a": 1 })),
            ],
        ) {
            let schema = json!({ "properties": { "v": { "type": wanted } } });
            let is = match &value {
                Value::Null => "null", Value::Bool(_) => "boolean", Value::Number(_) => "number",
                Value::String(_) => "string", Value::Array(_) => "array", Value::Object(_) => "object",
            };
            prop_assert_eq!(judged(&schema, &json!({ "v": value }).to_string()).is_none(), is == wanted);
        }
    }
}
