//! Everything that a host, its devices and its hardware can do.
#![no_main]

use model_tests::hostile::{Diet, fuzz};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz(Diet::Everything, bytes));
