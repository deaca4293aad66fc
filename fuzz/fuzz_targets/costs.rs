//! The trap that does the most: much of the same at once.
#![no_main]

use model_tests::hostile::{Diet, fuzz};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz(Diet::Costs, bytes));
