//! The machine, for the steps of `hyp::pci::handover`: the host's stage 2, the SMMUs, the guests.

use super::config::Ecam;
use crate::arch;
use crate::iommu::streams::Stream;
use crate::memory::host_s2::HostTable;
use crate::ownership::HostOwnership;
use hyp::boot_info::PhysRange;
use hyp::pci::{self, Error, Refusal, Segment};
use io_pgtable::Ipa;
use mem_protect::{GuestId, GuestLife, HostStage2, PageRange, TableError};
use smmu_drv::AssignError;

/// The machine, with the ownership lock held.
pub struct Locked<'a> {
    pub ownership: &'a mut HostOwnership,
    /// Whether configuration space of the segment is unmapped from the host.
    pub taken: &'a mut bool,
}

/// The pages of a range of registers.
pub fn pages(range: PhysRange) -> Option<PageRange> {
    PageRange::covering(Ipa(range.base().0), range.size())
}

impl Locked<'_> {
    fn table(&mut self) -> &mut HostTable {
        self.ownership.cpu_mut()
    }

    fn take(&mut self, range: PhysRange) -> Result<(), Error> {
        let pages = pages(range).ok_or(Error::Io)?;
        self.table().unmap(pages).map_err(|error| match error {
            TableError::NoMemory => Error::NoMemory,
            TableError::NotMapped(_) | TableError::Overlap(_) | TableError::Unmappable => {
                Error::Refused(Refusal::BarOutside)
            }
            TableError::NotCompleted => Error::Io,
        })
    }

    fn give(&mut self, range: PhysRange) -> Result<(), Error> {
        let pages = pages(range).ok_or(Error::Io)?;
        self.table().map_device(range.base(), range.size()).map_err(|error| match error {
            TableError::NoMemory => Error::NoMemory,
            TableError::NotMapped(_) | TableError::Overlap(_) | TableError::Unmappable | TableError::NotCompleted => {
                Error::Io
            }
        })?;
        self.table().coalesce(pages);
        Ok(())
    }
}

fn stream(stream: pci::Stream) -> Stream {
    Stream { smmu: usize::from(stream.smmu), sid: stream.sid }
}

fn failed(error: AssignError) -> Error {
    match error {
        AssignError::NoMemory | AssignError::TooMany => Error::NoMemory,
        AssignError::Range
        | AssignError::NotBlocked
        | AssignError::BadStage2(_)
        | AssignError::VmidInUse
        | AssignError::Quiesced
        | AssignError::Failed(_) => Error::Io,
    }
}

impl pci::Machine for Locked<'_> {
    type Config = Ecam;

    fn config(&mut self, segment: &Segment) -> Ecam {
        Ecam(segment.area)
    }

    fn now_us(&self) -> u64 {
        arch::now_us()
    }

    fn unmap_config(&mut self, segment: &Segment) -> Result<(), Error> {
        if !*self.taken {
            self.take(segment.area.range)?;
            *self.taken = true;
        }
        Ok(())
    }

    fn map_config(&mut self, segment: &Segment) {
        if !segment.fixed_numbers && *self.taken && self.give(segment.area.range).is_ok() {
            *self.taken = false;
        }
    }

    fn unmap_registers(&mut self, range: PhysRange) -> Result<(), Error> {
        self.take(range)
    }

    fn map_registers(&mut self, range: PhysRange) -> Result<(), Error> {
        self.give(range)
    }

    fn block(&mut self, of: pci::Stream) -> Result<(), Error> {
        stream(of).block(self.ownership.memory_mut()).map_err(failed)
    }

    fn assign(&mut self, of: pci::Stream, guest: GuestId) -> Result<(), Error> {
        let domain = self.ownership.dma_mut().use_for(guest).ok_or(Error::Io)?;
        stream(of).assign(&domain).map_err(failed)
    }

    fn release(&mut self, of: pci::Stream) -> Result<(), Error> {
        stream(of).release(self.ownership.memory_mut()).map_err(failed)
    }

    fn guest_gets_device(&mut self, handle: u64) -> Result<GuestId, Error> {
        self.ownership.guest_gets_device(handle).map_err(|error| match error {
            mem_protect::Error::GuestDying => Error::GuestDying,
            _ => Error::NoSuchGuest,
        })
    }

    fn is_alive(&self, guest: GuestId) -> bool {
        self.ownership.guest_life(guest) == GuestLife::Alive
    }

    fn guest_loses_device(&mut self, guest: GuestId) {
        self.ownership.guest_loses_device(guest);
    }
}
