//! A hypervisor below one host that it does not trust, with a stage 2 that is not an identity map.
//!
//! The host programs the SMMU without changes to its driver. Each of its register accesses traps, and [`Hypervisor`]
//! passes it to the driver; all addresses from the host are IPAs, which [`Pages`] translates. The stage-2 table of the
//! host's streams is made with `io-pgtable` and maps the addresses of [`Pages`]; for an identity map, `shadow-s2`
//! manages such a table.
//!
//! ```text
//! start       every stream uses the table before the host runs
//! load,store  the host's accesses to the SMMU's registers, from the abort handler
//! revoke      a page of the host, under DMA
//! faults      transactions of devices that were blocked
//! ```
#![forbid(unsafe_code)]

pub mod host;
mod pages;

// The guide's programs are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/integration.md")]
struct Guide;

use example_board::Board;
use io_pgtable::{Attrs, HeapMemory, IoPgtable, Ipa, Pa, Prot, S2, TlbError, TlbOps, TlbRange, UnmapError};
use smmu_drv::{
    AccessSize, DmaConfig, Fault, HostedSmmu, MsiAdvert, ProbeConfig, Probed, Stage2Cfg, Stale, WriteOutcome,
};

pub use pages::{Claim, Pages};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// VMID of the host's CPUs and streams. No other table uses it.
const VMID: u16 = 1;
/// Bits of the host's addresses.
const IPA_BITS: u32 = 40;
/// Bits of the CPUs' physical addresses.
const PA_BITS: u32 = 48;

/// Why a page was not taken from the host. The host still owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeError {
    /// The host does not own it.
    NotOwned,
    /// It is claimed, because it contains a queue of the host.
    Claimed,
    /// There is no memory for a table.
    NoMemory,
    /// The SMMU does not respond: devices may still reach the page.
    Unsafe,
}

/// The part of a hypervisor that concerns DMA. You add the locks: first the one of the ownership, then the one of the
/// SMMU.
pub struct Hypervisor {
    pages: Pages,
    /// The table of the host's streams. The CPUs can use the same table, or another one with the same pages.
    table: IoPgtable<S2, HeapMemory>,
    smmu: HostedSmmu<Board, Pages>,
}

impl Hypervisor {
    /// Takes the SMMU over: afterwards every stream reaches only the host's memory in `runs`.
    ///
    /// `runs` contains the IPA, the PA and the size of each part of the host's memory.
    ///
    /// # Errors
    /// The reason as text. The host must not run.
    pub fn start(board: &Board, runs: &[(Ipa, Pa, u64)]) -> Result<Self, String> {
        let config = ProbeConfig { msi: MsiAdvert::WhenCoherent, ..ProbeConfig::new(board.coherency()) };
        let probed = Probed::probe(board.clone(), config).map_err(|error| error.to_string())?;
        let walkers = DmaConfig::common([probed.features()].into_iter(), IPA_BITS, PA_BITS);
        let mut table = IoPgtable::new(&walkers.table(), board.tables()).map_err(|error| error.to_string())?;
        for &(ipa, pa, bytes) in runs {
            table.map(ipa.into(), pa, bytes, Attrs::normal(Prot::RW)).map_err(|error| error.to_string())?;
        }
        let pages = Pages::new(board.mem().clone(), runs);
        let stage2 = Stage2Cfg::of(&table.config(), VMID);
        let smmu = probed.take_over_with_host(stage2, Default::default()).map_err(|error| error.to_string())?;
        Ok(Self { pages, table, smmu })
    }

    /// Handles a load of the host from the register at `offset`.
    pub fn load(&mut self, offset: u32, size: AccessSize) -> u64 {
        self.smmu.mmio_read(&mut self.pages, offset, size)
    }

    /// Handles a store of the host to the register at `offset`. After [`WriteOutcome::Again`] do not advance the
    /// program counter: the host takes its interrupts and executes the store again.
    pub fn store(&mut self, offset: u32, size: AccessSize, value: u64) -> WriteOutcome {
        self.smmu.mmio_write(&mut self.pages, offset, size, value)
    }

    /// Takes the page at `ipa` from the host, and returns its physical address. After `Ok` no device reaches it.
    ///
    /// # Errors
    /// See [`RevokeError`].
    pub fn revoke(&mut self, ipa: Ipa) -> Result<Pa, RevokeError> {
        let pa = self.pages.can_be_taken(ipa)?;
        // Here unmap the page from the table of the host's CPUs, before that of its devices.
        let mut tlb = Tlb { smmu: &mut self.smmu, stale: None };
        if let Err(error) = self.table.unmap(ipa.into(), PAGE, &mut tlb) {
            let refused = refusal(error);
            if refused == RevokeError::Unsafe {
                // The host still owns the page, so it is mapped again. If there is no memory for that, the host's
                // devices cannot reach it, which is safe.
                let _ = self.table.map(ipa.into(), pa, PAGE, Attrs::normal(Prot::RW));
            }
            return Err(refused);
        }
        self.pages.remove(ipa);
        Ok(pa)
    }

    /// Calls `tell` for each fault since the last call. Call this from a timer, and after traps while
    /// [`HostedSmmu::has_fault`] is true.
    pub fn faults(&mut self, mut tell: impl FnMut(&Fault)) {
        self.smmu.poll_events(&mut self.pages);
        while let Some(fault) = self.smmu.take_fault() {
            tell(&fault);
        }
    }

    /// The host's pages.
    #[must_use]
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Checks that every stream is confined, and that the host owns the memory of its queues.
    ///
    /// # Errors
    /// The first error, as text.
    pub fn audit(&self) -> Result<(), String> {
        self.smmu.audit(&self.pages).map_err(|finding| finding.to_string())
    }
}

fn refusal(error: UnmapError) -> RevokeError {
    match error {
        UnmapError::NoMemory => RevokeError::NoMemory,
        UnmapError::Tlb(_) => RevokeError::Unsafe,
        UnmapError::NotMapped(_) | UnmapError::Misaligned | UnmapError::OutOfRange => RevokeError::NotOwned,
    }
}

/// Invalidates translations in the SMMU.
struct Tlb<'a> {
    smmu: &'a mut HostedSmmu<Board, Pages>,
    stale: Option<Stale>,
}

impl TlbOps for Tlb<'_> {
    fn invalidate(&mut self, range: TlbRange) {
        self.stale = Some(Stale::with(self.stale, range));
    }

    fn sync(&mut self) -> Result<(), TlbError> {
        let Some(stale) = self.stale.take() else { return Ok(()) };
        self.smmu.tlb_invalidate_host(stale).map_err(|_| TlbError)
    }
}
