//! Aborts of the host's stage 2: registers of SMMUs, ITSs and redistributors are emulated, and so is configuration
//! space while a function is away; transient faults are retried, all other faults get an external abort.

use super::locks::{with_gic, with_gic_alone, with_ownership, with_smmu, with_smmu_alone};
use super::{Frame, inject, skip_aarch64, skip_instruction};
use crate::arch::uefi;
use crate::gic::guard;
use crate::ownership::{FaultedPage, faulted_page};
use crate::{devices, iommu};
use aarch64_cpu::registers::{FAR_EL2, HPFAR_EL2, Readable, SCTLR_EL1, SPSR_EL2};
use hyp::esr::{Abort, Access, Direction, Fault, Size, Walk};
use hyp::inject::Exception;
use hyp::step::{self, Endianness};
use io_pgtable::Ipa;
use smmu_drv::WriteOutcome;

/// The faulting IPA, if the hardware reports it.
fn fault_ipa(abort: Abort) -> Option<Ipa> {
    // FIPA [43:4] is IPA[51:12]; only these faults set it.
    match abort.fault() {
        Fault::Translation | Fault::AccessFlag => {
            Some(Ipa(((HPFAR_EL2.get() & 0xfff_ffff_fff0) << 8) | (FAR_EL2.get() & 0xfff)))
        }
        Fault::Permission | Fault::Other => None,
    }
}

/// A data access with a stage-2 fault.
#[inline(never)]
pub fn data(frame: &mut Frame, abort: Abort) {
    if step::is_plain(SPSR_EL2.get(), SCTLR_EL1.get()) {
        answer(frame, abort, emulate);
    } else {
        data_other(frame, abort);
    }
}

/// A data access by AArch32, or on a host with a big-endian level.
#[cold]
#[inline(never)]
fn data_other(frame: &mut Frame, abort: Abort) {
    answer(frame, abort, emulate_other);
}

#[inline]
fn answer(frame: &mut Frame, abort: Abort, emulate: impl FnOnce(&mut Frame, iommu::Register, Access, Direction)) {
    let Some(ipa) = fault_ipa(abort) else { return inject(Exception::DataAbort(abort.direction())) };
    if let Some(register) = iommu::locate(ipa) {
        if abort.walk() == Walk::Access
            && let Some(access) = abort.access()
        {
            return emulate(frame, register, access, abort.direction());
        }
        iommu::count_denied();
        return inject(Exception::DataAbort(abort.direction()));
    }
    not_an_smmu(frame, abort, ipa);
}

/// A register of the interrupt controller, or another address.
#[cold]
#[inline(never)]
fn not_an_smmu(frame: &mut Frame, abort: Abort, ipa: Ipa) {
    let Some(register) = guard::locate(ipa) else { return configuration_space(frame, abort, ipa) };
    match abort.access().filter(|_| abort.walk() == Walk::Access) {
        Some(access) => emulate_gic(frame, register, access, abort.direction()),
        None => inject(Exception::DataAbort(abort.direction())),
    }
}

/// A register of configuration space while a function is away, or anything else.
#[cold]
#[inline(never)]
fn configuration_space(frame: &mut Frame, abort: Abort, ipa: Ipa) {
    let Some(register) = devices::locate(ipa) else { return withheld(frame, abort, ipa) };
    let access = abort.access().filter(|_| abort.walk() == Walk::Access);
    // Both are done with the lock held, since otherwise the last function could be returned and configuration space
    // mapped in between.
    let answer = with_ownership(|_| {
        devices::traps(register).then(|| {
            access.map(|access| match abort.direction() {
                Direction::Read => devices::read(register, access.size),
                Direction::Write => {
                    let value = ordered(access.stored(frame.get(access.register)), access.size);
                    devices::write(register, access.size, value);
                    0
                }
            })
        })
    });
    match (answer, access, abort.direction()) {
        (None, _, direction) => retry_or(Exception::DataAbort(direction), ipa),
        (Some(Some(value)), Some(access), Direction::Read) => {
            frame.set(access.register, access.loaded(ordered(value, access.size)));
            skip_instruction();
        }
        (Some(Some(_)), Some(_), Direction::Write) => skip_instruction(),
        (Some(_), _, direction) => {
            iommu::count_denied();
            inject(Exception::DataAbort(direction));
        }
    }
}

/// An address that is neither memory nor a register of the host. In a start from UEFI, ACPI also lists withheld
/// devices: a driver that probes one reads zeroes instead of getting an abort that it does not expect.
#[cold]
fn withheld(frame: &mut Frame, abort: Abort, ipa: Ipa) {
    let access = abort.access().filter(|_| abort.walk() == Walk::Access && uefi::record().is_some());
    match (with_ownership(|ownership| faulted_page(ownership, ipa)), access) {
        (FaultedPage::Mapped, _) => {}
        (FaultedPage::NoMemory, Some(access)) => {
            iommu::count_denied();
            if abort.direction() == Direction::Read {
                frame.set(access.register, 0);
            }
            skip_instruction();
        }
        (FaultedPage::NoMemory, None) | (FaultedPage::Memory, _) => inject(Exception::DataAbort(abort.direction())),
    }
}

/// Not on a fast path: interrupts are delivered without traps, and a running host rarely accesses these registers.
fn emulate_gic(frame: &mut Frame, register: guard::Register, access: Access, direction: Direction) {
    match direction {
        Direction::Read => {
            let value = ordered(with_gic_alone(|gic| guard::read(register, gic, access.size)), access.size);
            frame.set(access.register, access.loaded(value));
            skip_instruction();
        }
        Direction::Write => {
            let value = ordered(access.stored(frame.get(access.register)), access.size);
            match with_gic(|pages, gic| guard::write(register, pages, gic, access.size, value)) {
                gic_guard::WriteOutcome::Done => skip_instruction(),
                // The store executes again, after the host has taken its pending interrupts.
                gic_guard::WriteOutcome::Again => {}
            }
        }
    }
}

/// Device registers are little-endian.
fn ordered(value: u64, size: Size) -> u64 {
    match step::endianness(SPSR_EL2.get(), SCTLR_EL1.get()) {
        Endianness::Little => value,
        Endianness::Big => size.reversed(value),
    }
}

/// An instruction fetch with a stage-2 fault.
#[cold]
pub fn instruction(abort: Abort) {
    match fault_ipa(abort) {
        Some(ipa) => retry_or(Exception::InstructionAbort, ipa),
        None => inject(Exception::InstructionAbort),
    }
}

/// During a split the rest of the block is briefly unmapped: such a fault can be retried after taking the table's
/// lock.
#[cold]
fn retry_or(exception: Exception, ipa: Ipa) {
    if with_ownership(|ownership| faulted_page(ownership, ipa)) != FaultedPage::Mapped {
        inject(exception);
    }
}

#[inline]
fn emulate(frame: &mut Frame, register: iommu::Register, access: Access, direction: Direction) {
    match direction {
        Direction::Read => {
            let plain = with_smmu_alone(register, |smmu| iommu::read_plain(register, smmu, access.size));
            let value = plain.unwrap_or_else(|| load(register, access.size));
            frame.set(access.register, access.loaded(value));
            skip_aarch64();
        }
        Direction::Write => store(frame, register, access),
    }
}

fn emulate_other(frame: &mut Frame, register: iommu::Register, access: Access, direction: Direction) {
    match direction {
        Direction::Read => {
            let value = ordered(load(register, access.size), access.size);
            frame.set(access.register, access.loaded(value));
            skip_instruction();
        }
        Direction::Write => {
            let value = ordered(access.stored(frame.get(access.register)), access.size);
            if write(register, access.size, value) == WriteOutcome::Done {
                skip_instruction();
            }
        }
    }
}

/// Out of line, so that a load need not save the registers for this.
#[inline(never)]
fn store(frame: &mut Frame, register: iommu::Register, access: Access) {
    match write(register, access.size, access.stored(frame.get(access.register))) {
        WriteOutcome::Done => skip_aarch64(),
        // The store executes again, after the host has taken its pending interrupts.
        WriteOutcome::Again => {}
    }
}

#[inline(never)]
fn write(register: iommu::Register, size: Size, value: u64) -> WriteOutcome {
    with_smmu(register, |pages, smmu| iommu::write(register, pages, smmu, size, value))
}

/// A load that needs memory of the host: rare, so it is out of line.
#[cold]
#[inline(never)]
fn load(register: iommu::Register, size: Size) -> u64 {
    with_smmu(register, |pages, smmu| iommu::read(register, pages, smmu, size))
}
