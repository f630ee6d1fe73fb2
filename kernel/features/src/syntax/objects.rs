//! Objects: what a map makes of each item where several values of it belong together.

use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr};
use kith_model::table::MAX_RECORD_FIELDS;

use super::{TranslationResult, Translator};
use crate::tree::Node;

/// What is said of an object that stands elsewhere.
pub(super) const MISPLACED: &str = "an object stands only where `map` makes one of each item, e.g. \
    `events('Order Completed').map(e, {'time': e.time, 'amount': e.total})`";

impl Translator<'_> {
    /// What a map makes of an item: a value, or an object of some.
    pub(super) fn mapped(&mut self, item: &IdedExpr) -> TranslationResult<Node> {
        match &item.expr {
            Expr::Map(object) => self.object(item, object),
            _ => self.value(item),
        }
    }

    fn object(&mut self, at: &IdedExpr, object: &MapExpr) -> TranslationResult<Node> {
        if object.entries.is_empty() || object.entries.len() > MAX_RECORD_FIELDS {
            let message = format!("an object has 1 to {MAX_RECORD_FIELDS} fields, e.g. `{{'amount': e.total}}`");
            return self.refuse(at, message);
        }
        let mut fields: Vec<(Arc<str>, Node, &IdedExpr)> = Vec::with_capacity(object.entries.len());
        for entry in &object.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return self.refuse(at, "a field is written `'name': value`");
            };
            let Expr::Literal(LiteralValue::String(name)) = &entry.key.expr else {
                return self.refuse(&entry.key, "a field is named by a text in quotes: `{'amount': e.total}`");
            };
            let value = self.value(&entry.value)?;
            fields.push((name.inner().into(), value, &entry.key));
        }
        // In one order, so that those who write the same in another have the same leaf.
        fields.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        if let Some(pair) = fields.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return self.refuse(pair[1].2, format!("the field `{}` is there twice", pair[1].0));
        }
        Ok(Node::Object(fields.into_iter().map(|(name, value, _)| (name, value)).collect()))
    }
}
