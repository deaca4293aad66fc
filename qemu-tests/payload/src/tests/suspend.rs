//! Firmware resets the SMMU while the CPU is suspended (`el3.rs`): EL2 must detect it before the host runs again.

use spin::mutex::SpinMutex;

use crate::boot::secondary_entry;
use crate::lab::{Attack, Ctx, Lab, Mode, Seen, Victim};
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::{cpu, ensure, fail, firmware, payload_test, println};

/// Bit of the original format of `power_state`.
const POWER_DOWN: u32 = 1 << 16;
/// The mailbox of [`cpu`] used by the resumed boot CPU.
const MAILBOX: usize = 1;

/// A device that uses physical addresses, which land if the SMMU bypasses.
struct SuspendTest {
    lab: Lab,
    victim: Victim,
    attack: Attack,
}

impl SuspendTest {
    fn new(ctx: &Ctx) -> Result<Self, crate::outcome::Fail> {
        let lab = Lab::new(ctx, Mode::Bypass)?;
        let victim = Victim::el2(ctx)?;
        lab.control(ctx)?;
        Ok(Self { lab, victim, attack: Attack::begin() })
    }

    /// No register of the SMMU was accessed since it lost its state.
    fn attack(self, ctx: &Ctx) -> TestResult {
        let landed = self.lab.read(self.victim.known)? == Seen::Value(self.victim.content);
        self.attack.check(ctx, landed.into())
    }
}

payload_test!(t09_smmu_lost_in_standby, Runs::ON_REQUEST);
/// For a machine with the payload's own firmware: CPU_SUSPEND returns.
fn t09_smmu_lost_in_standby(ctx: &Ctx) -> TestResult {
    let test = SuspendTest::new(ctx)?;
    let answer = firmware::cpu_suspend(0, 0, 0);
    ensure!(answer.is_ok(), "CPU_SUSPEND: {answer:?}");
    test.attack(ctx)
}

payload_test!(t09_smmu_lost_in_power_down, Runs::ON_REQUEST);
/// As above, and the CPU resumes at its entry point.
fn t09_smmu_lost_in_power_down(ctx: &Ctx) -> TestResult {
    let ctx = Ctx { ..*ctx };
    *SUSPENDED.lock() = Some((SuspendTest::new(&ctx)?, ctx));
    cpu::send(MAILBOX, resumed, 0);
    let answer = firmware::cpu_suspend(POWER_DOWN, secondary_entry(), crate::num::u64_of(MAILBOX));
    fail!("CPU_SUSPEND returned: {answer:?}")
}

static SUSPENDED: SpinMutex<Option<(SuspendTest, Ctx)>> = SpinMutex::new(None);

fn resumed(_argument: u64) -> u64 {
    if let Some((test, ctx)) = SUSPENDED.lock().take() {
        match test.attack(&ctx) {
            Ok(()) => println!("TEST {}: PASS", ctx.name),
            Err(fail) => println!("TEST {}: FAIL {fail}", ctx.name),
        }
    }
    firmware::system_off()
}
