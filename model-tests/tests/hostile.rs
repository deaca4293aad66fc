//! Random hosts, and the committed corpus of the fuzz targets.

use std::fs;
use std::path::PathBuf;

use model_tests::Defect;
use model_tests::host::ON;
use model_tests::hostile::{Action, ActionSet, Cmd, Fault, Reg, Run, Value, execute, seeds};
use proptest::prelude::*;
use smmu_drv::AccessSize;
use smmu_model::arch::regs as r;

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn name(wanted: ActionSet) -> &'static str {
    match ActionSet::ALL.into_iter().find(|(set, _)| *set == wanted) {
        Some((_, name)) => name,
        None => panic!("{wanted:?} has no name"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t38_random_runs_have_no_finding(which in 0..6_usize, bytes in prop::collection::vec(any::<u8>(), 2..300)) {
        let (set, _) = ActionSet::ALL[which];
        let run = Run::decode(set, &bytes);
        prop_assert!(execute(&run, Defect::None).is_ok(), "{:x?}: {:?}", run, execute(&run, Defect::None));
    }

    #[test]
    fn an_encoded_run_decodes_to_itself(which in 0..6_usize, bytes in prop::collection::vec(any::<u8>(), 2..300)) {
        let (set, _) = ActionSet::ALL[which];
        let run = Run::decode(set, &bytes);
        prop_assert_eq!(Run::decode(set, &run.encode(set)), run);
    }
}

#[test]
fn t09_a_failed_smmu_that_loses_its_power_does_not_bypass() {
    let fault = |what| Action::Fault { smmu: 0, what, arg: 0 };
    for machine in 0..10 {
        // EL2 detects the failure when it drains events.
        let actions = vec![fault(Fault::Failure), Action::Interrupt { smmu: 0 }, fault(Fault::PowerLoss)];
        let run = Run { machine, seed: 1, actions };
        assert_eq!(execute(&run, Defect::None).map(|summary| summary.actions), Ok(3), "machine {machine}");
    }
}

#[test]
fn t69_after_a_hardware_failure_streams_have_the_old_owner_or_none() {
    let failure = Action::Fault { smmu: 0, what: Fault::SyncNever, arg: 0 };
    let streams = || (0..8).flat_map(|sid| (0..8).map(move |count| (sid, count)));
    for (machine, (sid, count)) in
        [0, 3, 5].into_iter().flat_map(|machine| streams().map(move |streams| (machine, streams)))
    {
        let block = Action::Block { smmu: 0, sid, count };
        let assign = Action::Assign { smmu: 0, sid, count, guest: 0 };
        let release = Action::Release { smmu: 0, sid, count };
        for actions in [vec![failure, assign], vec![block, failure, assign, release], vec![assign, failure, release]] {
            let run = Run { machine, seed: 28, actions };
            let end = execute(&run, Defect::None).map(|_| ());
            assert_eq!(end, Ok(()), "machine {machine}, stream {sid}, count {count}: {:x?}", run.actions);
        }
    }
}

#[test]
fn t65_a_queue_of_walks_is_enabled_at_the_end() {
    let write = |offset, value| Action::Write {
        cpu: 1,
        smmu: 0,
        at: Reg::Raw(offset),
        size: AccessSize::Word,
        value: Value::Word(value),
    };
    // The machine has 2^16 streams; the queue has 63 walks over them.
    let walks = Action::Fill { smmu: 0, first: Cmd::CfgiAll, second: Cmd::Sync, count: 63 };
    let actions =
        vec![Action::Start { smmu: 0, shape: 4 }, write(r::CR0, 0), walks, write(r::CMDQ_PROD, 126), write(r::CR0, ON)];
    let run = Run { machine: 7, seed: 1, actions };
    assert_eq!(execute(&run, Defect::None).map(|summary| summary.actions), Ok(5));
}

#[test]
fn seeds_have_no_finding() {
    let mut longest = 0;
    for (set, file, run) in seeds::all() {
        match execute(&run, Defect::None) {
            Ok(summary) => longest = longest.max(summary.actions),
            Err(finding) => panic!("{set:?} {file}: {finding:?}"),
        }
    }
    assert!(longest > 400, "the traces of Linux are long");
}

#[test]
fn t38_seeds_detect_each_defect() {
    for (defect, word) in Defect::ALL {
        let detected = seeds::all().iter().any(|(_, _, run)| execute(run, defect).is_err());
        assert!(detected, "{word}");
    }
}

/// `PORTCULLIS_WRITE_SEEDS=1 cargo test -p model-tests --test hostile` writes the files.
#[test]
fn the_committed_corpus_equals_the_seeds() {
    for (set, file, run) in seeds::all() {
        let path = corpus(name(set)).join(file);
        let bytes = run.encode(set);
        if std::env::var_os("PORTCULLIS_WRITE_SEEDS").is_some() {
            let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, &bytes));
            assert!(written.is_ok(), "{}: {written:?}", path.display());
        }
        match fs::read(&path) {
            Ok(committed) => assert!(committed == bytes, "{} differs from its seed", path.display()),
            Err(error) => panic!("{}: {error}", path.display()),
        }
        assert_eq!(Run::decode(set, &bytes), run, "{}", path.display());
    }
}

#[test]
fn committed_inputs_decode_as_before() {
    let changes = |action: &Action| {
        matches!(
            action,
            Action::Assign { .. }
                | Action::Block { .. }
                | Action::Release { .. }
                | Action::Retire { .. }
                | Action::GuestPage { .. }
        )
    };
    let mut files = 0;
    for (set, name) in ActionSet::ALL {
        let Ok(paths) = fs::read_dir(corpus(name)) else { panic!("no corpus for {name}") };
        for path in paths.flatten().map(|file| file.path()) {
            let Ok(bytes) = fs::read(&path) else { panic!("{path:?}") };
            // In files from before streams had owners, no byte may decode to a change of owner.
            let old = path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with("streams-"));
            let found = Run::decode(set, &bytes).actions.iter().any(changes);
            assert!(!(old && found), "{path:?}");
            files += usize::from(old);
        }
    }
    assert!(files > 100, "{files} inputs");
}

#[test]
fn inputs_that_found_bugs_have_no_finding() {
    // Inputs that fuzzing found. The seeds run in another test.
    let seeds: Vec<_> = seeds::all().into_iter().map(|(set, file, _)| corpus(name(set)).join(file)).collect();
    let mut actions = 0;
    for (set, name) in ActionSet::ALL {
        let Ok(files) = fs::read_dir(corpus(name)) else { panic!("no corpus for {name}") };
        for path in files.flatten().map(|file| file.path()).filter(|path| !seeds.contains(path)) {
            let Ok(bytes) = fs::read(&path) else { panic!("{path:?}") };
            let run = Run::decode(set, &bytes);
            let result = execute(&run, Defect::None);
            assert!(result.is_ok(), "{path:?}: {result:?}");
            actions += run.actions.len();
        }
    }
    assert!(actions > 0, "no such inputs");
}
