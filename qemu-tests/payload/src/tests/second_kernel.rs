//! A second kernel on the same machine: state of the first kernel must not give it access to more memory.

use crate::mem::page;
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::{Attack, Ctx, Expect, Mode, Setup};
use crate::smmu::queue::{CommandQueue, EventQueue};
use crate::smmu::spec::{Cmd, cr0};
use crate::tests::ownership::{donate, take_back};
use crate::{ensure, payload_test};

/// log2 of the commands that fill a page.
const ONE_PAGE: u32 = 8;

payload_test!(t67_second_kernel_adopts_the_smmu, Runs::EITHER);
/// Does the same as a crash kernel: it keeps the stream table, so that devices continue, and uses new queues. A page
/// that the first kernel had donated stays inaccessible, and the pages of its queues can be donated.
fn t67_second_kernel_adopts_the_smmu(ctx: &Ctx) -> TestResult {
    let mut setup = Setup::new(ctx, Mode::Stage1)?;
    // A queue that fills a page.
    setup.smmu.borrow_mut().cmdq = CommandQueue::new(ONE_PAGE);
    setup.switch(Mode::Stage1)?;
    setup.control(ctx)?;
    let attacked = page();
    ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable while it is the host's");
    donate(attacked, 1)?;
    let attack = Attack::begin();
    let old = {
        let mut smmu = setup.smmu.borrow_mut();
        let old = [smmu.cmdq.base, smmu.evtq.base];
        smmu.set_cr0(cr0::SMMUEN)?;
        (smmu.cmdq, smmu.evtq) = (CommandQueue::new(ONE_PAGE), EventQueue::new(smmu.evtq.log2));
        smmu.acknowledge();
        old
    };
    // DMA between the use of the first kernel's queues and the second's.
    let mut landed = setup.write_lands(attacked + 0x808)?;
    for queue in old {
        donate(queue, 1)?;
        landed |= setup.write_lands(queue + 0x808)?;
    }
    {
        let mut smmu = setup.smmu.borrow_mut();
        smmu.start_cmdq(cr0::SMMUEN)?;
        smmu.command(Cmd::cfgi_all());
        smmu.command(Cmd::tlbi_nsnh_all());
        smmu.sync()?;
    }
    setup.control(ctx)?;
    landed |= setup.write_lands(attacked + 0x810)?;
    // Repeats the test with all registers and tables programmed again.
    setup.switch(Mode::Stage1)?;
    setup.control(ctx)?;
    landed |= setup.write_lands(attacked + 0x818)?;
    attack.check(ctx, landed.into())?;
    if ctx.expect == Expect::Blocked {
        for page in [attacked, old[0], old[1]] {
            take_back(page, 1)?;
            ensure!(setup.write_lands(page + 0x800)?, "the page at {page:#x} is not reachable after it was returned");
        }
    }
    Ok(())
}
