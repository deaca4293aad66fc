//! Commands, events, and the registers of both queues.
#![no_main]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use model_tests::hostile::{ActionSet, fuzz};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz(ActionSet::Commands, bytes));
