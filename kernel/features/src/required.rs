//! Identifiers without one of which a condition is false, from its form alone.

use std::sync::Arc;

use crate::tree::{FeatureName, Macro, MacroCall, Node};
use crate::value::{Comparison, Value};

/// An identifier that a condition asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequiredIdentifier {
    pub kind: Arc<str>,
    pub value: Arc<str>,
}

/// Identifiers of which a person has at least one wherever the condition is not false.
pub(crate) fn identifiers(node: &Node) -> Option<Vec<RequiredIdentifier>> {
    match node {
        Node::And(a, b) => match (identifiers(a), identifiers(b)) {
            (Some(a), Some(b)) => Some(if a.len() <= b.len() { a } else { b }),
            (a, b) => a.or(b),
        },
        Node::Or(a, b) => {
            let (mut a, b) = (identifiers(a)?, identifiers(b)?);
            a.extend(b);
            Some(a)
        }
        Node::In(item, list) => match (item.as_ref(), list.as_ref()) {
            (Node::Literal(Value::Text(value)), Node::Feature(FeatureName::Identifiers(kind))) => {
                Some(vec![RequiredIdentifier { kind: kind.clone(), value: value.clone() }])
            }
            _ => None,
        },
        Node::MacroCall(each) => of_exists(each),
        _ => None,
    }
}

/// `profile.identifiers.email.exists(e, e == 'a@example.com')`, and with `in` a list of texts.
fn of_exists(each: &MacroCall) -> Option<Vec<RequiredIdentifier>> {
    let (Macro::Exists, Node::Feature(FeatureName::Identifiers(kind)), Some(condition)) =
        (each.kind, &each.over, &each.condition)
    else {
        return None;
    };
    let required = |value: &Value| match value {
        Value::Text(value) => Some(RequiredIdentifier { kind: kind.clone(), value: value.clone() }),
        _ => None,
    };
    let is_variable = |node: &Node| matches!(node, Node::Variable(slot) if *slot == each.slot);
    match condition {
        Node::Compare(Comparison::Equal, a, b, _) => match (a.as_ref(), b.as_ref()) {
            (variable, Node::Literal(value)) | (Node::Literal(value), variable) if is_variable(variable) => {
                required(value).map(|one| vec![one])
            }
            _ => None,
        },
        Node::In(variable, list) if is_variable(variable) => match list.as_ref() {
            Node::Literal(Value::List(values)) => values.iter().map(required).collect(),
            Node::List(items) => {
                items.iter().map(|item| if let Node::Literal(value) = item { required(value) } else { None }).collect()
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::expression::Expression;

    #[test]
    fn a_condition_requires_what_it_is_false_without() {
        let required = |condition: &str| {
            let found = Expression::parse(condition).unwrap().required_identifiers();
            found.map(|all| all.iter().map(|one| format!("{}:{}", one.kind, one.value)).collect::<Vec<_>>())
        };
        for (condition, wanted) in [
            ("'a' in profile.identifiers.email", Some(&["email:a"][..])),
            ("has(traits.x) && 'a' in profile.identifiers.email", Some(&["email:a"])),
            ("'a' in profile.identifiers.email && has(traits.x)", Some(&["email:a"])),
            ("'a' in profile.identifiers.email || 'b' in profile.identifiers.phone", Some(&["email:a", "phone:b"])),
            ("profile.identifiers.email.exists(e, e == 'a')", Some(&["email:a"])),
            ("profile.identifiers.email.exists(e, 'a' == e)", Some(&["email:a"])),
            ("profile.identifiers.email.exists(e, e in ['a', 'b'])", Some(&["email:a", "email:b"])),
            ("profile.identifiers.email.exists(e, e in ['a', 1])", None),
            ("profile.identifiers.email.exists(e, e != 'a')", None),
            ("profile.identifiers.email.exists(e, e == traits.email)", None),
            ("profile.identifiers.email.all(e, e == 'a')", None),
            ("'a' in profile.identifiers.email || has(traits.x)", None),
            ("!('a' in profile.identifiers.email)", None),
            ("'a' in traits.emails", None),
            ("has(profile.identifiers.email)", None),
            // A number may equal another text than the one that it is written as.
            ("1 in profile.identifiers.user_id", None),
        ] {
            assert_eq!(
                required(condition),
                wanted.map(|all| all.iter().map(ToString::to_string).collect()),
                "{condition}"
            );
        }
    }
}
