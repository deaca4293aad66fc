//! Machines whose tables the tests build.

use std::string::ToString;

use crate::*;

#[test]
fn no_tables_are_refused() {
    let message = describe(&Firmware::default()).unwrap_err().to_string();
    assert!(message.contains("FACP") && message.contains("FADT"), "{message}");
}
