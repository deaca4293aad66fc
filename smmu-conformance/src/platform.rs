//! Buffers, barriers and the clock.

use io_pgtable::Pa;
use smmu_drv::{DmaBuffer, Platform};

use crate::{Observer, Violation, pattern, require};

/// Sizes of the queues and tables that a driver allocates.
const SIZES: [usize; 3] = [0x1000, 0x2000, 0x1_0000];
/// The distance of the words that are checked: one in each cache line.
const LINE: usize = 64;
/// Number of clock reads, and of rounds of a wait in which the clock has to advance.
const READINGS: u32 = 1000;
const ROUNDS: u32 = 10_000_000;

/// Checks the memory, the barrier and the clock of `platform`. No register is accessed and no interrupt raised.
///
/// # Errors
/// The first violated contract.
pub fn check_platform<P: Platform, O: Observer>(platform: &P, observer: &mut O) -> Result<(), Violation> {
    check_clock(platform)?;
    for size in SIZES {
        // The second buffer may reuse the memory of the first, which must be zeroed again.
        for _ in 0..2 {
            check_size(platform, observer, size)?;
        }
    }
    Ok(())
}

fn check_clock<P: Platform>(platform: &P) -> Result<(), Violation> {
    let start = platform.now_us();
    let mut last = start;
    for _ in 0..READINGS {
        let now = platform.now_us();
        require(now >= last, Violation::TimeBackwards)?;
        last = now;
    }
    for _ in 0..ROUNDS {
        if platform.now_us() > start {
            return Ok(());
        }
        platform.relax();
    }
    Err(Violation::ClockStopped)
}

fn check_size<P: Platform, O: Observer>(platform: &P, observer: &mut O, size: usize) -> Result<(), Violation> {
    let mut buffer = platform.alloc(size).ok_or(Violation::NoMemory)?;
    let other = platform.alloc(size).ok_or(Violation::NoMemory)?;
    for one in [&buffer, &other] {
        let bytes = u64::try_from(size).map_err(|_| Violation::NotAligned)?;
        require(one.size() == size && one.pa().0.is_multiple_of(bytes), Violation::NotAligned)?;
    }
    let apart = buffer.pa().0.abs_diff(other.pa().0) >= u64::try_from(size).unwrap_or(u64::MAX);
    require(apart, Violation::Overlap)?;
    check_fresh(&buffer, observer, size)?;
    check_stores(platform, &mut buffer, observer, size)?;
    check_bounds(platform, &mut buffer, observer, size)?;
    // These lines stay dirty when the memory is allocated again.
    for offset in (0..size).step_by(LINE) {
        buffer.write64(offset, pattern(3));
    }
    platform.dsb();
    Ok(())
}

/// Address of the byte at `offset`.
fn at(buffer: &impl DmaBuffer, offset: usize) -> Pa {
    Pa(buffer.pa().0.wrapping_add(u64::try_from(offset).unwrap_or(0)))
}

/// Checks that the buffer is zero for the CPU and the SMMU, and has no dirty line, and that the CPU reads the SMMU's
/// writes.
fn check_fresh<B: DmaBuffer, O: Observer>(buffer: &B, observer: &mut O, size: usize) -> Result<(), Violation> {
    for offset in (0..size).step_by(8) {
        require(buffer.read64(offset) == 0, Violation::NotZeroed)?;
        require(observer.device_read64(at(buffer, offset)) == 0, Violation::NotZeroed)?;
    }
    for offset in (0..size).step_by(LINE) {
        observer.device_write64(at(buffer, offset), pattern(1));
    }
    observer.write_back();
    for offset in (0..size).step_by(LINE) {
        require(observer.device_read64(at(buffer, offset)) == pattern(1), Violation::DirtyLines)?;
        buffer.invalidate(offset, 8);
        require(buffer.read64(offset) == pattern(1), Violation::InvalidateIgnored)?;
    }
    Ok(())
}

/// Checks that the SMMU reads the values that the CPU writes, cleans and orders.
fn check_stores<P: Platform, O: Observer>(
    platform: &P,
    buffer: &mut P::Buffer,
    observer: &mut O,
    size: usize,
) -> Result<(), Violation> {
    for offset in (0..size).step_by(LINE) {
        buffer.write64(offset, pattern(2));
        require(buffer.read64(offset) == pattern(2), Violation::StoreLost)?;
        buffer.clean(offset, 8);
        platform.dsb();
        if observer.device_read64(at(buffer, offset)) != pattern(2) {
            observer.barrier();
            let seen = observer.device_read64(at(buffer, offset)) == pattern(2);
            return Err(if seen { Violation::BarrierMissing } else { Violation::CleanIgnored });
        }
    }
    Ok(())
}

/// Checks that reads outside the buffer return 0, and that writes outside are ignored.
fn check_bounds<P: Platform, O: Observer>(
    platform: &P,
    buffer: &mut P::Buffer,
    observer: &mut O,
    size: usize,
) -> Result<(), Violation> {
    let wrong = [size, size.wrapping_sub(4), 1, 4, usize::MAX, usize::MAX.wrapping_sub(7)];
    for offset in wrong {
        require(buffer.read64(offset) == 0, Violation::OutsideBuffer)?;
        buffer.write64(offset, pattern(4));
    }
    buffer.clean(0, size);
    platform.dsb();
    for offset in (0..size).step_by(8) {
        let expected = if offset.is_multiple_of(LINE) { pattern(2) } else { 0 };
        require(observer.device_read64(at(buffer, offset)) == expected, Violation::OutsideBuffer)?;
    }
    Ok(())
}
