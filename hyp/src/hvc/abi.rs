//! The numbers of the interface: function identifiers, requests and results.

use bitflags::bitflags;

use crate::pci;
use crate::smccc::SVE_HINT;
use mem_protect::{Error, GuestId, Transition, UncheckedRange};

/// Changed by incompatible changes.
pub const VERSION_MAJOR: u32 = 1;
/// Changes when calls are added.
pub const VERSION_MINOR: u32 = 1;

/// The hypercalls, by function identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Function {
    /// Version, page limit and features.
    Version = 0xc600_0100,
    /// X1 = first page frame, X2 = count: share pages with EL2.
    HostShareHyp = 0xc600_0101,
    /// X1, X2: unshare.
    HostUnshareHyp = 0xc600_0102,
    /// X1, X2: donate pages to EL2's pool.
    HostDonateHyp = 0xc600_0103,
    /// X1, X2: return unused donated pages.
    HypDonateHost = 0xc600_0104,
    /// Creates a guest; its handle is returned in X1.
    VmCreate = 0xc600_0105,
    /// X1 = handle: destroys a guest; its pages are reclaimed later.
    VmDestroy = 0xc600_0106,
    /// X1, X2, X3 = handle: donate pages to a guest.
    HostDonateGuest = 0xc600_0107,
    /// X1, X2, X3 = handle: share pages with a guest.
    HostShareGuest = 0xc600_0108,
    /// X1, X2, X3 = handle: unshare pages shared with a guest.
    HostUnshareGuest = 0xc600_0109,
    /// X1, X2: reclaim the pages of a destroyed guest.
    HostReclaimPage = 0xc600_010a,
    /// X1 = index: one counter, in X1.
    IommuStats = 0xc600_0110,
    /// Prints the counters of the SMMUs on EL2's console.
    IommuTrace = 0xc600_0111,
    /// X1 = device, X2 = handle: assign a PCI function to a guest.
    DeviceAssign = 0xc600_0120,
    /// X1 = device: take a PCI function back.
    DeviceReturn = 0xc600_0121,
}

impl Function {
    /// Every hypercall.
    pub const ALL: [Self; 15] = [
        Self::Version,
        Self::HostShareHyp,
        Self::HostUnshareHyp,
        Self::HostDonateHyp,
        Self::HypDonateHost,
        Self::VmCreate,
        Self::VmDestroy,
        Self::HostDonateGuest,
        Self::HostShareGuest,
        Self::HostUnshareGuest,
        Self::HostReclaimPage,
        Self::IommuStats,
        Self::IommuTrace,
        Self::DeviceAssign,
        Self::DeviceReturn,
    ];

    /// The function identifier, as in X0.
    #[must_use]
    pub const fn id(self) -> u32 {
        // Field-less with an explicit representation: the discriminant is the identifier.
        self as u32
    }

    /// The function in X0. SMCCC: the identifier is W0 without the SVE hint, the upper half is ignored.
    #[must_use]
    pub fn from_x0(x0: u64) -> Option<Self> {
        let w0 = x0 & u64::from(!SVE_HINT);
        Self::ALL.iter().copied().find(|function| u64::from(function.id()) == w0)
    }
}

/// The counters of [`Function::IommuStats`]; those of SMMUs are summed over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Stat {
    /// Traps that were SMMU register accesses.
    Exits = 0,
    /// Recorded DMA faults.
    Faults = 1,
    /// Commands in EL2's own queues, without CMD_SYNCs.
    Commands = 2,
    /// SYNCs that EL2 issued.
    Syncs = 3,
    /// Accesses and entries that EL2 refused.
    Denied = 4,
    /// TLB maintenance of CPUs that was repeated for an erratum.
    TlbiRepeats = 5,
}

impl Stat {
    /// The counter with this index.
    #[must_use]
    pub fn from_index(index: u64) -> Option<Self> {
        match index {
            0 => Some(Self::Exits),
            1 => Some(Self::Faults),
            2 => Some(Self::Commands),
            3 => Some(Self::Syncs),
            4 => Some(Self::Denied),
            5 => Some(Self::TlbiRepeats),
            _ => None,
        }
    }
}

bitflags! {
    /// Features of this EL2, in X3 of [`Function::Version`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Share, unshare, donate and return between host and EL2.
        const HYP_PAGES = 1 << 0;
        /// Guests as owners of pages.
        const GUEST_PAGES = 1 << 1;
        /// [`Function::IommuStats`].
        const IOMMU_STATS = 1 << 2;
        /// [`Function::IommuTrace`].
        const IOMMU_TRACE = 1 << 3;
        /// DMA follows ownership. Absent in the build without isolation.
        const DMA_ISOLATION = 1 << 4;
        /// [`Function::DeviceAssign`] and [`Function::DeviceReturn`].
        const GUEST_DEVICES = 1 << 5;
    }
}

/// A decoded hypercall. Its arguments are unchecked: ranges and handles are checked where they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// [`Function::Version`].
    Version,
    /// A change of owner, sharing, or of the state of a guest.
    Transition(Transition),
    /// [`Function::IommuStats`].
    IommuStats(Stat),
    /// [`Function::IommuTrace`].
    IommuTrace,
    /// [`Function::DeviceAssign`] and [`Function::DeviceReturn`].
    Device(DeviceCall),
}

/// A request about a PCI function. The numbers are unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceCall {
    /// [`Function::DeviceAssign`]: the device, and the handle of a guest.
    Assign(u64, u64),
    /// [`Function::DeviceReturn`]: the device.
    Return(u64),
}

impl Request {
    /// Decodes X0 to X3.
    ///
    /// # Errors
    /// [`Status::NotSupported`] for an unknown function, [`Status::InvalidParameter`] for an unknown counter.
    pub fn decode([x0, x1, x2, x3]: [u64; 4]) -> Result<Self, Status> {
        let range = UncheckedRange { pfn: x1, count: x2 };
        let transition = match Function::from_x0(x0).ok_or(Status::NotSupported)? {
            Function::Version => return Ok(Self::Version),
            Function::IommuStats => {
                return Stat::from_index(x1).map(Self::IommuStats).ok_or(Status::InvalidParameter);
            }
            Function::IommuTrace => return Ok(Self::IommuTrace),
            Function::DeviceAssign => return Ok(Self::Device(DeviceCall::Assign(x1, x2))),
            Function::DeviceReturn => return Ok(Self::Device(DeviceCall::Return(x1))),
            Function::HostShareHyp => Transition::HostShareHyp(range),
            Function::HostUnshareHyp => Transition::HostUnshareHyp(range),
            Function::HostDonateHyp => Transition::HostDonateHyp(range),
            Function::HypDonateHost => Transition::HypDonateHost(range),
            Function::VmCreate => Transition::VmCreate,
            Function::VmDestroy => Transition::VmDestroy(x1),
            Function::HostDonateGuest => Transition::HostDonateGuest(range, x3),
            Function::HostShareGuest => Transition::HostShareGuest(range, x3),
            Function::HostUnshareGuest => Transition::HostUnshareGuest(range, x3),
            Function::HostReclaimPage => Transition::HostReclaimPage(range),
        };
        Ok(Self::Transition(transition))
    }
}

/// The result in X0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i64)]
pub enum Status {
    /// Success.
    Success = 0,
    /// Unknown call.
    NotSupported = -1,
    /// Invalid argument: an empty, too long or non-RAM range, an unknown handle or counter.
    InvalidParameter = -2,
    /// The pages, or the guest, are not in the state that the call requires.
    Denied = -3,
    /// In use by a claim, the pool, or a guest that is alive. The call may succeed later.
    Busy = -4,
    /// No memory for a table, no free handle, or too many claims.
    NoMemory = -5,
    /// An SMMU timed out, or EL2's tables are inconsistent.
    Io = -6,
}

impl Status {
    /// The number in X0.
    #[must_use]
    pub const fn code(self) -> i64 {
        // Field-less with an explicit representation: the discriminant is the code.
        self as i64
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::BadRange | Error::NotRam | Error::NoSuchGuest => Self::InvalidParameter,
            Error::WrongState | Error::GuestDying => Self::Denied,
            Error::Claimed | Error::InUse | Error::GuestAlive => Self::Busy,
            Error::NoMemory | Error::TooManyClaims | Error::TooManyGuests => Self::NoMemory,
            Error::NotCompleted | Error::Inconsistent => Self::Io,
        }
    }
}

/// X0 to X3 when the host continues. Unused registers are zero, so that EL2's values do not leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// X0.
    pub status: Status,
    /// X1 to X3.
    pub values: [u64; 3],
}

impl Answer {
    /// Only `status`.
    #[must_use]
    pub const fn status(status: Status) -> Self {
        Self { status, values: [0; 3] }
    }

    /// Success, with `value` in X1.
    #[must_use]
    pub const fn value(value: u64) -> Self {
        Self { status: Status::Success, values: [value, 0, 0] }
    }

    /// The version of this interface, the maximum number of pages of one call, and the features of this machine.
    #[must_use]
    pub fn version(max_pages: u64, features: Features) -> Self {
        let version = u64::from(VERSION_MAJOR) << 16 | u64::from(VERSION_MINOR);
        Self { status: Status::Success, values: [version, max_pages, features.bits()] }
    }

    /// The result of a transition; if it created a guest, the handle is in X1.
    #[must_use]
    pub fn of(result: Result<Option<GuestId>, Error>) -> Self {
        match result {
            Ok(None) => Self::status(Status::Success),
            Ok(Some(guest)) => Self::value(guest.handle().into()),
            Err(error) => Self::status(error.into()),
        }
    }

    /// The result of a call about a PCI function. X1 is the reason of a refusal, or the time in microseconds that the
    /// function still needs.
    #[must_use]
    pub const fn of_device(result: Result<(), pci::Error>) -> Self {
        let (status, value) = match result {
            Ok(()) => (Status::Success, 0),
            Err(pci::Error::Refused(why)) => (Status::Denied, why.number()),
            Err(pci::Error::Busy(us)) => (Status::Busy, us),
            Err(pci::Error::NoSuchGuest) => (Status::InvalidParameter, 0),
            Err(pci::Error::GuestDying) => (Status::Denied, 0),
            Err(pci::Error::NoMemory) => (Status::NoMemory, 0),
            Err(pci::Error::Io) => (Status::Io, 0),
        };
        Self { status, values: [value, 0, 0] }
    }

    /// X0 to X3.
    #[must_use]
    pub const fn registers(self) -> [u64; 4] {
        let [x1, x2, x3] = self.values;
        [self.status.code().cast_unsigned(), x1, x2, x3]
    }
}
