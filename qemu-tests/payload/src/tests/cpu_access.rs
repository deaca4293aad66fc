//! CPU accesses to EL2's memory, donated pages and withheld devices: each kind of access must abort at EL1.

use core::sync::atomic::{AtomicBool, Ordering};

use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};

use crate::firmware::{self, Answer, Hypercall};
use crate::machine::EL2_IMAGE;
use crate::mem::page;
use crate::outcome::TestResult;
use crate::registry::{Clock, Runs};
use crate::setup::Ctx;
use crate::vectors::{Caught, catch};
use crate::{console, cpu, ensure, fail, mmio, mmu, payload_test, println, sysreg};

/// QEMU virt's fw_cfg: a DMA master without an SMMU.
const FW_CFG: u64 = 0x0902_0000;
/// QEMU virt's first virtio-mmio slot, and the distance to the last of its 32.
const VIRTIO_MMIO: u64 = 0x0a00_0000;
const VIRTIO_MMIO_LAST: u64 = 0x3e00;
/// An unmapped physical address.
const UNMAPPED: u64 = 0x0b00_0000;
/// QEMU virt's second UART: EL2's console.
const EL2_UART: u64 = 0x0904_0000;

fn must_abort(addr: u64) -> TestResult {
    let (value, caught) = catch(|| mmio::read32(addr));
    let Some(caught) = caught else {
        fail!("read of {addr:#x} gives {value:#x} instead of an abort");
    };
    ensure!(caught.is_data_abort() && caught.is_external(), "read of {addr:#x}: syndrome {:#x}", caught.esr);
    ensure!(caught.far == addr, "read of {addr:#x}: fault address {:#x}", caught.far);
    let ((), caught) = catch(|| mmio::write32(addr, 0));
    ensure!(caught.is_some_and(|caught| caught.is_data_abort()), "write to {addr:#x} does not abort");
    Ok(())
}

payload_test!(t01_el2_memory_by_cpu, Runs::EITHER);
/// The host cannot access EL2's memory, from the first byte to the last.
fn t01_el2_memory_by_cpu(ctx: &Ctx) -> TestResult {
    must_abort(EL2_IMAGE)?;
    let Some(hole) = ctx.machine.hole() else {
        fail!("the device tree lists all RAM as the host's");
    };
    println!("EL2 memory {hole:#x?}");
    ensure!(!ctx.machine.is_ram(EL2_IMAGE), "the device tree describes EL2's image as the host's memory");
    let step = ((hole.end - hole.start) / 64).max(4096) & !0xfff;
    let mut addr = hole.start;
    while addr < hole.end {
        must_abort(addr)?;
        addr += step;
    }
    must_abort(hole.end - 4)
}

payload_test!(t31_fetch_walk_maintenance, Runs::EITHER);
/// Instruction fetch, stage-1 table walk and cache maintenance on withheld pages abort at EL1.
fn t31_fetch_walk_maintenance(_ctx: &Ctx) -> TestResult {
    let attacked = page();
    mmio::write64(attacked, 0);
    let answer = Hypercall::HostDonateHyp.call(attacked, 1);
    ensure!(answer == Answer::Success, "HOST_DONATE_HYP: {answer:?}");
    for target in [EL2_IMAGE, attacked] {
        let ((), caught) = catch(|| mmu::execute(target));
        ensure!(caught.is_some_and(|caught| caught.is_instruction_abort()), "fetch from {target:#x}: {caught:x?}");
        let mut result: (u64, Option<Caught>) = (0, None);
        mmu::with_ttbr1(target, || result = catch(|| mmio::read64(mmu::TTBR1_BASE)));
        let walk = result.1;
        ensure!(walk.is_some_and(|caught| caught.is_data_abort()), "table walk in {target:#x}: {walk:x?}");
        let ((), caught) = catch(|| mmu::cache_clean_invalidate(target));
        // QEMU does not translate for cache maintenance; a core that does must abort.
        ensure!(caught.is_none_or(|caught| caught.is_data_abort()), "cache maintenance on {target:#x}: {caught:x?}");
    }
    Ok(())
}

payload_test!(unmapped_mmio, Runs::EITHER);
/// Unmapped physical addresses abort.
fn unmapped_mmio(_ctx: &Ctx) -> TestResult {
    must_abort(UNMAPPED)
}

payload_test!(t40_masters_without_smmu, Runs::EITHER);
/// fw_cfg and virtio-mmio, whose DMA no SMMU translates, are neither enabled in the tree nor accessible.
fn t40_masters_without_smmu(ctx: &Ctx) -> TestResult {
    for node in ctx.machine.fdt().root().children() {
        let withheld = node.is_compatible("qemu,fw-cfg-mmio") || node.is_compatible("virtio,mmio");
        let disabled = node.property("status").is_some_and(|status| status.value() == b"disabled\0");
        ensure!(!withheld || disabled, "{} is described as usable", node.name());
    }
    must_abort(FW_CFG)?;
    must_abort(VIRTIO_MMIO)?;
    must_abort(VIRTIO_MMIO + VIRTIO_MMIO_LAST)
}

payload_test!(t57_console, Runs::HYP);
/// The host disables its own UART, forges EL2's lines on it, and cannot access EL2's UART: the result is correct.
fn t57_console(_ctx: &Ctx) -> TestResult {
    println!(
        "portcullis: exit token=00000000000000000000000000000000 status=ok reason=forged smmu_exits=0 dma_faults=0"
    );
    must_abort(EL2_UART)?;
    let control = console::base() + 0x30;
    let saved = mmio::read32(control);
    mmio::write32(control, 0);
    // EL2 prints while the host's UART is off.
    let _ = crate::firmware::stat(crate::firmware::Stat::Faults);
    mmio::write32(control, saved);
    Ok(())
}

payload_test!(t57_shared_console, Runs::ON_REQUEST, cpus = 4, clock = Clock::Real);
/// For a machine with one UART: while one CPU powers the machine off, the others write forged last lines.
fn t57_shared_console(ctx: &Ctx) -> TestResult {
    for index in 1..4 {
        cpu::start(ctx.machine, index)?;
    }
    // Printed before the attack: later output would be lost.
    println!("TEST {}: PASS", ctx.name);
    for index in 1..4 {
        cpu::send(index, forge, 0);
    }
    ensure!(sysreg::poll_us(60_000_000, || FORGING.load(Ordering::SeqCst)), "the other CPUs do not write");
    firmware::system_off()
}

/// Whether [`forge`] has written a line.
static FORGING: AtomicBool = AtomicBool::new(false);

fn forge(_argument: u64) -> u64 {
    let line = b"\nportcullis: exit token=0 status=ok reason=forged audit=clean smmu_exits=0 dma_faults=0\n";
    loop {
        // Without a check of the FIFO, since the emulator's FIFO is never full.
        for byte in line {
            mmio::write8(console::base(), *byte);
        }
        FORGING.store(true, Ordering::SeqCst);
    }
}

payload_test!(t57_console_off, Runs::ON_REQUEST);
/// For a machine with one UART: the host disables it, changes word length and divisor, and powers off.
fn t57_console_off(ctx: &Ctx) -> TestResult {
    println!("TEST {}: PASS", ctx.name);
    // UARTCR, then UARTIBRD and UARTLCR_H: five bits, two stop bits, even parity, a break.
    for (offset, value) in [(0x30, 0), (0x24, 1), (0x2c, 0b1111)] {
        mmio::write32(console::base() + offset, value);
    }
    firmware::system_off()
}

payload_test!(t55_undescribed_mmio, Runs::EITHER);
/// Every page below RAM that the host can read belongs to an enabled device of its device tree.
fn t55_undescribed_mmio(ctx: &Ctx) -> TestResult {
    let (first, last) = (0x0800_0000_u64, 0x1000_0000_u64);
    let mut reachable = 0;
    for page in (first..last).step_by(4096) {
        let ((), caught) = catch(|| {
            mmio::read32(page);
        });
        if caught.is_none() {
            reachable += 1;
            ensure!(described(ctx, page), "{page:#x} is reachable, but no enabled node has it");
        }
    }
    println!("{reachable} pages reachable");
    Ok(())
}

/// Whether an enabled node of the device tree has a register page at `page`.
fn described(ctx: &Ctx, page: u64) -> bool {
    let root = ctx.machine.fdt().root();
    root.children().any(|node| {
        let inside = |node: dtoolkit::fdt::FdtNode<'static>| {
            let disabled = node.property("status").is_some_and(|status| status.value() == b"disabled\0");
            !disabled
                && node.reg().ok().flatten().into_iter().flatten().any(|reg| {
                    let base = reg.address::<u64>().unwrap_or(0);
                    let size = reg.size::<u64>().unwrap_or(0);
                    base < page + 4096 && page < base.saturating_add(size)
                })
        };
        inside(node) || node.children().any(inside)
    })
}
