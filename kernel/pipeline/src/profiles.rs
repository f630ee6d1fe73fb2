//! The reading floor: how rows become people. All stages read through it; it uses none of them.

pub(crate) mod facts;
