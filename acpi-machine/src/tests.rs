//! Tests on machines whose tables the tests build.

mod build;
mod el2;
mod hostile;
mod maps;
mod refused;
mod tree;
mod virt;
