//! Two modelled SMMUs that share a table, and an invalidation that violates one contract.

use example_board::{Board, RAM};
use io_pgtable::{Attrs, Cfg, HeapMemory, IoPgtable, Ipa, NoTlb, Pa, Prot, S2};
use shadow_s2::{Invalidate, InvalidateError, PageRange, Plan, Target};
use smmu_conformance::Devices;
use smmu_drv::{ProbeConfig, Probed, Smmu, Stage2Cfg, Stale, StreamRange, Unassigned};
use smmu_model::{Cache, Config, Pace};

/// The contract that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    FirstOnly,
    SecondOnly,
    OnePage,
    NotAll,
    OtherVmid,
    NoWait,
    Fails,
    FailureHidden,
}

const VMID: u16 = 3;
const SID: u32 = 8;

pub struct Smmus {
    smmus: [Smmu<Board>; 2],
    how: Broken,
}

pub struct Behind {
    boards: [Board; 2],
    table: IoPgtable<S2, HeapMemory>,
}

/// Two SMMUs with a device each. Their table contains one page, which keeps the last level allocated.
pub fn two(how: Broken, pace: Pace, cache: Cache) -> (Smmus, Behind) {
    let config = |seed| Config { pace, cache, seed, ..Config::qemu() };
    let first = Board::new(config(1));
    let boards = [first.clone(), first.another(config(2))];
    let mut table = IoPgtable::new(&Cfg { page_sizes: 1 << 12, ..Cfg::new(40, 40) }, first.tables()).unwrap();
    table.map(Ipa(0x1f_f000).into(), Pa(RAM), 4096, Attrs::normal(Prot::RW)).unwrap();
    let smmus = boards.clone().map(|board| {
        let config = ProbeConfig { unassigned: Unassigned::Blocked, ..ProbeConfig::new(board.coherency()) };
        let mut smmu = Probed::probe(board, config).unwrap().take_over(Default::default()).unwrap();
        smmu.assign(StreamRange::one(SID), &Stage2Cfg::of(&table.config(), VMID)).unwrap();
        smmu
    });
    (Smmus { smmus, how }, Behind { boards, table })
}

impl Invalidate for Smmus {
    fn invalidate(&mut self, plan: &Plan) -> Result<(), InvalidateError> {
        let stale = match (plan.target, self.how) {
            (Target::All, Broken::NotAll) => return Ok(()),
            (Target::All, _) => Stale::All,
            (Target::Range { start, .. }, Broken::OnePage) => Stale::Range { ipa: start, size: 4096 },
            (Target::Range { start, bytes }, _) => Stale::Range { ipa: start, size: bytes },
        };
        if self.how == Broken::Fails {
            return Err(InvalidateError);
        }
        let vmid = if self.how == Broken::OtherVmid { VMID + 1 } else { VMID };
        let count = if self.how == Broken::FirstOnly { 1 } else { 2 };
        let skipped = if self.how == Broken::SecondOnly { 1 } else { 0 };
        let mut result = Ok(());
        for smmu in self.smmus.iter_mut().take(count).skip(skipped) {
            let done = if self.how == Broken::NoWait {
                smmu.tlb_submit(vmid, stale)
            } else {
                smmu.tlb_invalidate(vmid, stale)
            };
            if done.is_err() && self.how != Broken::FailureHidden {
                result = Err(InvalidateError);
            }
        }
        result
    }
}

impl Devices for Behind {
    fn use_and_unmap(&mut self, pages: PageRange) {
        for page in pages.pages() {
            let pa = Pa(RAM + page.ipa().0);
            self.table.map(page.ipa().into(), pa, 4096, Attrs::normal(Prot::RW)).unwrap();
        }
        for (page, board) in pages.pages().flat_map(|page| self.boards.iter().map(move |board| (page, board))) {
            assert_eq!(board.dma_write(SID, page.ipa().0, 1), smmu_model::Transfer::Done);
        }
        self.table.unmap(pages.ipa().into(), pages.bytes(), &mut NoTlb).unwrap();
    }
    fn reached(&mut self, ipa: Ipa) -> Option<usize> {
        self.boards.iter().position(|board| board.reaches(SID, RAM + ipa.0))
    }
    fn fail(&mut self) {
        self.boards[1].fail();
    }
}
