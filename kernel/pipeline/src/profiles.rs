//! The reading floor: rows of people and how a person is put together from them. The stages and the questions above use it;
//! it uses none of them.

pub(crate) mod consents;
pub(crate) mod evaluation;
pub(crate) mod facts;
mod facts_before;
pub(crate) mod history;
pub(crate) mod person;
pub(crate) mod scan;
pub(crate) mod suppressions;
