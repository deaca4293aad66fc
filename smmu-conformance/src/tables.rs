//! Memory for tables, checked through a table.

use io_pgtable::{Attrs, Cfg, IoPgtable, Iova, NoTlb, Pa, Prot, S2, S2Cfg, TableMemory};

use crate::{Observer, Violation, require};

/// Sizes of tables: one granule, and concatenated root tables.
const SIZES: [usize; 3] = [0x1000, 0x2000, 0x1_0000];
/// Address bits of a descriptor.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// The page that is mapped, and its IOVA.
const IOVA: u64 = 0x4020_3000;
const PAGE: Pa = Pa(0x1234_5000);

/// Checks `memory` for tables that an SMMU walks without snooping: blocks, and descriptors as a walker reads them.
///
/// # Errors
/// The first violated contract.
pub fn check_table_memory<M: TableMemory, O: Observer>(memory: &M, observer: &mut O) -> Result<(), Violation> {
    for size in SIZES {
        check_blocks(memory, size)?;
    }
    check_walk(memory, observer)
}

fn check_blocks<M: TableMemory>(memory: &M, size: usize) -> Result<(), Violation> {
    let bytes = u64::try_from(size).map_err(|_| Violation::NotAligned)?;
    let first = memory.alloc(size).ok_or(Violation::NoMemory)?;
    let second = memory.alloc(size).ok_or(Violation::NoMemory)?;
    for block in [first, second] {
        require(block.0.is_multiple_of(bytes), Violation::NotAligned)?;
        let place = memory.ptr(block);
        require(memory.ptr(block) == place && place.is_aligned(), Violation::PointerChanged)?;
    }
    require(first.0.abs_diff(second.0) >= bytes, Violation::Overlap)?;
    let places = memory.ptr(first).addr().get().abs_diff(memory.ptr(second).addr().get());
    require(places >= size, Violation::Overlap)?;
    memory.free(first, size);
    memory.free(second, size);
    Ok(())
}

/// Checks that a walker sees a page after it is mapped, and does not see it after it is unmapped.
fn check_walk<M: TableMemory, O: Observer>(memory: &M, observer: &mut O) -> Result<(), Violation> {
    let cfg = Cfg { coherent_walk: false, page_sizes: 1 << 12, ..Cfg::new(40, 48) };
    let mut table = IoPgtable::<S2, _>::new(&cfg, memory).map_err(|_| Violation::NoMemory)?;
    let root = table.config();
    table.map(Iova(IOVA), PAGE, 0x1000, Attrs::normal(Prot::RW)).map_err(|_| Violation::NoMemory)?;
    if walk(observer, &root) != Some(PAGE) {
        observer.barrier();
        let seen = walk(observer, &root) == Some(PAGE);
        return Err(if seen { Violation::BarrierMissing } else { Violation::CleanIgnored });
    }
    table.unmap(Iova(IOVA), 0x1000, &mut NoTlb).map_err(|_| Violation::NoMemory)?;
    if walk(observer, &root).is_some() {
        observer.barrier();
        let gone = walk(observer, &root).is_none();
        return Err(if gone { Violation::BarrierMissing } else { Violation::CleanIgnored });
    }
    table.destroy(&mut NoTlb).map_err(|_| Violation::NoMemory)
}

/// Walks as an SMMU does, with the 4 KiB granule. The address is below the range that a concatenated root would add.
fn walk(observer: &mut impl Observer, root: &S2Cfg) -> Option<Pa> {
    let mut table = root.ttb.0;
    let shifts = [39_u32, 30, 21, 12].into_iter().skip(usize::from(root.start_level));
    for shift in shifts {
        let index = IOVA.wrapping_shr(shift) & 0x1ff;
        let descriptor = observer.device_read64(Pa(table.wrapping_add(index.wrapping_mul(8))));
        if descriptor & 3 != 3 {
            return None;
        }
        table = descriptor & ADDRESS;
    }
    Some(Pa(table))
}
