//! The guard of the GIC: register accesses, commands, and memory and hardware that change at the same time.
#![no_main]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gic_tests::hostile::fuzz(bytes));
