//! Command opcodes and fields [IHI 0070G 4.1 to 4.7].

use super::{bit, bits, bits32, keep};

/// A command: two little-endian 64-bit words.
pub type Cmd = [u64; 2];

/// CMD_PREFETCH_CONFIG, an opcode of the Non-secure command queue, like those below.
pub const PREFETCH_CONFIG: u64 = 0x01;
/// See [`PREFETCH_CONFIG`].
pub const PREFETCH_ADDR: u64 = 0x02;
/// See [`PREFETCH_CONFIG`].
pub const CFGI_STE: u64 = 0x03;
/// Also CFGI_ALL, with Range 31.
pub const CFGI_STE_RANGE: u64 = 0x04;
/// See [`PREFETCH_CONFIG`].
pub const CFGI_CD: u64 = 0x05;
/// See [`PREFETCH_CONFIG`].
pub const CFGI_CD_ALL: u64 = 0x06;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_NH_ALL: u64 = 0x10;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_NH_ASID: u64 = 0x11;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_NH_VA: u64 = 0x12;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_NH_VAA: u64 = 0x13;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_EL2_ALL: u64 = 0x20;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_EL2_ASID: u64 = 0x21;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_EL2_VA: u64 = 0x22;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_EL2_VAA: u64 = 0x23;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_S12_VMALL: u64 = 0x28;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_S2_IPA: u64 = 0x2a;
/// See [`PREFETCH_CONFIG`].
pub const TLBI_NSNH_ALL: u64 = 0x30;
/// See [`PREFETCH_CONFIG`].
pub const ATC_INV: u64 = 0x40;
/// See [`PREFETCH_CONFIG`].
pub const PRI_RESP: u64 = 0x41;
/// See [`PREFETCH_CONFIG`].
pub const RESUME: u64 = 0x44;
/// See [`PREFETCH_CONFIG`].
pub const STALL_TERM: u64 = 0x45;
/// See [`PREFETCH_CONFIG`].
pub const SYNC: u64 = 0x46;

/// Opcode, bits `[7:0]`.
#[must_use]
pub fn opcode(cmd: Cmd) -> u64 {
    bits(cmd[0], 7, 0)
}

/// SSec, bit `[10]`.
#[must_use]
pub fn ssec(cmd: Cmd) -> bool {
    bit(cmd[0], 10)
}

/// SSV, bit `[11]`.
#[must_use]
pub fn ssv(cmd: Cmd) -> bool {
    bit(cmd[0], 11)
}

/// SubstreamID, bits `[31:12]`.
#[must_use]
pub fn ssid(cmd: Cmd) -> u32 {
    bits32(cmd[0], 31, 12)
}

/// StreamID, bits `[63:32]`.
#[must_use]
pub fn sid(cmd: Cmd) -> u32 {
    bits32(cmd[0], 63, 32)
}

/// Leaf, bit `[64]`.
#[must_use]
pub fn leaf(cmd: Cmd) -> bool {
    bit(cmd[1], 0)
}

/// Range of CFGI_STE_RANGE, bits `[68:64]`.
#[must_use]
pub fn range(cmd: Cmd) -> u32 {
    bits32(cmd[1], 4, 0)
}

/// VMID, bits `[47:32]`.
#[must_use]
pub fn vmid(cmd: Cmd) -> u32 {
    bits32(cmd[0], 47, 32)
}

/// ASID, bits `[63:48]`.
#[must_use]
pub fn asid(cmd: Cmd) -> u32 {
    bits32(cmd[0], 63, 48)
}

/// NUM, bits `[16:12]`.
#[must_use]
pub fn num(cmd: Cmd) -> u64 {
    bits(cmd[0], 16, 12)
}

/// SCALE, bits `[24:20]` (DS is not modelled).
#[must_use]
pub fn scale(cmd: Cmd) -> u64 {
    bits(cmd[0], 24, 20)
}

/// TG, bits `[75:74]`.
#[must_use]
pub fn tg(cmd: Cmd) -> u64 {
    bits(cmd[1], 11, 10)
}

/// TTL, bits `[73:72]`.
#[must_use]
pub fn ttl(cmd: Cmd) -> u64 {
    bits(cmd[1], 9, 8)
}

/// Address of a TLBI by VA, bits `[127:76]`.
#[must_use]
pub fn va(cmd: Cmd) -> u64 {
    keep(cmd[1], 63, 12)
}

/// Address of a TLBI by IPA, bits `[119:76]`.
#[must_use]
pub fn ipa(cmd: Cmd) -> u64 {
    keep(cmd[1], 55, 12)
}

/// CS of SYNC, bits `[13:12]`.
#[must_use]
pub fn sync_cs(cmd: Cmd) -> u64 {
    bits(cmd[0], 13, 12)
}

/// MSIData of SYNC, bits `[63:32]`.
#[must_use]
pub fn sync_msi_data(cmd: Cmd) -> u32 {
    bits32(cmd[0], 63, 32)
}

/// MSIAddress of SYNC, bits `[119:66]`.
#[must_use]
pub fn sync_msi_address(cmd: Cmd) -> u64 {
    keep(cmd[1], 55, 2)
}

/// Ac of RESUME, bit `[12]`.
#[must_use]
pub fn resume_retry(cmd: Cmd) -> bool {
    bit(cmd[0], 12)
}

/// Ab of RESUME, bit `[13]`.
#[must_use]
pub fn resume_abort(cmd: Cmd) -> bool {
    bit(cmd[0], 13)
}

/// STAG of RESUME, bits `[79:64]`.
#[must_use]
pub fn stag(cmd: Cmd) -> u32 {
    bits32(cmd[1], 15, 0)
}

/// The bits of a command that have a meaning; the others are RES0 and may be checked [4.1.5].
#[must_use]
pub fn defined(opcode: u64, ril: bool) -> Option<Cmd> {
    let op = 0xff;
    let ssec = 1 << 10;
    let ssv = 1 << 11;
    let ssid = 0xf_ffff << 12;
    let sid = 0xffff_ffff << 32;
    let vmid = 0xffff << 32;
    let asid = 0xffff << 48;
    let (num_scale, tg_ttl) = if ril { (0x01f1_f000, 0xf00) } else { (0, 0) };
    let by_address = |low: u64| -> Cmd { [op | num_scale | low, keep(u64::MAX, 63, 12) | tg_ttl | 1] };
    Some(match opcode {
        PREFETCH_CONFIG => [op | ssec | ssv | ssid | sid, 0],
        PREFETCH_ADDR => [op | ssec | ssv | ssid | sid | 1 << 9 | 1 << 8, u64::MAX],
        CFGI_STE => [op | ssec | sid, 1],
        CFGI_STE_RANGE => [op | ssec | sid, 0x1f],
        CFGI_CD => [op | ssec | ssid | sid, 1],
        CFGI_CD_ALL => [op | ssec | sid, 0],
        TLBI_NH_ALL | TLBI_S12_VMALL => [op | vmid, 0],
        TLBI_NH_ASID => [op | vmid | asid, 0],
        TLBI_NH_VA => by_address(vmid | asid),
        TLBI_NH_VAA => by_address(vmid),
        TLBI_EL2_ALL | TLBI_NSNH_ALL => [op, 0],
        TLBI_EL2_ASID => [op | asid, 0],
        TLBI_EL2_VA => by_address(asid),
        TLBI_EL2_VAA => by_address(0),
        TLBI_S2_IPA => [op | num_scale | vmid, keep(u64::MAX, 55, 12) | tg_ttl | 1],
        ATC_INV => [op | ssec | ssv | 1 << 9 | ssid | sid, keep(u64::MAX, 63, 12) | 0x3f],
        PRI_RESP => [op | ssec | ssv | ssid | sid, 0x31ff],
        RESUME => [op | ssec | 0x3000 | sid, 0xffff],
        STALL_TERM => [op | ssec | sid, 0],
        SYNC => [op | 0x3000 | 0x00c0_0000 | 0x0f00_0000 | sid, keep(u64::MAX, 55, 2)],
        _ => return None,
    })
}
