//! EL2's command line: the load options of the boot entry, and a file.

use alloc::format;
use alloc::string::{String, ToString};
use uefi::boot::{self, image_handle};
use uefi::cstr16;
use uefi::fs::FileSystem;
use uefi::proto::loaded_image::LoadedImage;
use uefi_loader::command_line;

/// The words of `\EFI\portcullis\options.txt`, then those of the load options.
///
/// # Errors
/// A message, if the file cannot be read or is not printable text.
pub fn read() -> Result<String, String> {
    let mut line = file()?;
    if let Some(more) = load_options() {
        line.push(' ');
        line.push_str(&more);
    }
    Ok(line.trim().to_string())
}

/// `\EFI\portcullis\options.txt` of the volume that this program was loaded from; empty if the file does not exist.
fn file() -> Result<String, String> {
    let path = cstr16!("\\EFI\\portcullis\\options.txt");
    let Ok(volume) = boot::get_image_file_system(image_handle()) else { return Ok(String::new()) };
    let mut volume = FileSystem::new(volume);
    if !volume.try_exists(path).unwrap_or(false) {
        return Ok(String::new());
    }
    let text = volume.read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.split_ascii_whitespace().collect::<alloc::vec::Vec<_>>().join(" ");
    command_line::words(&line).map(str::to_string).ok_or_else(|| format!("{path}: not printable, or above 2 KiB"))
}

fn load_options() -> Option<String> {
    let image = boot::open_protocol_exclusive::<LoadedImage>(image_handle()).ok()?;
    let text = image.load_options_as_cstr16().ok()?.to_string();
    command_line::words(&text).map(str::to_string)
}
