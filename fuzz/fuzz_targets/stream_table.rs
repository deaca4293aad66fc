//! Stream tables of any content and format, changed at any time.
#![no_main]

use model_tests::hostile::{ActionSet, fuzz};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz(ActionSet::StreamTable, bytes));
