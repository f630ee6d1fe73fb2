//! The forms of an identifier under rules that were or will be others: by them what is kept for good about an identifier, and
//! not with its identity, is found whatever the rules become.
//!
//! A list that holds digests alone cannot be keyed anew when the rules change. So what is put on it is put there in every form
//! that other rules could ask for, and what is looked for is looked for in every form that earlier rules could have made.

use super::normal::{composed, fold_case, without_invisible};
use super::rules::{Case, IdentityRules, Shape};
use super::{Identifier, phones};

/// Before the type of a form that counts only where letters are compared without their case. No type begins so.
const FOLDED: &str = "~fold:";

/// Before the type of a form that counts only where the values of the type are telephone numbers.
const AS_NUMBER: &str = "~phone:";

/// The forms of one identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forms {
    /// As it came.
    pub given: Identifier,
    /// By the rules of now and, of a telephone number, with and without the country that they name. A hash can stand for each.
    pub normal: Vec<Identifier>,
    /// What rules that compare less would compare, under names that only such rules ask for.
    pub loose: Vec<Identifier>,
}

impl Forms {
    /// Each once.
    pub fn all(&self) -> Vec<Identifier> {
        let mut all = vec![self.given.clone()];
        for form in self.normal.iter().chain(&self.loose) {
            if !all.contains(form) {
                all.push(form.clone());
            }
        }
        all
    }
}

impl IdentityRules {
    /// The forms in which an identifier is written down.
    pub fn kept_forms(&self, identifier: &Identifier) -> Forms {
        self.forms(identifier, false)
    }

    /// The forms in which one is looked for.
    pub fn sought_forms(&self, identifier: &Identifier) -> Forms {
        self.forms(identifier, true)
    }

    fn forms(&self, identifier: &Identifier, is_sought: bool) -> Forms {
        let given = identifier.trimmed();
        let (kind, own) = (given.kind.as_str(), self.types.get(&given.kind));
        let of = |value: String| Identifier { kind: kind.to_owned(), value };
        let mut normal: Vec<Identifier> = self.judge(identifier).ok().into_iter().collect();
        let judged = normal.first().map_or(given.value.as_str(), |normal| normal.value.as_str()).to_owned();
        let is_number = own.is_some_and(|own| own.shape == Shape::Phone);
        let mut loose = Vec::new();
        if is_number {
            normal.extend(phones::national(&given.value, self.phone_region.as_deref()).into_iter().map(of));
        }
        let numbers = phones::national(&given.value, None).into_iter().chain(phones::normal(&given.value, None));
        if is_sought == is_number {
            let numbers = numbers.chain(normal.iter().filter(|_| is_number).map(|form| form.value.clone()));
            loose.extend(numbers.map(|value| Identifier { kind: format!("{AS_NUMBER}{kind}"), value }));
        }
        let folds = own.is_some_and(|own| own.case == Case::Fold);
        if is_sought == folds {
            let bare = without_invisible(&judged, Shape::Any);
            let value = fold_case(composed(&bare)).into_owned();
            loose.push(Identifier { kind: format!("{FOLDED}{kind}"), value });
        }
        // What is the form anyway is found by it, whatever the rules are.
        if !is_sought {
            let known: Vec<String> = std::iter::once(&given).chain(&normal).map(|form| form.value.clone()).collect();
            loose.retain(|form| !known.contains(&form.value));
        }
        normal.dedup();
        Forms { given, normal, loose }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::rules::TypeRules;
    use super::*;

    /// Rules of every kind that make other normal forms.
    fn all_rules() -> Vec<(&'static str, IdentityRules)> {
        let region = |region: &str| IdentityRules { phone_region: Some(region.to_owned()), ..IdentityRules::default() };
        let typed = |kind: &str, case, shape| {
            let mut rules = IdentityRules::default();
            rules.types.insert(kind.to_owned(), TypeRules { case, shape, ..TypeRules::default() });
            rules
        };
        vec![
            ("as they are", IdentityRules::default()),
            ("DE", region("DE")),
            ("AT", region("AT")),
            ("IT", region("IT")),
            ("folded user ids", typed("user_id", Case::Fold, Shape::Any)),
            ("kept addresses", typed("email", Case::Keep, Shape::Email)),
            ("phones as any text", typed("phone", Case::Keep, Shape::Any)),
        ]
    }

    fn is_found(put: &Forms, sought: &Forms) -> bool {
        let put: BTreeSet<Identifier> = put.all().into_iter().collect();
        sought.all().iter().any(|form| put.contains(form))
    }

    /// What was put on a list under one set of rules is found under each other, in the spelling in which it came and in the others
    /// that are the same under either set.
    #[test]
    fn what_is_kept_under_one_set_of_rules_is_found_under_every_other() {
        let spellings: [(&str, &[&str]); 6] = [
            ("phone", &["0170 555661", "0170-555661", "(0170) 555 661"]),
            ("phone", &["+49 170 555661", "+49170555661", "0049 170 555661"]),
            ("phone", &["030 1234599"]),
            ("email", &["Ada@Shop.example", "ada@shop.example"]),
            ("user_id", &["Eve", "Eve "]),
            ("phone", &["+39 06 5551234", "0039065551234"]),
        ];
        for (kind, values) in spellings {
            for (before, old) in all_rules() {
                for (after, new) in all_rules() {
                    for given in values {
                        let put = old.kept_forms(&Identifier::new(kind, *given));
                        let same = |value: &&&str| {
                            let form =
                                |rules: &IdentityRules, value: &str| rules.judge(&Identifier::new(kind, value)).ok();
                            *value == given || form(&new, value) == form(&new, given)
                        };
                        for value in values.iter().filter(same) {
                            let sought = new.sought_forms(&Identifier::new(kind, *value));
                            assert!(is_found(&put, &sought), "{given} under {before}, {value} under {after}");
                        }
                    }
                }
            }
        }
    }

    /// A number that was put on a list without its country is found with it, once the rules name the country.
    #[test]
    fn a_number_of_the_country_is_found_with_and_without_it() {
        let rules = all_rules();
        let rules_of = |wanted: &str| &rules.iter().find(|(name, _)| *name == wanted).unwrap().1;
        let put = |under: &str, value: &str| rules_of(under).kept_forms(&Identifier::new("phone", value));
        let sought = |under: &str, value: &str| rules_of(under).sought_forms(&Identifier::new("phone", value));
        for (under, given, later, value, expected) in [
            ("as they are", "0170 555661", "DE", "+49 170 555661", true),
            ("as they are", "0170 555661", "DE", "0170/555661", true),
            ("DE", "+49 170 555661", "as they are", "0170 555661", true),
            ("AT", "0170 555661", "DE", "+49170555661", true),
            ("phones as any text", "0170-555661", "DE", "+49170555661", true),
            ("DE", "0170 555661", "DE", "+43 170 555661", false),
            ("as they are", "+43 170 555661", "DE", "0170 555661", false),
            ("as they are", "0170 555662", "DE", "+49 170 555661", false),
        ] {
            assert_eq!(
                is_found(&put(under, given), &sought(later, value)),
                expected,
                "{under} {given}, {later} {value}"
            );
        }
    }

    /// Rules that tell values apart are not made to take one for another by what looser rules would ask for.
    #[test]
    fn values_that_the_rules_tell_apart_stay_apart() {
        let rules = IdentityRules::default();
        for (kind, put, sought) in
            [("user_id", "Eve", "eve"), ("user_id", "eve", "Eve"), ("user_id", "12-345-678", "12345678")]
        {
            let put = rules.kept_forms(&Identifier::new(kind, put));
            assert!(!is_found(&put, &rules.sought_forms(&Identifier::new(kind, sought))), "{put:?} {sought}");
        }
    }
}
