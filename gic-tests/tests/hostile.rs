//! Runs with random actions, and with the committed corpus of the fuzz target `gic`.

use std::fs;
use std::path::PathBuf;

use gic_tests::hostile::{Run, execute, seeds};
use proptest::prelude::*;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/gic")
}

/// Bytes of a run. Most machines are taken over, and many actions are commands and their submission.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let argument = prop_oneof![4 => 0..4_u8, 2 => any::<u8>()];
    let kind = prop_oneof![3 => Just(2_u8), 1 => Just(5), 4 => 0..19_u8];
    let record = (kind, prop::collection::vec(argument, 5)).prop_map(|(kind, mut arguments)| {
        arguments.insert(0, kind);
        arguments
    });
    let head = prop_oneof![4 => 0..12_u8, 1 => any::<u8>()];
    (head, any::<u8>(), prop::collection::vec(record, 1..80)).prop_map(|(machine, seed, records)| {
        // Most runs start with the setup of an ITS, a CPU and a device, so that later commands have effects.
        let start = [[8, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0], [2, 3, 0, 0, 0, 0]];
        let start = if seed % 4 == 0 { &[] } else { start.as_slice() };
        [machine, seed].into_iter().chain(start.concat()).chain(records.concat()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t45_the_gic_never_uses_memory_outside_el2(bytes in bytes()) {
        let run = Run::decode(&bytes);
        let result = execute(&run);
        prop_assert!(result.is_ok(), "{:?}: {:?}", run, result);
    }

    #[test]
    fn decoding_and_encoding_any_bytes_keeps_the_run(bytes in prop::collection::vec(any::<u8>(), 2..400)) {
        let run = Run::decode(&bytes);
        prop_assert_eq!(Run::decode(&run.encode()), run);
    }
}

#[test]
fn t45_the_seeds_find_no_errors() {
    for (name, run) in seeds::all() {
        let result = execute(&run);
        assert!(result.is_ok(), "{name}: {result:?}");
    }
}

/// `PORTCULLIS_WRITE_SEEDS=1 cargo test -p gic-tests` writes the files.
#[test]
fn the_committed_corpus_equals_the_seeds() {
    for (name, run) in seeds::all() {
        let path = corpus().join(&name);
        let bytes = run.encode();
        if std::env::var_os("PORTCULLIS_WRITE_SEEDS").is_some() {
            let written = fs::create_dir_all(corpus()).and_then(|()| fs::write(&path, &bytes));
            assert!(written.is_ok(), "{}: {written:?}", path.display());
        }
        match fs::read(&path) {
            Ok(committed) => assert!(committed == bytes, "{} differs from its seed", path.display()),
            Err(error) => panic!("{}: {error}", path.display()),
        }
        assert!(Run::decode(&bytes) == run, "{name}: longer than the maximum length of a run");
    }
}

#[test]
fn the_committed_corpus_finds_no_errors() {
    let Ok(files) = fs::read_dir(corpus()) else { panic!("no corpus") };
    for path in files.flatten().map(|file| file.path()) {
        let Ok(bytes) = fs::read(&path) else { panic!("{path:?}") };
        let result = execute(&Run::decode(&bytes));
        assert!(result.is_ok(), "{path:?}: {result:?}");
    }
}
