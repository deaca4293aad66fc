//! Compares the tables of docs/smmu-emulation.md with the code.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use smmu_drv::emul::command::{CommandView, Decision, MsiCompletion, Ranges, decide};
use smmu_drv::emul::table::{Register, Width};
use smmu_drv::spec::commands::{Opcode, RawCmd};

const DOC: &str = include_str!("../../docs/smmu-emulation.md");

/// Rows of the table below `heading`, as trimmed cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section = DOC.split(heading).nth(1).expect(heading);
    section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect())
        .collect()
}

fn number(text: &str) -> u32 {
    u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

#[test]
fn the_register_table_agrees_with_the_code() {
    let rows = table("\n## Registers\n");
    assert_eq!(rows.len(), Register::ROWS.len());
    for (row, (register, offset, width, read, write)) in rows.iter().zip(Register::ROWS) {
        let name = row[0].replace('_', "").to_lowercase();
        assert_eq!(name, format!("{register:?}").to_lowercase());
        assert_eq!(number(&row[1]), *offset, "{register:?}");
        assert_eq!(row[2], if *width == Width::Bits32 { "32" } else { "64" }, "{register:?}");
        assert_eq!((row[3].as_str(), row[4].as_str()), (*read, *write), "{register:?}");
    }
}

#[test]
fn the_trap_budget_agrees_with_the_code() {
    use smmu_drv::budget::{CHARGES, TRAP};
    assert!(DOC.contains(&format!("A trap has a budget of {TRAP} units.")));
    let rows = table("\n## Per-trap budget\n");
    assert_eq!(rows.len(), CHARGES.len());
    for (row, (work, units, most)) in rows.iter().zip(CHARGES) {
        assert_eq!(row[..3], [work.to_string(), units.to_string(), most.to_string()]);
    }
}

#[test]
fn the_command_table_agrees_with_the_code() {
    let view = CommandView {
        sid_bits: 16,
        ssid_bits: 8,
        ranges: Ranges::Shown,
        asid_mask: 0xffff,
        msi: MsiCompletion::Shown,
        vmid: 3,
    };
    let rows = table("\n## Commands\n");
    for opcode in 0..=255_u64 {
        let documented = rows.iter().find(|row| u64::from(number(&row[0])) == opcode);
        assert_eq!(documented.is_some(), Opcode::from_bits(opcode).is_some(), "{opcode:#x}");
        let answer = documented.map_or("CERROR_ILL", |row| row[2].as_str());
        let decided = match decide(RawCmd([opcode, 0]), &view) {
            Decision::Illegal => "CERROR_ILL",
            Decision::Drop => "dropped",
            Decision::Reshadow(_) => "re-shadowed",
            Decision::Forward(_) => "forwarded",
            Decision::Sync(_) => "completed",
        };
        assert_eq!(decided, answer, "{opcode:#x}");
    }
}

/// Bits of the entry with the given treatment.
fn ste_bits(treatment: &str) -> [u64; 8] {
    let mut words = [0; 8];
    for row in table("\n## Stream table entries\n") {
        if row[2] != treatment {
            continue;
        }
        let (hi, lo) = row[1].split_once(':').unwrap_or((&row[1], &row[1]));
        for bit in lo.parse::<usize>().unwrap()..=hi.parse::<usize>().unwrap() {
            words[bit / 64] |= 1 << (bit % 64);
        }
    }
    words
}

#[test]
fn the_stream_table_entry_table_agrees_with_the_code() {
    use smmu_drv::emul::policy::SteCheck;
    let rules = common::rules();
    let (host, checked, el2) = (ste_bits("host"), ste_bits("checked"), ste_bits("EL2"));
    let legal = |word0: u64, word1: u64| match rules.check(word0, word1) {
        SteCheck::Legal(ste) => Some(ste),
        SteCheck::Invalid | SteCheck::Illegal => None,
    };
    let mut followed = [0_u64; 2];
    // V and Config are checked, not copied; each other bit is copied or is not.
    assert_eq!(checked[0], 0xf);
    // Nested entries with as many free bits as possible: 2^10 descriptors, and 4K or 64K leaves.
    let base = 1 | 5 << 1 | 10 << 59;
    for format in [1 << 4, 2 << 4] {
        let base = base | format;
        let reference = legal(base, 0).unwrap();
        for bit in 4..128 {
            let mut words = [base, 0];
            words[bit / 64] ^= 1 << (bit % 64);
            let Some(ste) = legal(words[0], words[1]) else { continue };
            let changed = [ste.dw0 ^ reference.dw0, ste.dw1 ^ reference.dw1];
            for (word, bits) in changed.into_iter().enumerate() {
                assert_eq!(bits & !host[word], 0, "bit {bit} reaches bits {bits:#x} of dword {word}");
                followed[word] |= bits;
            }
            assert!(changed[0].count_ones() + changed[1].count_ones() <= 1, "bit {bit}");
        }
    }
    let base = base | 1 << 4;
    // The host can change every bit that the page lists as the host's, except address bits above OAS or below the
    // alignment, bits that are illegal together with the reference entry, and the reserved value of S1CSH.
    let address = 0xff_f000_0000_0040;
    let cdmax = 0x1f << 59;
    assert_eq!(host[0] & !followed[0] & !address & !cdmax, 0, "{:#x}", host[0] & !followed[0]);
    assert_eq!(host[1] & !followed[1] & !(1 << 6), 0, "{:#x}", host[1] & !followed[1]);
    assert_ne!(followed[0] & cdmax, 0);
    // EL2's bits of dwords 0 and 1 do not depend on the host; the rest of the entry is EL2's or zero.
    for (word0, word1) in [(base, !(1 << 27)), (1 | 4 << 1, u64::MAX), (1, u64::MAX)] {
        let ste = legal(word0, word1).unwrap();
        assert_eq!(ste.dw1 & !(host[1] | el2[1]), 0);
    }
    let words = common::stage2_words();
    assert_eq!(words.dw2 & !el2[2], 0);
    assert_eq!(words.dw3 & !el2[3], 0);
    assert_eq!([el2[0], host[2], host[3]], [0, 0, 0]);
}

mod common {
    use super::*;
    use smmu_drv::emul::policy::SteRules;
    use smmu_drv::{Coherency, Features, HostIds, IdRegisters, MsiAdvert, Stage2Cfg, Stage2Words};

    /// Everything: substreams, 2-level CD tables, stalls, attribute overrides, 44 bits.
    fn features() -> Features {
        let ids = IdRegisters {
            idr0: 1 << 27 | 1 << 19 | 1 << 18 | 2 << 2 | 3,
            idr1: 1 << 27 | 8 << 21 | 8 << 16 | 20 << 6 | 16,
            idr3: 1 << 10,
            idr5: 4 | 7 << 4,
            iidr: 0,
            aidr: 2,
        };
        Features::decode(ids, Coherency::Coherent)
    }

    pub(super) fn rules() -> SteRules {
        let features = features();
        SteRules::new(&features, &HostIds::new(&features, MsiAdvert::WhenCoherent, 44))
    }

    pub(super) fn stage2_words() -> Stage2Words {
        Stage2Words::new(&Stage2Cfg {
            ttb: io_pgtable::Pa(u64::MAX),
            t0sz: 255,
            sl0: 255,
            irgn: 255,
            orgn: 255,
            sh: 255,
            tg: 255,
            ps: 255,
            vmid: u16::MAX,
        })
    }

    #[test]
    fn the_register_table_is_not_empty() {
        assert!(!table("\n## Registers\n").is_empty());
    }
}
