//! Register accesses of any offset, size and value.
#![no_main]

use model_tests::hostile::{Diet, fuzz};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz(Diet::Registers, bytes));
