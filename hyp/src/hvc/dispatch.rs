//! From a request to its answer: one exhaustive match over the calls.

use mem_protect::{Error, GuestId, Transition};

use super::abi::{Answer, Features, Request, Stat, Status, VERSION_MAJOR, VERSION_MINOR};

/// What stands behind the hypercalls.
pub trait Services {
    /// Most pages that one call takes.
    fn max_pages(&self) -> u64;

    /// Carries out a transition; its numbers are the host's word. See [`mem_protect::Ownership::apply`].
    ///
    /// # Errors
    /// As there.
    fn transition(&mut self, transition: Transition) -> Result<Option<GuestId>, Error>;

    /// What this machine offers.
    fn features(&self) -> Features;

    /// Drains the event queues, prints new faults on EL2's console, and returns one counter, summed over all SMMUs.
    fn iommu_stat(&mut self, stat: Stat) -> u64;

    /// Prints the state of every SMMU on EL2's console.
    fn iommu_trace(&mut self);
}

/// Answers the hypercall in X0 to X3.
pub fn dispatch(registers: [u64; 4], services: &mut impl Services) -> Answer {
    match Request::decode(registers) {
        Ok(Request::Version) => version(services),
        Ok(Request::Transition(transition)) => Answer::of(services.transition(transition)),
        Ok(Request::IommuStats(stat)) => Answer::value(services.iommu_stat(stat)),
        Ok(Request::IommuTrace) => {
            services.iommu_trace();
            Answer::status(Status::Success)
        }
        Err(status) => Answer::status(status),
    }
}

fn version(services: &impl Services) -> Answer {
    let version = u64::from(VERSION_MAJOR) << 16 | u64::from(VERSION_MINOR);
    Answer { status: Status::Success, values: [version, services.max_pages(), services.features().bits()] }
}
