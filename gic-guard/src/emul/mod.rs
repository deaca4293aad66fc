//! What the host sees: its registers, row by row, and the check of its commands.

pub mod decide;
pub mod gicr;
pub mod gits;
