//! Seeds that read and write every register, and place queues outside the host's memory.

use mem_protect::Transition;
use smmu_drv::AccessSize::{Byte, Double, Word};
use smmu_drv::emul::table::Register;
use smmu_model::arch::regs as r;

use super::{Named, WRITE_PROD, base, dma, own, start, write};
use crate::host::{LOG2_QUEUE, ON, QUEUES};
use crate::hostile::action::{Action, Cmd, Fault, NO_RANGE, Request};
use crate::hostile::value::{Half, Reg, Value};
use crate::layout::{EL2, HOST_CMDQ, HOST_DATA, HOST_EVTQ, HOST_STRTAB};

pub(super) fn all() -> Named {
    let update = |bits: u64| write(r::GBPA, Word, Value::of(1 << 31 | bits));
    let interrupt = Action::Interrupt { smmu: 0 };
    vec![
        ("every-register-read", 0, read_all()),
        ("every-register-written-off", 0, write_all(&[])),
        ("every-register-written-on", 1, write_all(&[start(0)])),
        ("every-register-without-msi", 8, write_all(&[])),
        // The walk over eight StreamID blocks of a linear table takes more than one trap.
        (
            "gbpa-read-during-an-update",
            9,
            vec![
                update(1 << 20),
                Action::Read { smmu: 0, at: Reg::Raw(r::GBPA), size: Word },
                Action::Resume { cpu: 1 },
            ],
        ),
        (
            "smmuen-cleared-while-it-is-being-set",
            9,
            vec![
                write(r::STRTAB_BASE, Double, base(HOST_STRTAB, 0)),
                write(r::STRTAB_BASE_CFG, Word, Value::Small(11)),
                write(r::CR0, Word, Value::of(ON.into())),
                Action::Abandon { cpu: 1 },
                Action::Write { cpu: 0, smmu: 0, at: Reg::Raw(r::CR0), size: Word, value: Value::Small(0) },
                update(1 << 20),
                Action::Resume { cpu: 0 },
                Action::Resume { cpu: 1 },
            ],
        ),
        ("interrupts", 0, vec![start(0), dma(0, Request::Write), interrupt, dma(0, Request::Read), interrupt]),
        ("command-queue-in-el2", 0, foreign_queue(r::CMDQ_BASE, EL2)),
        ("command-queue-outside-memory", 0, foreign_queue(r::CMDQ_BASE, 1 << 40)),
        ("event-queue-in-el2", 0, foreign_queue(r::EVENTQ_BASE, EL2)),
        ("queues-on-a-returned-page", 0, page_returned()),
        ("an-index-beyond-a-full-queue", 0, beyond()),
        (
            "power-loss-between-traps",
            0,
            vec![
                start(0),
                Action::Fault { smmu: 0, what: Fault::PowerLoss, arg: 0 },
                dma(HOST_DATA, Request::Write),
                Action::Fault { smmu: 0, what: Fault::Failure, arg: 0 },
                interrupt,
                write(r::GERRORN, Word, Value::Small(0xff)),
                write(r::CR0, Word, Value::Small(0)),
                WRITE_PROD,
                write(r::CR0, Word, Value::of(ON.into())),
            ],
        ),
    ]
}

/// Every slot has a harmless command, and CMDQ_PROD covers more commands than the queue has slots.
fn beyond() -> Vec<Action> {
    let mut out = vec![start(0)];
    out.extend([Action::Queue { smmu: 0, cmd: Cmd::NhAll }; 1 << LOG2_QUEUE]);
    out.push(write(r::CMDQ_PROD, Word, Value::Word(0x7_ff00)));
    out
}

fn rows() -> impl Iterator<Item = u8> {
    (0..Register::ROWS.len()).filter_map(|row| u8::try_from(row).ok())
}

fn read_all() -> Vec<Action> {
    let mut out = vec![start(0)];
    for row in rows() {
        for (half, size) in [(Half::Low, Word), (Half::High, Word), (Half::Low, Double), (Half::Low, Byte)] {
            out.push(Action::Read { smmu: 0, at: Reg::Row { row, half }, size });
        }
    }
    out
}

fn write_all(before: &[Action]) -> Vec<Action> {
    let mut out = before.to_vec();
    // CR0 is last: its enables make the others read-only.
    for row in rows().filter(|row| Register::ROWS[usize::from(*row)].0 != Register::Cr0) {
        for (half, size) in [(Half::Low, Word), (Half::High, Word), (Half::Low, Double)] {
            let value = Value::of(0x40ff_ff47);
            out.push(Action::Write { cpu: 0, smmu: 0, at: Reg::Row { row, half }, size, value });
        }
    }
    for cr0 in [ON, QUEUES, ON, 0] {
        out.push(write(r::CR0, Word, Value::of(cr0.into())));
        out.push(Action::Resume { cpu: 1 });
    }
    out
}

/// All enables are set, with one queue outside host memory.
fn foreign_queue(register: u32, place: u64) -> Vec<Action> {
    vec![
        start(16),
        write(r::CR0, Word, Value::Small(0)),
        write(register, Double, base(place, 3)),
        write(r::CR0, Word, Value::of(ON.into())),
        WRITE_PROD,
        Action::Queue { smmu: 0, cmd: crate::hostile::action::Cmd::Sync },
        WRITE_PROD,
        dma(0xdead_b000, Request::Write),
        Action::Events { smmu: 0 },
        Action::Repair { smmu: 0 },
        WRITE_PROD,
        dma(0xdead_b000, Request::Write),
        Action::Events { smmu: 0 },
    ]
}

/// Both queues are enabled on pages of EL2, and used after the pages were returned to the host.
fn page_returned() -> Vec<Action> {
    let queues = [HOST_CMDQ, HOST_EVTQ];
    let mut out = vec![start(16), write(r::CR0, Word, Value::Small(0))];
    out.extend(queues.map(|page| own(Transition::HostDonateHyp(NO_RANGE), page)));
    out.extend([
        write(r::CR0, Word, Value::of(ON.into())),
        Action::Queue { smmu: 0, cmd: crate::hostile::action::Cmd::Sync },
        WRITE_PROD,
        dma(0xdead_b000, Request::Write),
        Action::Events { smmu: 0 },
    ]);
    out.extend(queues.map(|page| own(Transition::HypDonateHost(NO_RANGE), page)));
    out.extend([
        Action::Repair { smmu: 0 },
        WRITE_PROD,
        dma(0xdead_b000, Request::Write),
        Action::Events { smmu: 0 },
        dma(0xdead_b000, Request::Write),
        Action::Events { smmu: 0 },
    ]);
    out
}
