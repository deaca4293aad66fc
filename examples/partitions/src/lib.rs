//! Static partitions without a host: each guest has memory, devices and its own stage 2.
//!
//! [`Partitions`] takes the SMMUs over, and then controls the memory that each guest reaches by DMA. You add the CPUs'
//! stage 2, the scheduling and the interrupts of the guests; a page must be unmapped from a guest's CPUs and its
//! devices before another guest gets it.
//!
//! ```text
//! start          every device of every SMMU aborts
//! create         a guest: a VMID and an empty table
//! map            a page of memory for the guest's devices
//! give           a device: a stream of one SMMU
//! revoke         a page, under DMA
//! faults         transactions of devices that were blocked
//! destroy        a guest: its devices abort, and its VMID can be reused
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod guest;

use arrayvec::ArrayVec;
use io_pgtable::{Cfg, CfgError, IoPgtable, Ipa, NoTlb, Pa, TableMemory, UnmapError};
use smmu_drv::{
    AssignError, DmaConfig, Fault, Platform, ProbeConfig, ProbeError, Probed, RetireError, Smmu, Stage2Cfg, StorageOf,
    StreamOwner, StreamRange, TakeOverError,
};

use guest::{Guest, Tlb};

/// Maximum number of SMMUs.
pub const MAX_SMMUS: usize = 4;
/// Maximum number of guests.
pub const MAX_GUESTS: usize = 8;
/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Why the SMMUs could not be taken over. Devices behind SMMUs that were taken over abort.
#[derive(Debug)]
pub enum StartError {
    /// There are more than [`MAX_SMMUS`].
    TooMany,
    /// An SMMU lacks a feature that isolation needs.
    Refused(ProbeError),
    /// An SMMU did not respond as required, or there was no memory.
    Failed(TakeOverError),
}

/// Why a call failed. Unless the error says otherwise, nothing changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The guest or SMMU does not exist, the VMID is in use, or there are too many guests.
    Unknown,
    /// There is no memory, or the address is outside the range of the table.
    Table,
    /// The page is already mapped, or is not mapped.
    Mapping,
    /// The stream could not be assigned or taken back.
    Stream(AssignError),
    /// An SMMU does not respond: devices may still reach the same memory as before, so the memory must keep its owner.
    Unsafe,
}

/// The SMMUs, and the guests whose devices they confine.
pub struct Partitions<P: Platform, M: TableMemory + Clone> {
    smmus: ArrayVec<Smmu<P>, MAX_SMMUS>,
    guests: ArrayVec<Guest<M>, MAX_GUESTS>,
    /// A table configuration that every SMMU supports.
    tables: Cfg,
    memory: M,
}

impl<P: Platform, M: TableMemory + Clone> Partitions<P, M> {
    /// Takes over all SMMUs: every device behind them aborts when this returns.
    ///
    /// Each SMMU has its own storage for lists. Addresses of guests have at most `bits` bits, those of the CPUs
    /// `pa_bits`.
    ///
    /// # Errors
    /// See [`StartError`]. Do not start guests after an error.
    pub fn start(
        platforms: impl IntoIterator<Item = (P, ProbeConfig, StorageOf<P>)>,
        memory: M,
        bits: u32,
        pa_bits: u32,
    ) -> Result<Self, StartError> {
        // All SMMUs are probed before the first one is written.
        let mut probed = ArrayVec::<_, MAX_SMMUS>::new();
        for (platform, config, storage) in platforms {
            let one = Probed::probe(platform, config).map_err(StartError::Refused)?;
            probed.try_push((one, storage)).map_err(|_| StartError::TooMany)?;
        }
        let features = probed.iter().map(|(one, _)| one.features());
        let tables = DmaConfig::common(features, bits, pa_bits).table();
        let mut smmus = ArrayVec::new();
        for (one, storage) in probed {
            let smmu = one.take_over(storage).map_err(StartError::Failed)?;
            smmus.try_push(smmu).map_err(|_| StartError::TooMany)?;
        }
        Ok(Self { smmus, guests: ArrayVec::new(), tables, memory })
    }

    /// Creates a guest with this VMID, without memory or devices.
    ///
    /// # Errors
    /// Nothing changed.
    pub fn create(&mut self, vmid: u16) -> Result<(), Error> {
        if self.guests.is_full() || self.guests.iter().any(|guest| guest.vmid == vmid) {
            return Err(Error::Unknown);
        }
        let table = IoPgtable::new(&self.tables, self.memory.clone()).map_err(|_: CfgError| Error::Table)?;
        self.guests.push(Guest { vmid, table });
        Ok(())
    }

    /// Maps the page at `pa` for the guest's devices at `ipa`. An SMMU does not cache faults, so no invalidation is
    /// needed.
    ///
    /// # Errors
    /// Nothing changed.
    pub fn map(&mut self, vmid: u16, ipa: Ipa, pa: Pa) -> Result<(), Error> {
        guest(&mut self.guests, vmid)?.map(ipa, pa)
    }

    /// Gives a device to a guest: stream `sid` of SMMU number `smmu`. On return no transaction of the device for its
    /// previous owner is in progress.
    ///
    /// # Errors
    /// See [`AssignError`]: after `Failed` the device may still reach what it reached before.
    pub fn give(&mut self, vmid: u16, smmu: usize, sid: u32) -> Result<(), Error> {
        let stage2 = Stage2Cfg::of(&guest(&mut self.guests, vmid)?.table.config(), vmid);
        let smmu = self.smmus.get_mut(smmu).ok_or(Error::Unknown)?;
        smmu.assign(StreamRange::one(sid), &stage2).map_err(Error::Stream)
    }

    /// Takes a page from a guest's devices. After `Ok` it can get another owner.
    ///
    /// # Errors
    /// After [`Error::Unsafe`] the page must keep its owner. After other errors nothing changed.
    pub fn revoke(&mut self, vmid: u16, ipa: Ipa) -> Result<(), Error> {
        let mut tlb = Tlb::new(&mut self.smmus, vmid);
        guest(&mut self.guests, vmid)?.table.unmap(ipa.into(), PAGE, &mut tlb).map_err(|error| match error {
            UnmapError::Tlb(_) => Error::Unsafe,
            UnmapError::NoMemory => Error::Table,
            UnmapError::Misaligned | UnmapError::OutOfRange | UnmapError::NotMapped(_) => Error::Mapping,
        })
    }

    /// Calls `tell` for each transaction that an SMMU blocked; the fault contains its owner. Call this from a timer:
    /// without a host the SMMU's own interrupts are off.
    pub fn faults(&mut self, mut tell: impl FnMut(&Fault)) {
        for smmu in &mut self.smmus {
            smmu.poll_faults();
            while let Some(fault) = smmu.take_fault() {
                tell(&fault);
            }
        }
    }

    /// Programs SMMUs again that lost their state. Call this when a CPU returns from a power state in which an SMMU's
    /// power may have been off, before the CPU runs a guest.
    ///
    /// # Errors
    /// [`Error::Unsafe`]: an SMMU could not be programmed.
    pub fn check_alive(&mut self) -> Result<(), Error> {
        for smmu in &mut self.smmus {
            smmu.check_alive().map_err(|_| Error::Unsafe)?;
        }
        Ok(())
    }

    /// Programs every SMMU again after the machine was suspended. Call this before a guest or a device runs.
    ///
    /// # Errors
    /// [`Error::Unsafe`]: an SMMU could not be programmed. The others are programmed.
    pub fn resume(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for smmu in &mut self.smmus {
            result = result.and(smmu.resume().map_err(|_| Error::Unsafe));
        }
        result
    }

    /// Destroys a guest. `streams` are the SMMU and the stream of each of its devices. After `Ok` its pages, its
    /// devices and its VMID can be reused.
    ///
    /// # Errors
    /// The guest still exists, without the devices that were already blocked. Call this again.
    pub fn destroy(&mut self, vmid: u16, streams: &[(usize, u32)]) -> Result<(), Error> {
        guest(&mut self.guests, vmid)?;
        for &(smmu, sid) in streams {
            let smmu = self.smmus.get_mut(smmu).ok_or(Error::Unknown)?;
            if smmu.owner(sid) == StreamOwner::Domain(vmid) {
                smmu.block(StreamRange::one(sid)).map_err(Error::Stream)?;
            }
        }
        // Every SMMU has to invalidate the VMID before it can be reused.
        for smmu in &mut self.smmus {
            smmu.retire(vmid).map_err(|error| match error {
                RetireError::InUse => Error::Unknown,
                RetireError::Failed(_) => Error::Unsafe,
            })?;
        }
        let gone = self.guests.iter().position(|guest| guest.vmid == vmid).and_then(|at| self.guests.swap_pop(at));
        // No SMMU walks the table or caches its entries any more, so no invalidation is needed.
        gone.map_or(Ok(()), |guest| guest.table.destroy(&mut NoTlb)).map_err(|_| Error::Unsafe)
    }
}

fn guest<M: TableMemory>(guests: &mut [Guest<M>], vmid: u16) -> Result<&mut Guest<M>, Error> {
    guests.iter_mut().find(|guest| guest.vmid == vmid).ok_or(Error::Unknown)
}
