//! EL2's command line, from the load options that a boot entry or a shell passes.

/// Maximum length of a command line in bytes.
pub const LENGTH_MAX: usize = 2048;

/// The words of `options` that are EL2's: a shell passes the program's name first. `None` if `options` is not printable
/// text: firmware stores binary data in the boot entries that it creates itself.
#[must_use]
pub fn words(options: &str) -> Option<&str> {
    let options = options.trim_end_matches('\0').trim();
    if options.len() > LENGTH_MAX || !options.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return None;
    }
    let (first, rest) = options.split_once(' ').unwrap_or((options, ""));
    let is_name = first.get(first.len().saturating_sub(4)..).is_some_and(|end| end.eq_ignore_ascii_case(".efi"));
    Some(if is_name { rest.trim() } else { options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_is_not_an_option() {
        assert_eq!(words("FS0:\\Portcullis.EFI token=ab  pool=4M"), Some("token=ab  pool=4M"));
        assert_eq!(words("token=ab"), Some("token=ab"));
        assert_eq!(words("portcullis.efi"), Some(""));
        assert_eq!(words(""), Some(""));
    }

    #[test]
    fn binary_data_is_not_a_command_line() {
        assert_eq!(words("\u{ac4e}\u{1}"), None);
    }
}
