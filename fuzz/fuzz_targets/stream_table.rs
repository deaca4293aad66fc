//! Stream tables of any content and shape, changed at any moment.
#![no_main]

use model_tests::hostile::{ActionSet, fuzz};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz(ActionSet::StreamTable, bytes));
