//! shadow-s2
#![no_std]
