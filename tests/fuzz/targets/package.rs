//! Runs the target `package` on what libfuzzer makes; `.ci/fuzz` builds it.

#![no_main]
#![allow(unsafe_code, reason = "libfuzzer calls the target by its C name, which the macro exports")]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kith_fuzz::package(bytes));
