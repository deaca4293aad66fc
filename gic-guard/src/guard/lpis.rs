//! LPIs: which of them events use, and their configuration.
//!
//! Hardware reads EL2's configuration table only. The host's byte is copied, built again from its fields, when a
//! command requires that hardware reads it; LPIs without an event stay disabled.

use host_access::memory::{ClaimError, DmaBuffer, HostMemory, Sharing};
use io_pgtable::{Ipa, Pa};

use crate::its::sharing;
use crate::limits::MAX_INTID_BITS;
use crate::platform::Platform;
use crate::spec::gicr::propbaser;
use crate::spec::tables::{FIRST_LPI, lpi as byte};
use crate::spec::{get64, low32, mask64, put64, union64};

/// Bytes of the configuration table: a byte for each of 2^16 INTIDs, except the first 8 KiB; the size is a power of
/// two.
pub(crate) const CONFIG_BYTES: usize = 1 << MAX_INTID_BITS;
/// Bytes of the bitmap of LPIs that are in use.
const TAKEN_BYTES: usize = CONFIG_BYTES / 8;
/// LPIs of one word of the bitmap.
const WORD: u32 = 64;

/// The host's configuration table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HostTable {
    base: u64,
    /// INTIDs below this are in the table.
    intids: u32,
    sharing: Sharing,
}

/// LPIs and their configuration.
pub(crate) struct Lpis<B> {
    config: B,
    taken: B,
    intid_bits: u32,
    table: Option<HostTable>,
}

/// The byte for hardware: priority and enable of the host's byte.
fn config(host: u8) -> u64 {
    let host = u64::from(host);
    union64([
        put64(byte::ENABLE, get64(byte::ENABLE, host)),
        put64(byte::RES1, 1),
        put64(byte::PRIORITY, get64(byte::PRIORITY, host)),
    ])
}

/// The byte of a disabled LPI.
const DISABLED: u64 = put64(byte::RES1, 1);

impl<B: DmaBuffer> Lpis<B> {
    /// All LPIs below 2^`intid_bits`, free.
    pub(crate) fn new<P: Platform<Buffer = B>>(platform: &P, intid_bits: u32) -> Option<Self> {
        let config = platform.alloc(CONFIG_BYTES)?;
        let taken = platform.alloc(TAKEN_BYTES)?;
        Some(Self { config, taken, intid_bits: intid_bits.min(MAX_INTID_BITS), table: None })
    }

    /// INTID bits.
    pub(crate) fn intid_bits(&self) -> u32 {
        self.intid_bits
    }

    /// Address and size of the table that hardware reads.
    pub(crate) fn config_table(&self) -> (Pa, usize) {
        (self.config.pa(), self.config.size())
    }

    /// Words of the bitmap.
    pub(crate) fn words(&self) -> u32 {
        1_u32.checked_shl(self.intid_bits).unwrap_or(0).saturating_sub(FIRST_LPI).checked_div(WORD).unwrap_or(0)
    }

    /// Bit `lpi` of the bitmap: offset and mask.
    fn place(lpi: u32) -> (usize, u64) {
        let index = lpi.saturating_sub(FIRST_LPI);
        let at = usize::try_from(index.checked_div(WORD).unwrap_or(0)).unwrap_or(usize::MAX).saturating_mul(8);
        (at, 1_u64.checked_shl(index & 63).unwrap_or(0))
    }

    /// Reserves `lpi` for an event; false if another event has it.
    pub(crate) fn take(&mut self, lpi: u32) -> bool {
        let (at, mask) = Self::place(lpi);
        let word = self.taken.read64(at);
        self.taken.write64(at, word | mask);
        word & mask == 0
    }

    /// Frees `lpi`.
    pub(crate) fn release(&mut self, lpi: u32) {
        let (at, mask) = Self::place(lpi);
        let word = self.taken.read64(at);
        self.taken.write64(at, word & !mask);
        self.set(lpi, DISABLED);
    }

    /// Which of the 64 LPIs of word `n` are in use.
    pub(crate) fn taken(&self, n: u32) -> u64 {
        self.taken.read64(usize::try_from(n).unwrap_or(usize::MAX).saturating_mul(8))
    }

    /// Sets the host's table from this GICR_PROPBASER. Below 14 INTID bits there are no LPIs [G 12.11].
    pub(crate) fn set_table(&mut self, register: u64) {
        let bits = low32(get64(propbaser::ID_BITS, register)).saturating_add(1).min(self.intid_bits);
        let intids = 1_u32.checked_shl(bits).unwrap_or(0);
        self.table = (intids > FIRST_LPI).then(|| HostTable {
            base: register & mask64(propbaser::ADDRESS),
            intids,
            sharing: sharing(register, propbaser::INNER, propbaser::OUTER, propbaser::SHAREABILITY),
        });
    }

    /// Sets the byte of `lpi` in the table that hardware reads, and cleans it from the cache.
    fn set(&mut self, lpi: u32, value: u64) {
        let index = lpi.saturating_sub(FIRST_LPI);
        let at = usize::try_from(index & !7).unwrap_or(usize::MAX);
        let shift = (index & 7).saturating_mul(8);
        let mask = 0xff_u64.checked_shl(shift).unwrap_or(0);
        let word = self.config.read64(at) & !mask;
        self.config.write64(at, word | value.checked_shl(shift).unwrap_or(0) & mask);
        self.config.clean(at, 8);
    }

    /// Copies the host's byte of `lpi`, or disables `lpi` if the byte cannot be read.
    ///
    /// # Errors
    /// The host's table is not its own memory. The LPI is disabled then.
    pub(crate) fn copy<H: HostMemory>(&mut self, host: &mut H, lpi: u32) -> Result<(), ClaimError> {
        let index = lpi.saturating_sub(FIRST_LPI);
        let words = self.fetch::<H, 1>(host, index & !7);
        let lane = usize::try_from(index & 7).unwrap_or(0);
        let value = match &words {
            Ok([word]) => config(word.to_le_bytes().get(lane).copied().unwrap_or(0)),
            Err(_) => DISABLED,
        };
        self.set(lpi, value);
        words.map(|_| ())
    }

    /// Copies the bytes of those of the 64 LPIs of word `n` that are in use.
    ///
    /// # Errors
    /// The host's table is not its own memory. The LPIs are disabled then.
    pub(crate) fn copy_word<H: HostMemory>(&mut self, host: &mut H, n: u32) -> Result<(), ClaimError> {
        let taken = self.taken(n);
        let index = n.saturating_mul(WORD);
        let fetched = self.fetch::<H, 8>(host, index);
        let words = fetched.unwrap_or([0; 8]);
        let bytes = words.into_iter().flat_map(u64::to_le_bytes);
        for (lpi, host_byte) in (FIRST_LPI.saturating_add(index)..=u32::MAX).zip(bytes) {
            let (_, mask) = Self::place(lpi);
            if taken & mask != 0 {
                self.set(lpi, if fetched.is_ok() { config(host_byte) } else { DISABLED });
            }
        }
        fetched.map(|_| ())
    }

    /// Words of the host's table from byte `index` on, each read once. Words beyond the table are zero: disabled.
    fn fetch<H: HostMemory, const N: usize>(&self, host: &mut H, index: u32) -> Result<[u64; N], ClaimError> {
        let inside = |table: &HostTable| FIRST_LPI.saturating_add(index) < table.intids;
        let Some(table) = self.table.filter(inside) else { return Ok([0; N]) };
        let bytes = u64::try_from(N).unwrap_or(0).saturating_mul(8);
        let start = table.base.checked_add(u64::from(index)).ok_or(ClaimError::BadRange)?;
        let claim = host.claim(Ipa(start), bytes, table.sharing)?;
        let words = core::array::from_fn(|n| {
            let at = u64::try_from(n).unwrap_or(0).saturating_mul(8);
            host.read64(&claim, at).unwrap_or(0)
        });
        host.release(claim);
        Ok(words)
    }
}
