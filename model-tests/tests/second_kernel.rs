//! A second kernel on the same machine, while devices of the first still run: a crash kernel that adopts the running
//! SMMU, and one that programs it from the beginning.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use model_tests::host::{self, BYPASS, Host, INVALID, ON, QUEUES, STAGE1, Shape};
use model_tests::layout::{HOST_CMDQ, HOST_DATA, HOST_EVTQ, HOST_STRTAB, IOVA, RAM, SECRET, SID, SIDS};
use model_tests::{Machine, Setup, StoreHook};
use smmu_drv::{AccessSize, WriteOutcome};
use smmu_model::arch::regs as r;
use smmu_model::{Config, Model, Pace, Transfer};

/// Queues and tables of the second kernel.
const SECOND: u64 = RAM + 0x40_0000;
/// A page that the first kernel donated.
const DONATED: u64 = HOST_DATA + 0x10_0000;
/// The address at which the first kernel's stage 1 still maps that page.
const IOVA_DONATED: u64 = IOVA + 0x1000;

fn configs() -> [Config; 3] {
    [
        Config { sid_bits: 10, ..Config::qemu() },
        Config { two_level: false, sid_bits: 6, ..Config::qemu() },
        Config { pace: Pace::Lazy, seed: 67, sid_bits: 10, msi: true, hyp: true, ats: true, ..Config::qemu() },
    ]
}

/// Runs the first kernel: a device writes through stage 1, which still maps a donated page.
fn first_kernel(config: Config, store_hook: StoreHook) -> (Machine, Host) {
    let mut m = Machine::with_store_hook(&Setup::guarded().with(config), |_| {}, store_hook);
    let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
    m.mem.cpu_write64(host::leaf(IOVA_DONATED), DONATED | host::LEAF);
    m.mem.clean(host::leaf(IOVA_DONATED)..host::leaf(IOVA_DONATED) + 8);
    host.flush(&mut m);
    assert_eq!(m.dma_write(0, SID, IOVA, 1), Transfer::Done);
    assert_eq!(m.dma_write(0, SID, IOVA_DONATED, 1), Transfer::Done);
    assert_eq!(m.donate(DONATED, 1), Ok(()));
    (m, host)
}

/// A hook at EL2's stores: checks that the donated page is never reachable, and records whether the first kernel's
/// stream ever lost access to its own page.
struct ReachCheck {
    store_hook: StoreHook,
    interrupted: Rc<Cell<bool>>,
    calls: Rc<Cell<u64>>,
}

impl ReachCheck {
    fn new() -> Self {
        Self { store_hook: Rc::new(RefCell::new(None)), interrupted: Rc::default(), calls: Rc::default() }
    }

    fn start(&self) {
        let (interrupted, calls) = (self.interrupted.clone(), self.calls.clone());
        *self.store_hook.borrow_mut() = Some(Box::new(move |model: &Model| {
            calls.set(calls.get() + 1);
            // Only some of the stores are checked: a check takes long, and most stores fill tables that are not linked
            // yet.
            if calls.get() % 16 != 0 {
                return;
            }
            for page in [DONATED, SECRET] {
                assert_eq!(model.can_reach(SID, page).map(|reach| reach.via), None, "{page:#x} is reachable");
            }
            if model.can_reach(SID, HOST_DATA).is_none() {
                interrupted.set(true);
            }
        }));
    }
}

/// Writes CR0 as a driver does, and waits for CR0ACK.
fn cr0(m: &mut Machine, value: u32) {
    m.write32(0, r::CR0, value);
    m.settle();
    assert_eq!(m.read32(0, r::CR0ACK), value, "CR0ACK");
}

/// Checks that the registers have the first kernel's values.
fn assert_running(m: &mut Machine, host: &Host) {
    assert_eq!((m.read32(0, r::CR0), m.read32(0, r::CR0ACK)), (ON, ON));
    assert_eq!((m.read32(0, r::CR1), m.read32(0, r::CR2)), (0xd75, r::CR2_PTM | r::CR2_RECINVSID));
    let base = |m: &mut Machine, offset| m.read(0, offset, AccessSize::Double);
    assert_eq!(base(m, r::STRTAB_BASE), host.strtab() | 1 << 62);
    assert_eq!(m.read32(0, r::STRTAB_BASE_CFG), host.table_cfg());
    assert_eq!(base(m, r::CMDQ_BASE), host.cmdq() | 1 << 62 | u64::from(host::LOG2_QUEUE));
    assert_eq!(base(m, r::EVENTQ_BASE), host.evtq() | 1 << 62 | u64::from(host::LOG2_QUEUE));
    assert_eq!((m.read32(0, r::IRQ_CTRL), m.read32(0, r::IRQ_CTRLACK)), (5, 5));
    assert_eq!(m.read32(0, r::CMDQ_PROD), host.prod);
}

/// Submits a command in the second kernel's queue, then a CMD_SYNC.
fn command(m: &mut Machine, prod: &mut u32, cmd: [u64; 2]) {
    for cmd in [cmd, [0x46, 0]] {
        let slot = SECOND + u64::from(*prod % 128) * 16;
        m.mem.cpu_write64(slot, cmd[0]);
        m.mem.cpu_write64(slot + 8, cmd[1]);
        *prod = (*prod + 1) % 256;
    }
    m.write32(0, r::CMDQ_PROD, *prod);
    m.settle();
    assert_eq!(m.read32(0, r::CMDQ_CONS), *prod, "the second kernel's commands are consumed");
}

/// A crash kernel keeps the stream table, so that devices that were not stopped write to the same pages as before. It
/// has its own command queue: CR0 read, CR0 = SMMUEN alone, GERRORN = GERROR, the new queue, CR0 = SMMUEN | CMDQEN.
#[test]
fn t67_a_crash_kernel_adopts_the_running_smmu() {
    for (config, pending) in configs().into_iter().flat_map(|config| [(config.clone(), false), (config, true)]) {
        let check = ReachCheck::new();
        let (mut m, mut host) = first_kernel(config, check.store_hook.clone());
        if pending {
            // The first kernel left a command error and a command after it.
            host.cmd(&mut m, [0xff, 0]);
            host.cmd(&mut m, [u64::from(SID) << 32 | 3, 1]);
            assert_eq!(host.cerror(&mut m), Some(1));
        }
        check.start();
        assert_running(&mut m, &host);
        // While the old queues are enabled their pages cannot be donated.
        assert!(m.donate(HOST_CMDQ, 1).is_err());
        assert!(m.donate(HOST_EVTQ, 1).is_err());
        let commands = m.driver(0, |smmu, _| smmu.stats().host_commands);
        cr0(&mut m, r::CR0_SMMUEN);
        assert_eq!(m.dma_write(0, SID, IOVA, 2), Transfer::Done, "the old stream works without queues");
        // The claims of the first kernel's queues are released: the pages can be donated.
        assert_eq!(m.claims(), 0, "claims of the first kernel");
        assert_eq!(m.donate(HOST_CMDQ, 1), Ok(()));
        assert_eq!(m.donate(HOST_EVTQ, 1), Ok(()));
        let gerror = m.read32(0, r::GERROR);
        assert_eq!(gerror != m.read32(0, r::GERRORN), pending);
        m.write32(0, r::GERRORN, gerror);
        assert_eq!(m.read32(0, r::GERRORN), gerror);
        m.write64(0, r::CMDQ_BASE, SECOND | 7);
        m.write32(0, r::CMDQ_PROD, 0);
        m.write32(0, r::CMDQ_CONS, 0);
        assert_eq!(m.read(0, r::CMDQ_BASE, AccessSize::Double), SECOND | 7);
        assert_eq!((m.read32(0, r::CMDQ_PROD), m.read32(0, r::CMDQ_CONS)), (0, 0));
        cr0(&mut m, r::CR0_SMMUEN | r::CR0_CMDQEN);
        assert_eq!(m.driver(0, |smmu, _| smmu.stats().host_commands), commands, "no command of the old queue");
        assert_eq!(
            m.read(0, r::STRTAB_BASE, AccessSize::Double),
            host.strtab() | 1 << 62,
            "the old table is still used"
        );
        // It enables its event queue last.
        m.write64(0, r::EVENTQ_BASE, (SECOND + 0x1000) | 7);
        m.write32(0, r::EVENTQ_PROD, 0);
        m.write32(0, r::EVENTQ_CONS, 0);
        cr0(&mut m, ON);
        assert_eq!(m.dma_write(0, SID, IOVA, 3), Transfer::Done);
        assert!(!check.interrupted.get(), "the old stream was never interrupted");
        assert!(matches!(m.dma_write(0, SID, IOVA_DONATED, 3), Transfer::Aborted(_)));
        // The new queue works with the old table: another stream, and revocations.
        let mut prod = 0;
        host.write_ste(&m, 9, BYPASS);
        command(&mut m, &mut prod, [9 << 32 | 3, 1]);
        assert_eq!(m.dma_write(0, 9, HOST_DATA, 4), Transfer::Done);
        assert_eq!(m.isolated(&SIDS), Ok(()));
        *check.store_hook.borrow_mut() = None;
        assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
        for (sid, iova) in [(SID, IOVA), (9, HOST_DATA)] {
            assert!(matches!(m.dma_write(0, sid, iova, 5), Transfer::Aborted(_)), "stream {sid}");
        }
        command(&mut m, &mut prod, [0x30, 0]);
        // The tables can be donated too. Entries outside the host's memory are not read.
        assert_eq!(m.donate(HOST_STRTAB, 1), Ok(()));
        command(&mut m, &mut prod, [4, 31]);
        assert!(matches!(m.dma_write(0, SID, IOVA, 6), Transfer::Aborted(_)));
        assert_eq!(m.isolated(&SIDS), Ok(()));
        assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
        assert!(check.calls.get() > 0 && m.secret_intact());
    }
}

/// The second kernel finds the SMMU enabled, sets GBPA to abort or bypass, and programs everything from the beginning.
#[test]
fn t67_a_kernel_that_reprograms_everything_reaches_no_more_than_the_first() {
    for (config, abort) in configs().into_iter().zip([false, true, true]) {
        let check = ReachCheck::new();
        let shape = if config.two_level { Shape::TwoLevel } else { Shape::Linear };
        let (mut m, first) = first_kernel(config, check.store_hook.clone());
        check.start();
        assert_running(&mut m, &first);
        if abort {
            m.write32(0, r::GBPA, r::GBPA_UPDATE | r::GBPA_ABORT);
            m.settle();
            assert_eq!(m.read32(0, r::GBPA) & (r::GBPA_UPDATE | r::GBPA_ABORT), r::GBPA_ABORT);
        }
        m.write32(0, r::CR0, 0);
        m.settle();
        // DMA is untranslated or aborted, and never reaches the donated page.
        assert!(matches!(m.dma_write(0, SID, DONATED, 2), Transfer::Aborted(_)));
        let expected = if abort { Transfer::Aborted(None) } else { Transfer::Done };
        assert_eq!(m.dma_write(0, SID, HOST_DATA, 2), expected);
        assert_eq!(m.claims(), 0, "claims of the first kernel");
        let mut second = Host::enable(&mut m, 0, shape);
        assert_eq!(m.isolated(&SIDS), Ok(()));
        for words in [BYPASS, STAGE1, INVALID, BYPASS] {
            second.install(&mut m, SID, words);
            assert!(matches!(m.dma_write(0, SID, DONATED, 3), Transfer::Aborted(_)));
            assert!(matches!(m.dma_write(0, SID, IOVA_DONATED, 3), Transfer::Aborted(_)));
        }
        assert_eq!(m.dma_write(0, SID, HOST_DATA, 4), Transfer::Done);
        *check.store_hook.borrow_mut() = None;
        assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
        assert!(matches!(m.dma_write(0, SID, HOST_DATA, 5), Transfer::Aborted(_)));
        assert_eq!(m.isolated(&SIDS), Ok(()));
        assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
        assert!(check.calls.get() > 0 && m.secret_intact());
    }
}

/// The first kernel stopped while EL2 waited for it to repeat a store. The second kernel works for every kind of first
/// access.
#[test]
fn t67_a_store_that_is_never_repeated_does_not_block_a_second_kernel() {
    // With a linear table in hardware, a change of SMMUEN or of all entries takes several traps.
    let config = Config { two_level: false, sid_bits: 16, ..Config::qemu() };
    for half in [QUEUES, ON] {
        let (mut m, mut first) = first_kernel(config.clone(), StoreHook::default());
        let wanted = if half == ON {
            // CFGI_ALL, not complete.
            first.queue(&m, [4, 31]);
            first.queue(&m, [0x46, 0]);
            assert_eq!(m.write_once(0, r::CMDQ_PROD, AccessSize::Word, u64::from(first.prod)), WriteOutcome::Again);
            ON
        } else {
            assert_eq!(m.write_once(0, r::CR0, AccessSize::Word, u64::from(QUEUES)), WriteOutcome::Again);
            QUEUES
        };
        assert_eq!((m.read32(0, r::CR0), m.read32(0, r::CR0ACK)), (wanted, ON));
        assert!(m.isolated(&SIDS).is_ok());
        // The running SMMU is adopted: SMMUEN alone, then a new command queue.
        cr0(&mut m, r::CR0_SMMUEN);
        assert_eq!(m.claims(), 0);
        m.write64(0, r::CMDQ_BASE, SECOND | 7);
        m.write32(0, r::CMDQ_PROD, 0);
        m.write32(0, r::CMDQ_CONS, 0);
        cr0(&mut m, r::CR0_SMMUEN | r::CR0_CMDQEN);
        command(&mut m, &mut 0, [4, 31]);
        assert_eq!(m.dma_write(0, SID, IOVA, 2), Transfer::Done);
        assert!(matches!(m.dma_write(0, SID, IOVA_DONATED, 2), Transfer::Aborted(_)));
        assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
        assert!(matches!(m.dma_write(0, SID, IOVA, 3), Transfer::Aborted(_)));
        assert_eq!(m.isolated(&SIDS), Ok(()));
    }
}
