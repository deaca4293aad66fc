use crate::boot_info::BootError;
use crate::boot_info::cmdline::{Options, PciKind};

#[test]
fn options_are_read() {
    let options = Options::parse("  token=00aF allow=/a@1\tallow=/b withhold=/c pool=48M cmdq=4 ").unwrap();
    assert_eq!(options.token, Some("00aF"));
    assert_eq!(&*options.allow, ["/a@1", "/b"]);
    assert_eq!(&*options.withhold, ["/c"]);
    assert_eq!(options.pool, Some(48 << 20));
    assert_eq!(options.cmdq, Some(4));
    let kinds = Options::parse("no-reset=1234:11e8 no-reset=1b36:0010").unwrap().no_reset;
    assert_eq!(kinds.as_slice(), [(0x1234, 0x11e8), (0x1b36, 0x10)].map(|(vendor, device)| PciKind { vendor, device }));
    assert_eq!(Options::parse("").unwrap(), Options::default());
}

#[test]
fn unknown_options_are_refused() {
    for word in ["quiet", "=", "Token=00", "alow=/x"] {
        assert_eq!(Options::parse(word), Err(BootError::UnknownOption { word }));
    }
    for word in [
        "token=",
        "token=xyz",
        "allow=pl011",
        "withhold=its",
        "pool=",
        "pool=0",
        "pool=1T",
        "pool=-1",
        "pool=20000000000G",
        "cmdq=",
        "cmdq=0",
        "cmdq=15",
        "cmdq=x",
        "console=ttyAMA0",
        "console=",
    ] {
        assert!(
            matches!(Options::parse(word), Err(BootError::BadOption { word: found, .. }) if found == word),
            "{word}"
        );
    }
    for line in ["token=00 token=00", "pool=1M pool=1M", "cmdq=8 cmdq=8"] {
        assert!(matches!(Options::parse(line), Err(BootError::BadOption { .. })), "{line}");
    }
}
