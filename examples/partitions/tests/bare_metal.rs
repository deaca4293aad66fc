//! The same sources link for bare metal, and are small.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol};

const TARGET: &str = "aarch64-unknown-none-softfloat";

#[test]
fn it_links_for_bare_metal_in_under_64_kib_of_text() {
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's folder has a parent");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--target", TARGET, "-p", "example-partitions"])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "it does not link for {TARGET}: `rustup target add {TARGET}`, if that is missing");
    let elf = std::fs::read(target_dir.join(TARGET).join("release/example-partitions")).expect("cargo has linked it");
    let elf = object::File::parse(&*elf).expect("it is an ELF file");
    let text = elf.section_by_name(".text").expect("it has code").size();
    println!(".text: {text} bytes");
    assert!((0x4000..0x1_0000).contains(&text), ".text is {text} bytes");
    assert!(elf.symbols().any(|symbol| symbol.name() == Ok("_start") && symbol.address() == elf.entry()));
}
