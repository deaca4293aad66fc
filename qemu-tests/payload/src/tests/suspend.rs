//! Firmware resets the SMMU while the CPU is suspended (`el3.rs`): EL2 must detect it before the host runs again.

use spin::mutex::SpinMutex;

use crate::boot::secondary_entry;
use crate::machine::EL2_IMAGE;
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::{Attack, AttackedMemory, Ctx, Mode, Seen, Setup};
use crate::{cpu, ensure, fail, firmware, payload_test, println};

/// Bit of the original format of `power_state`.
const POWER_DOWN: u32 = 1 << 16;
/// The mailbox of [`cpu`] used by the resumed boot CPU.
const MAILBOX: usize = 1;

/// A device that uses physical addresses: its transfers land if the SMMU bypasses.
struct SuspendTest {
    setup: Setup,
    attacked: AttackedMemory,
    attack: Attack,
}

impl SuspendTest {
    fn new(ctx: &Ctx) -> Result<Self, crate::outcome::Fail> {
        let setup = Setup::new(ctx, Mode::Bypass)?;
        let attacked = AttackedMemory::el2(ctx)?;
        setup.control(ctx)?;
        Ok(Self { setup, attacked, attack: Attack::begin() })
    }

    /// Attacks before any access to a register of the SMMU since it lost its state.
    fn attack(self, ctx: &Ctx) -> TestResult {
        let landed = self.setup.read(self.attacked.known)? == Seen::Value(self.attacked.content);
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
    power_down(resumed)
}

static SUSPENDED: SpinMutex<Option<(SuspendTest, Ctx)>> = SpinMutex::new(None);

fn resumed(_argument: u64) -> u64 {
    if let Some((test, ctx)) = SUSPENDED.lock().take() {
        report(ctx.name, test.attack(&ctx));
    }
    firmware::system_off()
}

/// Suspends this CPU, which runs `work` at its entry point. Returns only if the call is refused.
fn power_down(work: cpu::Work) -> TestResult {
    cpu::send(MAILBOX, work, 0);
    let answer = firmware::cpu_suspend(POWER_DOWN, secondary_entry(), crate::num::u64_of(MAILBOX));
    fail!("CPU_SUSPEND returned: {answer:?}")
}

/// Prints the result of a test that continued after a power-down.
fn report(name: &str, result: TestResult) {
    match result {
        Ok(()) => println!("TEST {name}: PASS"),
        Err(fail) => println!("TEST {name}: FAIL {fail}"),
    }
}

payload_test!(t66_registers_have_any_value_at_resume, Runs::ON_REQUEST);
/// For the same firmware, which leaves all ones in the registers of a CPU that it resumes: its features match its ID
/// registers.
fn t66_registers_have_any_value_at_resume(_ctx: &Ctx) -> TestResult {
    power_down(|_| {
        let right = super::features::mismatches(0) == 0;
        let result = if right { Ok(()) } else { Err("features do not match the ID registers".into()) };
        report("t66_registers_have_any_value_at_resume", result);
        firmware::system_off()
    })
}

payload_test!(t39_extended_states, Runs::ON_REQUEST);
/// For the same firmware with extended states and OS-initiated mode: bit 30 requests a power-down, which needs an entry
/// point of the host; bit 16 does not; and OS-initiated mode is not reported.
fn t39_extended_states(_ctx: &Ctx) -> TestResult {
    const PSCI_FEATURES: u64 = 0x8400_000a;
    const CPU_SUSPEND: u64 = 0xc400_0001;
    const INVALID_ADDRESS: i64 = -9;
    let call = |id, first, entry| firmware::smc(id, [first, entry, 0, 0, 0, 0, 0])[0].cast_signed();
    let flags = call(PSCI_FEATURES, CPU_SUSPEND, 0);
    ensure!(flags == 0b10, "CPU_SUSPEND has the flags {flags:#x}");
    let standby = call(CPU_SUSPEND, 1 << 16, EL2_IMAGE);
    ensure!(standby == 0, "a standby state with bit 16: {standby}");
    for state in [1 << 30, 1 << 30 | 1 << 16] {
        let foreign = call(CPU_SUSPEND, state, EL2_IMAGE);
        ensure!(foreign == INVALID_ADDRESS, "state {state:#x} into EL2's memory: {foreign}");
    }
    Ok(())
}
