//! hyp
#![no_std]
