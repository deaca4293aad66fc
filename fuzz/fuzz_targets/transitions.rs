//! Pages that change their owner between traps and DMA.
#![no_main]

use model_tests::hostile::{ActionSet, fuzz};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz(ActionSet::Transitions, bytes));
