//! Stream table entries, decoded: the result of a lookup, and the stages of an entry.

use std::rc::Rc;

use crate::arch::desc::{self, Granule};
use crate::inval::Regime;
use crate::item::Item;

/// The entries that a lookup returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Detail {
    /// All entries.
    All,
    /// Only entries through which memory is reachable, one for each distinct configuration: see `View::add_reaching`.
    Reach,
}

/// Result of a stream table lookup.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    /// An entry.
    Found(CachedSte),
    /// C_BAD_STREAMID.
    BadStreamId(Rc<Item>),
    /// F_STE_FETCH at this address.
    Abort(u64, Rc<Item>),
}

/// An entry that a cache may contain.
#[derive(Clone, Debug)]
pub(crate) struct CachedSte {
    pub(crate) kind: SteKind,
    pub(crate) item: Rc<Item>,
}

/// Meaning of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SteKind {
    /// V is 0, or an ILLEGAL combination: C_BAD_STE.
    Illegal,
    /// Config 0b0xx: silent abort.
    Abort,
    /// Config 0b100.
    Bypass,
    /// At least one stage translates.
    Translate(Stages),
}

/// The decoded stages of a valid entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stages {
    pub(crate) s1: Option<S1>,
    pub(crate) s2: Option<S2>,
    pub(crate) regime: Regime,
    pub(crate) eats: u64,
}

/// Stage 1 part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct S1 {
    pub(crate) ptr: u64,
    pub(crate) fmt: u64,
    pub(crate) cdmax: u32,
    pub(crate) dss: u64,
    pub(crate) stalld: bool,
}

/// Stage 2 part of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct S2 {
    pub(crate) vmid: u32,
    pub(crate) ttb: u64,
    pub(crate) ia_bits: u32,
    pub(crate) start_level: u32,
    pub(crate) granule: Granule,
    pub(crate) oa_bits: u32,
    pub(crate) affd: bool,
    pub(crate) ha: bool,
    pub(crate) hd: bool,
    pub(crate) ptw: bool,
    pub(crate) fwb: bool,
    pub(crate) stall: bool,
    pub(crate) record: bool,
}

impl S2 {
    /// Whether memory behind the leaf `raw` can be read, and whether it can be written.
    pub(crate) fn allows(&self, raw: u64) -> (bool, bool) {
        let ap = desc::s2ap(raw);
        (ap & 1 != 0, ap & 2 != 0 || (self.hd && desc::dbm(raw)))
    }
}

/// Address and index width of the (concatenated) first table.
pub(crate) fn root_table(s2: &S2) -> (u64, u32) {
    let width = s2.ia_bits - s2.granule.level_shift(s2.start_level);
    let size = (8u64 << width).max(16);
    (s2.ttb & !(size - 1), width)
}
