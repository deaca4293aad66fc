//! Static partitions without a host: each guest has memory and devices, and a stage 2 of its own.
//!
//! [`Partitions`] takes the SMMUs over, and then knows which guest reaches what by DMA. The CPUs' stage 2, the scheduling and the
//! interrupts of the guests are yours; a page has to leave a guest's CPUs and its devices before another guest gets it.
//!
//! ```text
//! start          every device of every SMMU aborts
//! create         a guest: a VMID and an empty table
//! map            a page of memory for the guest's devices
//! give           a device: a stream of one SMMU
//! revoke         a page, under DMA
//! faults         what devices tried
//! destroy        a guest: its devices abort, its VMID can be used again
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

/// Maximum SMMUs.
pub const MAX_SMMUS: usize = 4;
/// Maximum guests.
pub const MAX_GUESTS: usize = 8;
/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Why the SMMUs could not be taken over. Devices of those that were abort.
#[derive(Debug)]
pub enum StartError {
    /// There are more than [`MAX_SMMUS`].
    TooMany,
    /// One cannot isolate.
    Refused(ProbeError),
    /// One did not do what it was told, or memory is short.
    Failed(TakeOverError),
}

/// Why a call changed nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// No such guest or SMMU, a VMID that is in use, or too many guests.
    Unknown,
    /// No memory, or an address that a table cannot have.
    Table,
    /// The page is mapped already, or was not.
    Mapping,
    /// The stream could not be given, or taken.
    Stream(AssignError),
    /// An SMMU does not answer: devices may still reach what they reached before. Nothing of it may get another owner.
    Unsafe,
}

/// The SMMUs, and the guests whose devices they confine.
pub struct Partitions<P: Platform, M: TableMemory + Clone> {
    smmus: ArrayVec<Smmu<P>, MAX_SMMUS>,
    guests: ArrayVec<Guest<M>, MAX_GUESTS>,
    /// What every SMMU can walk.
    tables: Cfg,
    memory: M,
}

impl<P: Platform, M: TableMemory + Clone> Partitions<P, M> {
    /// Takes over all SMMUs: every device behind them aborts when this returns.
    ///
    /// Each has a place for its lists. Addresses of guests have at most `bits` bits, those of the CPUs `pa_bits`.
    ///
    /// # Errors
    /// See [`StartError`]: do not start guests.
    pub fn start(
        platforms: impl IntoIterator<Item = (P, ProbeConfig, StorageOf<P>)>,
        memory: M,
        bits: u32,
        pa_bits: u32,
    ) -> Result<Self, StartError> {
        // Nothing is written before every SMMU is known to be usable.
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

    /// A guest with this VMID, which has no memory and no device yet.
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

    /// Lets the guest's devices reach the page at `pa` by the address `ipa`. An SMMU caches no faults, so nothing is invalidated.
    ///
    /// # Errors
    /// Nothing changed.
    pub fn map(&mut self, vmid: u16, ipa: Ipa, pa: Pa) -> Result<(), Error> {
        guest(&mut self.guests, vmid)?.map(ipa, pa)
    }

    /// Gives a device to a guest: stream `sid` of SMMU number `smmu`. Nothing that the device did for its owner of before is in
    /// progress when this returns.
    ///
    /// # Errors
    /// See [`AssignError`]: after `Failed` the device may still reach what it reached before.
    pub fn give(&mut self, vmid: u16, smmu: usize, sid: u32) -> Result<(), Error> {
        let stage2 = Stage2Cfg::of(&guest(&mut self.guests, vmid)?.table.config(), vmid);
        let smmu = self.smmus.get_mut(smmu).ok_or(Error::Unknown)?;
        smmu.assign(StreamRange::one(sid), &stage2).map_err(Error::Stream)
    }

    /// Takes a page from a guest's devices. It can have another owner when this returns `Ok`.
    ///
    /// # Errors
    /// [`Error::Unsafe`]: the page has to stay with its owner. Otherwise nothing changed.
    pub fn revoke(&mut self, vmid: u16, ipa: Ipa) -> Result<(), Error> {
        let mut tlb = Tlb::new(&mut self.smmus, vmid);
        guest(&mut self.guests, vmid)?.table.unmap(ipa.into(), PAGE, &mut tlb).map_err(|error| match error {
            UnmapError::Tlb(_) => Error::Unsafe,
            UnmapError::NoMemory => Error::Table,
            UnmapError::Misaligned | UnmapError::OutOfRange | UnmapError::NotMapped(_) => Error::Mapping,
        })
    }

    /// Calls `tell` for each transaction that an SMMU refused, which says whose it was. To be called by a timer: without a host the
    /// SMMU's own interrupts are off.
    pub fn faults(&mut self, mut tell: impl FnMut(&Fault)) {
        for smmu in &mut self.smmus {
            smmu.poll_faults();
            while let Some(fault) = smmu.take_fault() {
                tell(&fault);
            }
        }
    }

    /// Programs SMMUs again that lost their state. To be called when a CPU comes back from a state in which the power may have been
    /// off, before it runs a guest.
    ///
    /// # Errors
    /// [`Error::Unsafe`]: one could not be programmed.
    pub fn check_alive(&mut self) -> Result<(), Error> {
        for smmu in &mut self.smmus {
            smmu.check_alive().map_err(|_| Error::Unsafe)?;
        }
        Ok(())
    }

    /// Programs every SMMU again, after the machine was suspended. To be called before a guest or a device runs.
    ///
    /// # Errors
    /// [`Error::Unsafe`]: one could not be programmed. Every other is.
    pub fn resume(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for smmu in &mut self.smmus {
            result = result.and(smmu.resume().map_err(|_| Error::Unsafe));
        }
        result
    }

    /// Ends a guest, whose devices are `streams`: an SMMU and a stream each. Its pages, its devices and its VMID can have another owner
    /// when this returns `Ok`.
    ///
    /// # Errors
    /// The guest stays, without the devices that were blocked until then; call it again.
    pub fn destroy(&mut self, vmid: u16, streams: &[(usize, u32)]) -> Result<(), Error> {
        guest(&mut self.guests, vmid)?;
        for &(smmu, sid) in streams {
            let smmu = self.smmus.get_mut(smmu).ok_or(Error::Unknown)?;
            if smmu.owner(sid) == StreamOwner::Domain(vmid) {
                smmu.block(StreamRange::one(sid)).map_err(Error::Stream)?;
            }
        }
        // Every SMMU forgets the VMID before anybody gets it again.
        for smmu in &mut self.smmus {
            smmu.retire(vmid).map_err(|error| match error {
                RetireError::InUse => Error::Unknown,
                RetireError::Failed(_) => Error::Unsafe,
            })?;
        }
        let gone = self.guests.iter().position(|guest| guest.vmid == vmid).and_then(|at| self.guests.swap_pop(at));
        // No SMMU walks its table any more, or has something of it: there is nothing to invalidate.
        gone.map_or(Ok(()), |guest| guest.table.destroy(&mut NoTlb)).map_err(|_| Error::Unsafe)
    }
}

fn guest<M: TableMemory>(guests: &mut [Guest<M>], vmid: u16) -> Result<&mut Guest<M>, Error> {
    guests.iter_mut().find(|guest| guest.vmid == vmid).ok_or(Error::Unknown)
}
