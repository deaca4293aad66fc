//! Checks that PORTCULLIS_IMAGE names the image of EL2 that the loader contains.

fn main() {
    println!("cargo:rerun-if-env-changed=PORTCULLIS_IMAGE");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("uefi") {
        return;
    }
    match std::env::var("PORTCULLIS_IMAGE") {
        Ok(image) => println!("cargo:rerun-if-changed={image}"),
        Err(_) => println!("cargo:error=PORTCULLIS_IMAGE must name EL2's image; cargo xtask efi builds both"),
    }
}
