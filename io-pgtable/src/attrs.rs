//! Permissions and memory type of a mapping, independent of the stage.

bitflags::bitflags! {
    /// Access that a mapping allows. A missing flag denies: without `EXEC` the mapping is never executable.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Prot: u8 {
        /// Readable.
        const READ = 1 << 0;
        /// Writable. Stage 1 has no write-only memory: there it also makes the mapping readable.
        const WRITE = 1 << 1;
        /// Executable.
        const EXEC = 1 << 2;
        /// Only for privileged accesses; stage 1 of EL1&0 only, refused elsewhere.
        const PRIV = 1 << 3;
    }
}

impl Prot {
    /// Readable and writable, not executable.
    pub const RW: Self = Self::READ.union(Self::WRITE);
    /// Readable, writable and executable: stage-2 permissions for memory that the guest manages itself.
    pub const RWX: Self = Self::RW.union(Self::EXEC);
}

/// Memory type of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MemType {
    /// Normal, inner and outer write-back cacheable, inner shareable (Linux: `IOMMU_CACHE`).
    #[default]
    Normal,
    /// Normal, non-cacheable.
    NormalNc,
    /// Device-nGnRE (Linux: `IOMMU_MMIO`).
    Device,
}

/// Access and memory type together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attrs {
    /// The access that is allowed.
    pub prot: Prot,
    /// The memory type.
    pub mem: MemType,
}

impl Attrs {
    /// Normal cacheable memory.
    #[must_use]
    pub const fn normal(prot: Prot) -> Self {
        Self { prot, mem: MemType::Normal }
    }

    /// Normal non-cacheable memory.
    #[must_use]
    pub const fn normal_nc(prot: Prot) -> Self {
        Self { prot, mem: MemType::NormalNc }
    }

    /// Device memory.
    #[must_use]
    pub const fn device(prot: Prot) -> Self {
        Self { prot, mem: MemType::Device }
    }
}
