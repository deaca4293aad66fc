//! The list of tests: each test registers itself in a link section, so a new test needs only one change.
#![allow(unsafe_code)]

use crate::outcome::TestResult;
use crate::setup::Ctx;

/// The machines on which a test runs. The runner reads it from the `test=list` boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs(u32);

impl Runs {
    /// Under Portcullis.
    pub const HYP: Self = Self(1);
    /// Without a hypervisor: tests the payload's own drivers, and that an attack lands without isolation.
    pub const NATIVE: Self = Self(2);
    /// Under Portcullis built without isolation.
    pub const NO_ISOLATION: Self = Self(4);
    /// On every machine.
    pub const ALL: Self = Self(7);
    /// Under Portcullis, with or without isolation.
    pub const EITHER: Self = Self(5);
    /// Only when named: benchmarks.
    pub const ON_REQUEST: Self = Self(0);

    /// Whether `self` has all machines of `other`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The machines of both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The clock of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// By instruction count: waiting takes no real time, CPUs run in turn.
    Counted,
    /// Real time: CPUs run in parallel.
    Real,
}

/// One test.
pub struct Test {
    /// Its name: `tNN_…` for a row of the attack catalogue.
    pub name: &'static str,
    /// The builds and machines on which it runs.
    pub runs: Runs,
    /// Number of CPUs that it needs.
    pub cpus: usize,
    /// The kind of clock that it needs.
    pub clock: Clock,
    /// Words for EL2's command line, for example `pool=2M`.
    pub el2: &'static str,
    /// The test's function.
    pub run: fn(&Ctx) -> TestResult,
}

unsafe extern "C" {
    static __tests_start: u8;
    static __tests_end: u8;
}

/// All tests, in link order.
pub fn tests() -> &'static [Test] {
    let start = &raw const __tests_start;
    let bytes = (&raw const __tests_end).addr() - start.addr();
    // SAFETY: (1) the link script places only aligned `Test` statics between the symbols; (2) they are never written.
    unsafe { core::slice::from_raw_parts(start.cast::<Test>(), bytes / size_of::<Test>()) }
}

/// Registers a function as a test: `payload_test!(name, Runs::HYP)`, with `cpus = 4` if it needs several, with
/// `clock = Clock::Real` if they must run at the same time, or with `el2 = "pool=2M"` for options of EL2.
#[macro_export]
macro_rules! payload_test {
    ($name:ident, $runs:expr) => {
        $crate::payload_test!($name, $runs, cpus = 1);
    };
    ($name:ident, $runs:expr, cpus = $cpus:literal) => {
        $crate::payload_test!($name, $runs, cpus = $cpus, clock = $crate::registry::Clock::Counted);
    };
    ($name:ident, $runs:expr, cpus = $cpus:literal, clock = $clock:expr) => {
        $crate::payload_test!($name, $runs, $cpus, $clock, "");
    };
    ($name:ident, $runs:expr, el2 = $el2:literal) => {
        $crate::payload_test!($name, $runs, 1, $crate::registry::Clock::Counted, $el2);
    };
    ($name:ident, $runs:expr, $cpus:literal, $clock:expr, $el2:literal) => {
        const _: () = {
            // SAFETY: (1) the section has only `Test` statics, as `registry::tests` assumes.
            #[allow(unsafe_code)]
            #[used]
            #[unsafe(link_section = ".payload_tests")]
            static TEST: $crate::registry::Test = $crate::registry::Test {
                name: stringify!($name),
                runs: $runs,
                cpus: $cpus,
                clock: $clock,
                el2: $el2,
                run: $name,
            };
        };
    };
}
