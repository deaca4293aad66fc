//! Commands, events, and what the host does with both queues.
#![no_main]

use model_tests::hostile::{Diet, fuzz};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz(Diet::Commands, bytes));
