//! Pages that change their owner between traps and DMA.
#![no_main]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use model_tests::hostile::{ActionSet, fuzz};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz(ActionSet::Transitions, bytes));
