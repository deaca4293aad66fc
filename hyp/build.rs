//! Passes the memory layout of the image to the linker.

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed={root}/../link.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-T{root}/../link.ld");
        // The image is position-independent: the linker writes relocations, also for constants, and head.S applies them.
        for argument in ["--no-dynamic-linker", "-pie", "-znotext", "--pack-dyn-relocs=relr"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
        // `cargo xtask check` reads the addresses of constants from the map.
        let out = std::env::var("OUT_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-Map={out}/hyp.map");
    }
}
