//! payload
fn main() {}
