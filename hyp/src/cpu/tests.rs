//! The table with fake ID registers: future CPUs and inconsistent values.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

mod booting;
mod firmware;
mod optional;

/// A fake CPU.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    ids: BTreeMap<Id, u64>,
    others: u64,
    profiling: Buffer,
    tracing: Buffer,
    /// `None` if the register must not be read.
    mpamidr: Option<u64>,
}

impl Cpu for Fake {
    fn id(&self, id: Id) -> u64 {
        self.ids.get(&id).copied().unwrap_or(self.others)
    }
    fn profiling(&self) -> Buffer {
        self.profiling
    }
    fn tracing(&self) -> Buffer {
        self.tracing
    }
    fn mpamidr(&self) -> u64 {
        self.mpamidr.unwrap()
    }
}

impl Fake {
    /// Every register reads `value`.
    pub(super) fn all(value: u64) -> Self {
        Self {
            ids: BTreeMap::new(),
            others: value,
            profiling: Buffer::Usable,
            tracing: Buffer::Usable,
            mpamidr: Some(value),
        }
    }

    /// This CPU with one field changed to `value`.
    pub(super) fn with(mut self, id: Id, name: &str, value: u64) -> Self {
        let field = field(id, name);
        let mask = ((1 << field.width) - 1) << field.lsb;
        let old = self.id(id);
        self.ids.insert(id, old & !mask | value << field.lsb);
        self
    }
}

pub(super) fn field(id: Id, name: &str) -> &'static Field {
    let register = register(id).unwrap();
    register.fields.iter().find(|field| field.name == name).unwrap_or_else(|| panic!("{}.{name}", register.name))
}

fn shown_field(cpu: &Fake, id: Id, name: &str) -> u8 {
    field(id, name).of(shown(cpu, id))
}

/// Every field at 7: above every supported value, signed or unsigned.
const NEWER: u64 = 0x7777_7777_7777_7777;

fn every_id() -> impl Iterator<Item = Id> {
    (1..=7).flat_map(|crm| (0..8).map(move |op2| Id { crm, op2 }))
}

#[test]
fn fields_do_not_overlap_and_ascend() {
    let mut ids: Vec<Id> = registers().map(|register| register.id).collect();
    let count = ids.len();
    ids.dedup();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "a register is listed twice");
    for register in registers() {
        let mut end = 0;
        for field in register.fields {
            assert!(field.lsb >= end, "{}.{}", register.name, field.name);
            end = field.lsb + field.width;
            let most = (1 << field.width) - 1;
            assert!(field.known <= most / if field.order == Order::Signed { 2 } else { 1 }, "{}", field.name);
        }
        assert!(end <= 64, "{}", register.name);
    }
}

#[test]
fn t66_a_newer_value_of_any_field_reads_as_the_highest_supported_one() {
    for register in registers() {
        for field in register.fields.iter().filter(|field| field.order != Order::Number) {
            let most: u8 = (1 << field.width) - 1;
            let last = if field.order == Order::Signed { most / 2 } else { most };
            for newer in field.known..=last {
                let shown = field.shown(newer);
                let all_ones = field.order == Order::Pmu && newer == most;
                assert_eq!(shown, if all_ones { 0 } else { field.known }, "{}.{} = {newer}", register.name, field.name);
            }
            for older in 0..field.known {
                assert_eq!(field.shown(older), older, "{}.{} = {older}", register.name, field.name);
            }
        }
    }
}

#[test]
fn t66_negative_values_of_signed_fields_are_unchanged() {
    let cpu = Fake::all(0).with(ids::PFR0, "FP", 15).with(ids::PFR0, "AdvSIMD", 15).with(ids::MMFR0, "TGran4", 15);
    assert_eq!(shown(&cpu, ids::PFR0), 0xff << 16);
    assert_eq!(shown_field(&cpu, ids::MMFR0, "TGran4"), 15);
    // The same bits of an unsigned field are a large number.
    assert_eq!(shown_field(&Fake::all(0).with(ids::PFR1, "GCS", 15), ids::PFR1, "GCS"), 1);
    // In PMUVer it means implementation defined performance monitors, which are hidden.
    assert_eq!(shown_field(&Fake::all(0).with(ids::DFR0, "PMUVer", 15), ids::DFR0, "PMUVer"), 0);
}

/// Counts, such as the number of breakpoints, and alternatives of AArch32: they enable no feature in the host's kernel.
const NUMBERS: &[&str] = &["BRPs", "WRPs", "CTX_CMPs", "CopSDbg", "OuterShr", "InnerShr", "HvdTLB", "Supersec"];

#[test]
fn t66_only_numbers_are_shown_unchanged() {
    for field in registers().flat_map(|register| register.fields) {
        assert_eq!(field.order == Order::Number, NUMBERS.contains(&field.name), "{}", field.name);
    }
}

#[test]
fn t66_reserved_registers_and_fields_read_as_zero() {
    for id in every_id() {
        let all = shown(&Fake::all(u64::MAX), id);
        let fields = register(id).map_or(0, |register| {
            register.fields.iter().fold(0, |all, field| all | ((1 << field.width) - 1) << field.lsb)
        });
        assert_eq!(all & !fields, 0, "{id:?} reads {all:#x}");
    }
    for (crm, op2) in [(1, 3), (3, 3), (3, 7), (4, 3), (4, 6), (5, 1), (5, 2), (5, 4), (5, 5), (6, 4), (7, 5), (7, 7)] {
        assert_eq!(shown(&Fake::all(u64::MAX), Id { crm, op2 }), 0, "crm {crm} op2 {op2}");
    }
}

/// Registers that the host never has on any CPU, with the field that shows them.
const HIDDEN: &[(Id, &str)] = &[
    (ids::PFR0, "EL2"),
    (ids::PFR0, "SEL2"),
    (ids::PFR0, "MPAM"),
    (ids::PFR0, "AMU"),
    (ids::PFR0, "RME"),
    (ids::PFR1, "MPAM_frac"),
    (ids::PFR1, "PFAR"),
    (ids::PFR2, "MTEPERM"),
    (ids::PFR2, "GCIE"),
    (ids::DFR0, "BRBE"),
    (ids::DFR0, "PMSS"),
    (ids::DFR0, "SEBEP"),
    (ids::DFR0, "MTPMU"),
    (ids::ISAR0, "TME"),
    (ids::ISAR1, "LS64"),
    (ids::ISAR2, "SYSREG_128"),
    (ids::MMFR0, "FGT"),
    (ids::MMFR1, "VMIDBits"),
    (ids::MMFR1, "VH"),
    (ids::MMFR1, "LO"),
    (ids::MMFR1, "HCX"),
    (ids::MMFR2, "NV"),
    (ids::MMFR2, "FWB"),
    (ids::MMFR3, "S2PIE"),
    (ids::MMFR3, "D128"),
    (ids::MMFR4, "SRMASK"),
];

#[test]
fn t66_hidden_features_read_as_absent_and_stay_trapped() {
    let cpu = Fake::all(NEWER);
    for (id, name) in HIDDEN {
        assert_eq!(shown_field(&cpu, *id, name), 0, "{name}");
    }
    let controls = Controls::of(&cpu);
    // CPTR_EL2.TAM; HCR_EL2.TLOR, TID3, and neither NV, AT nor FIEN; HCRX_EL2.EnAS0, EnALS, EnASR, SMPME, D128En,
    // EnIDCP128, SRMASKEn; HFGITR_EL2.nBRBINJ, nBRBIALL; HDFGRTR_EL2.nBRBIDR, nBRBCTL, nBRBDATA; HFGRTR_EL2
    // nACCDATA_EL1, nS2POR_EL1; HFGRTR2_EL2.nPFAR_EL1; MDCR_EL2.EnSPM, MTPME, EBWE, EnSTEPOP.
    assert_eq!(controls.cptr & 1 << 30, 1 << 30);
    assert_eq!(controls.hcr & (1 << 35 | 1 << 18 | 0b111 << 42 | 1 << 47), 1 << 35 | 1 << 18);
    assert_eq!(controls.hcrx & (0b111 | 1 << 5 | 1 << 17 | 1 << 21 | 1 << 26), 0);
    assert_eq!(controls.hfgitr & 0b11 << 55, 0);
    assert_eq!((controls.hdfgrtr | controls.hdfgwtr) & 0b111 << 59, 0);
    assert_eq!((controls.hfgrtr | controls.hfgwtr) & (1 << 50 | 1 << 61), 0);
    assert_eq!((controls.hfgrtr2 | controls.hfgwtr2) & !(1 << 2), 0);
    assert_eq!(controls.mdcr & (1 << 15 | 1 << 28 | 1 << 43 | 1 << 50), 0);
}

#[test]
fn a_cpu_without_features_has_every_trap_set() {
    assert_eq!(Controls::of(&Fake::all(0)), Controls::denied());
    let hcr = Controls::denied().hcr;
    // VM, TSC, TIDCP, TACR, TID3, RW; no E2H, TGE, NV, or pointer authentication.
    assert_eq!(hcr & (1 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 18 | 1 << 31), 1 | 0b1111 << 18 | 1 << 31);
    assert_eq!(hcr & (1 << 34 | 1 << 27 | 0b11 << 40), 0);
}

#[test]
fn t53_a_buffer_that_firmware_owns_is_not_shown_and_stays_trapped() {
    let has = Fake::all(0).with(ids::DFR0, "PMSVer", 3).with(ids::DFR0, "TraceBuffer", 1);
    assert_eq!((shown_field(&has, ids::DFR0, "PMSVer"), shown_field(&has, ids::DFR0, "TraceBuffer")), (3, 1));
    // They are owned by EL1, and so use stage 2: E2PB and E2TB.
    assert_eq!(Controls::of(&has).mdcr & (0b11 << 12 | 0b11 << 24 | 1 << 14), 0b11 << 12 | 0b11 << 24);
    let kept = Fake { profiling: Buffer::Withheld, tracing: Buffer::Withheld, ..has };
    assert_eq!(shown(&kept, ids::DFR0), 0);
    assert_eq!(Controls::of(&kept), Controls::denied());
}

#[test]
fn software_context_numbers_are_enabled_by_either_field() {
    let scxt = 1 << 53;
    for (id, name, value, expected) in [
        (ids::PFR0, "CSV2", 1, 0),
        (ids::PFR0, "CSV2", 2, scxt),
        (ids::PFR1, "CSV2_frac", 1, 0),
        (ids::PFR1, "CSV2_frac", 2, scxt),
    ] {
        assert_eq!(Controls::of(&Fake::all(0).with(id, name, value)).hcr & scxt, expected, "{name} {value}");
    }
}

proptest! {
    /// For any CPU: no visible field exceeds the supported value, and only controls in the table are enabled.
    #[test]
    fn t66_no_cpu_shows_or_enables_more_than_the_table(values in prop::collection::vec(any::<u64>(), 56)) {
        let cpu = Fake { ids: every_id().zip(values).collect(), ..Fake::all(0) };
        for register in registers() {
            for field in register.fields.iter().filter(|field| field.order == Order::Unsigned) {
                prop_assert!(field.of(shown(&cpu, register.id)) <= field.known);
            }
        }
        let (controls, denied) = (Controls::of(&cpu), Controls::denied());
        let mut named = Vec::new();
        for allow in registers().flat_map(|register| register.fields).flat_map(|field| field.allows) {
            named.push((allow.control, allow.bits));
        }
        let all = |control| named.iter().filter(|(one, _)| *one == control).fold(0, |all, (_, bits)| all | bits);
        prop_assert_eq!((controls.hcr ^ denied.hcr) & !all(Control::Hcr), 0);
        prop_assert_eq!((controls.hcrx ^ denied.hcrx) & !all(Control::Hcrx), 0);
        prop_assert_eq!((controls.cptr ^ denied.cptr) & !all(Control::Cptr), 0);
        prop_assert_eq!((controls.mdcr ^ denied.mdcr) & !all(Control::Mdcr), 0);
    }
}
