//! Changes of a stream's owner: the host, a guest, or nobody.
//!
//! Ownership is held by the caller; each function takes the lock of one SMMU, or of each in turn.

use super::{UNITS, Unit, log_failure, units};
use crate::memory::HostPages;
use smmu_drv::{AssignError, RetireError, Stage2Cfg, StreamOwner, StreamRange};

/// One stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The number of its SMMU.
    pub smmu: usize,
    /// Its StreamID.
    pub sid: u32,
}

impl Stream {
    fn unit(self) -> Result<&'static Unit, AssignError> {
        UNITS.iter().filter_map(spin::Once::get).find(|unit| unit.number == self.smmu).ok_or(AssignError::Range)
    }

    fn range(self) -> StreamRange {
        StreamRange::one(self.sid)
    }

    /// The stream's owner; nobody if the SMMU does not exist.
    pub fn owner(self) -> StreamOwner {
        self.unit().map_or(StreamOwner::Blocked, |unit| unit.smmu.lock().owner(self.sid))
    }

    /// Blocks the stream: nobody owns it, and its transactions abort.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn block(self, pages: &mut HostPages) -> Result<(), AssignError> {
        let unit = self.unit()?;
        let result = unit.smmu.lock().block(pages, self.range());
        log_failed(unit, result)
    }

    /// Gives the stream, which must have no owner, to a domain.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn assign(self, domain: &Stage2Cfg) -> Result<(), AssignError> {
        let unit = self.unit()?;
        let result = unit.smmu.lock().assign(self.range(), domain);
        log_failed(unit, result)
    }

    /// Gives the stream, which must have no owner, to the host.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn release(self, pages: &mut HostPages) -> Result<(), AssignError> {
        let unit = self.unit()?;
        let result = unit.smmu.lock().release(pages, self.range());
        log_failed(unit, result)
    }
}

/// Logs the failure of an SMMU.
fn log_failed(unit: &Unit, result: Result<(), AssignError>) -> Result<(), AssignError> {
    if let Err(AssignError::Failed(error)) = result {
        log_failure(unit, error);
    }
    result
}

/// Retires the VMID of a guest without streams on every SMMU.
///
/// # Errors
/// The first [`RetireError`]; all are called.
pub fn retire(vmid: u16) -> Result<(), RetireError> {
    let mut result = Ok(());
    for (_, unit) in units() {
        let answer = unit.smmu.lock().retire(vmid);
        if let Err(RetireError::Failed(error)) = answer {
            log_failure(unit, error);
        }
        result = result.and(answer);
    }
    result
}
