//! The same sources link for bare metal. Checks the size of their code and of their stack.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol};
use reachable_panics::stack::deepest;

const TARGET: &str = "aarch64-unknown-none-softfloat";
/// The functions of a take-over: the one that `start` calls, and the one of the driver.
const EXAMPLE: &str = "example_partitions::bare::take_over";
const DRIVER: &str = "smmu_drv::smmu::<impl smmu_drv::smmu::probe::Probed<P>>::take_over";

/// Links the example; returns the ELF file and the linker's map.
fn link(profile: &str) -> (Vec<u8>, String) {
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder of cargo has no parent");
    let map = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("partitions-{profile}.map"));
    let status = Command::new(env!("CARGO"))
        .args(["rustc", "--quiet", "--profile", profile, "--target", TARGET, "-p", "example-partitions"])
        .args(["--bin", "example-partitions"])
        .arg("--target-dir")
        .arg(target_dir)
        .arg("--")
        .arg(format!("-Clink-arg=-Map={}", map.display()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cannot run cargo");
    assert!(
        status.success(),
        "the example does not link for {TARGET}; if the target is missing: `rustup target add {TARGET}`"
    );
    let folder = if profile == "dev" { "debug" } else { profile };
    let elf =
        std::fs::read(target_dir.join(TARGET).join(folder).join("example-partitions")).expect("no ELF file from cargo");
    (elf, std::fs::read_to_string(map).expect("no map from the linker"))
}

#[test]
fn the_example_links_for_bare_metal_with_less_than_64_kib_of_text() {
    let (elf, _) = link("release");
    let elf = object::File::parse(&*elf).expect("not an ELF file");
    let text = elf.section_by_name(".text").expect("no code in the ELF file").size();
    println!(".text: {text} bytes");
    assert!((0x4000..0x1_0000).contains(&text), ".text is {text} bytes");
    assert!(elf.symbols().any(|symbol| symbol.name() == Ok("_start") && symbol.address() == elf.entry()));
}

#[test]
fn the_guide_states_the_stack_of_a_take_over() {
    for (profile, entry, most) in [("release", EXAMPLE, 4096), ("dev", DRIVER, 8192)] {
        let (elf, map) = link(profile);
        let deepest = deepest(&elf, &map, entry, &[]).expect("no bound of the stack");
        println!("{profile}: {} bytes: {:#?}", deepest.bytes, deepest.path);
        assert!(deepest.path.len() > 3, "{deepest:?}");
        assert!(deepest.bytes <= most, "{profile}: {} bytes: {:#?}", deepest.bytes, deepest.path);
    }
}
