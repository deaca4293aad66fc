//! The guard of the GIC: register accesses, commands, memory and hardware that change meanwhile.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gic_tests::hostile::fuzz(bytes));
