//! Configurations of the modelled GIC.

/// The configuration of a modelled GIC.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Number of ITSs.
    pub its: usize,
    /// Number of redistributors.
    pub cpus: usize,
    /// Number of DeviceID bits.
    pub device_bits: u32,
    /// Number of EventID bits.
    pub event_bits: u32,
    /// Bytes of an ITT entry.
    pub itt_entry: u64,
    /// Bytes of an ITT entry in addition to the size in GITS_TYPER, as on hardware with an erratum.
    pub itt_hidden: u64,
    /// Bytes of a device table entry.
    pub device_entry: u64,
    /// Bytes of a collection table entry.
    pub collection_entry: u64,
    /// Whether there is a collection table; collections are held in hardware otherwise.
    pub collection_table: bool,
    /// Collection ID bits.
    pub collection_bits: u32,
    /// Whether device tables can have two levels.
    pub indirect: bool,
    /// The only supported page size, as encoded in GITS_BASER. `None`: all page sizes.
    pub page_size: Option<u64>,
    /// The GIC is a GICv4: it has a vPE table and VLPI frames.
    pub virtual_lpis: bool,
    /// RDbase is an address (GITS_TYPER.PTA = 1).
    pub addresses: bool,
    /// Accesses snoop caches.
    pub shareable: bool,
    /// Software can clear EnableLPIs.
    pub clearable: bool,
    /// ITSs are enabled, and EnableLPIs is set, with a configuration table here, when EL2 starts.
    pub left_on: Option<u64>,
    /// A vPE is resident, with tables here, when EL2 starts.
    pub resident: Option<u64>,
    /// EnableLPIs was cleared just before EL2 starts: RWP is still 1.
    pub flushing: bool,
    /// Address bits of GICR_PROPBASER and GICR_PENDBASER.
    pub rd_address_bits: u32,
    /// INTID bits that GICR_PROPBASER can hold.
    pub rd_id_bits: u32,
    /// ITSs and redistributors support physical LPIs.
    pub physical: bool,
    /// GICR_CTLR.RWP stays 1.
    pub stays_busy: bool,
    /// Software cannot set EnableLPIs.
    pub stays_off: bool,
    /// This ITS stops consuming commands after this many.
    pub stops_after: Option<(usize, u64)>,
    /// Commands with this opcode stall the queue this many times.
    pub stalls: Option<(u64, u32)>,
    /// The number of commands with this opcode that are executed before the first stall.
    pub stalls_after: u32,
    /// GITS_CTLR.Quiescent never becomes 1.
    pub never_quiescent: bool,
    /// After software has made the GIC quiescent, it must not enable it again.
    pub stays_quiet: bool,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Config {
    /// QEMU's `virt` with `gic-version=3`, two CPUs.
    pub const fn qemu() -> Self {
        Self {
            its: 1,
            cpus: 2,
            device_bits: 16,
            event_bits: 16,
            itt_entry: 12,
            itt_hidden: 0,
            device_entry: 8,
            collection_entry: 8,
            collection_table: true,
            collection_bits: 16,
            indirect: true,
            page_size: None,
            virtual_lpis: false,
            addresses: false,
            shareable: true,
            clearable: true,
            left_on: None,
            resident: None,
            flushing: false,
            rd_address_bits: 52,
            rd_id_bits: 32,
            physical: true,
            stays_busy: false,
            stays_off: false,
            stops_after: None,
            stalls: None,
            stalls_after: 0,
            never_quiescent: false,
            stays_quiet: false,
            seed: 1,
        }
    }

    /// Bytes of an ITT entry that the ITS writes.
    pub(crate) const fn itt_bytes(&self) -> u64 {
        self.itt_entry + self.itt_hidden
    }

    /// The address of redistributor `n`, which MAPC contains if RDbase is an address.
    pub const fn rd_address(self, n: usize) -> u64 {
        0x80a_0000 + (n as u64) * if self.virtual_lpis { 0x4_0000 } else { 0x2_0000 }
    }
}
