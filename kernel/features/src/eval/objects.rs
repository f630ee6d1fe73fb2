//! Objects that a map makes of the items of a list.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Scope;
use crate::tree::Node;
use crate::value::Value;

impl Scope<'_> {
    /// An object, strict in its fields as a list is in its items. What is absent has its name, too, and is null. Each object
    /// has its names for itself, and they are charged.
    pub(super) fn object(&self, fields: &[(Arc<str>, Node)], variables: &mut Vec<Value>) -> Value {
        let mut made = BTreeMap::new();
        for (name, field) in fields {
            let value = self.value(field, variables);
            if value.is_unknown() || !self.budget.write(name.len()) {
                return Value::Unknown;
            }
            made.insert(name.as_ref().to_owned(), value);
        }
        Value::Map(made)
    }
}
