//! A 16550 or a compatible UART, such as the DesignWare UART: transmission, with the speed that firmware set.

use safe_mmio::UniqueMmioPointer;
use safe_mmio::fields::ReadPureWrite;

/// Registers, by number: transmitter and low half of the divisor, interrupts and its high half, FIFO, line, modem,
/// status.
const THR: usize = 0;
const IER: usize = 1;
const FCR: usize = 2;
const LCR: usize = 3;
const MCR: usize = 4;
const LSR: usize = 5;
/// Number of registers in use.
const COUNT: usize = 6;
/// LCR: the first two registers are the divisor.
const DLAB: u8 = 1 << 7;
/// LCR: 8 bits, no parity, 1 stop bit.
const EIGHT_BITS: u8 = 3;
/// FCR: FIFOs on.
const FIFOS: u8 = 1;
/// MCR: ready to send and receive; no loopback.
const READY: u8 = 3;
/// LSR: the transmitter has room for a byte; it has sent all bytes.
const THRE: u8 = 1 << 5;
const TEMT: u8 = 1 << 6;

/// The registers, with the access width of `reg-io-width`.
pub enum Lanes<'a> {
    /// `reg-io-width` 1.
    Bytes(UniqueMmioPointer<'a, [ReadPureWrite<u8>]>),
    /// `reg-io-width` 4.
    Words(UniqueMmioPointer<'a, [ReadPureWrite<u32>]>),
}

/// The UART.
pub struct Ns16550<'a> {
    lanes: Lanes<'a>,
    /// Elements from one register to the next.
    stride: usize,
    /// Firmware's divisor, if it is known.
    divisor: Option<u16>,
}

impl<'a> Ns16550<'a> {
    /// Number of used elements of [`Lanes`], `stride` from one register to the next.
    #[must_use]
    pub const fn elements(stride: usize) -> usize {
        stride.saturating_mul(COUNT)
    }

    /// Uses the UART as it is. Its registers are `stride` elements apart; `divisor` is firmware's value, if it is
    /// known.
    #[must_use]
    pub const fn new(lanes: Lanes<'a>, stride: usize, divisor: Option<u16>) -> Self {
        Self { lanes, stride, divisor }
    }

    /// The current divisor. `None` if the UART does not show it, for example while it is sending.
    pub fn read_divisor(&mut self) -> Option<u16> {
        let line = self.read(LCR);
        self.write(LCR, line | DLAB);
        let shown = self.read(LCR) & DLAB != 0;
        let divisor = u16::from_le_bytes([self.read(THR), self.read(IER)]);
        self.write(LCR, line & !DLAB);
        Some(divisor).filter(|divisor| shown && *divisor != 0)
    }

    /// Sets the UART up: firmware's speed, 8 bits, no parity, 1 stop bit, FIFOs on, no interrupt, no loopback.
    pub fn start(&mut self) {
        if let Some([low, high]) = self.divisor.map(u16::to_le_bytes) {
            self.write(LCR, EIGHT_BITS | DLAB);
            self.write(THR, low);
            self.write(IER, high);
        }
        self.write(LCR, EIGHT_BITS);
        self.write(IER, 0);
        self.write(FCR, FIFOS);
        self.write(MCR, READY);
    }

    /// Whether it is still sending.
    pub fn is_busy(&mut self) -> bool {
        self.read(LSR) & TEMT == 0
    }

    /// Whether the transmitter is full.
    pub fn is_full(&mut self) -> bool {
        self.read(LSR) & THRE == 0
    }

    /// Sends a byte. Call it only after [`Ns16550::is_full`] returned false.
    pub fn send(&mut self, byte: u8) {
        self.write(THR, byte);
    }

    fn read(&mut self, register: usize) -> u8 {
        let at = self.stride.saturating_mul(register);
        match &mut self.lanes {
            Lanes::Bytes(lanes) => lanes.get(at).map_or(0, |lane| lane.read()),
            Lanes::Words(lanes) => {
                let [byte, ..] = lanes.get(at).map_or(0, |lane| lane.read()).to_le_bytes();
                byte
            }
        }
    }

    fn write(&mut self, register: usize, value: u8) {
        let at = self.stride.saturating_mul(register);
        match &mut self.lanes {
            Lanes::Bytes(lanes) => {
                if let Some(mut lane) = lanes.get(at) {
                    lane.write(value);
                }
            }
            Lanes::Words(lanes) => {
                if let Some(mut lane) = lanes.get(at) {
                    lane.write(value.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_up(registers: &mut [ReadPureWrite<u32>], divisor: Option<u16>) {
        Ns16550::new(Lanes::Words(UniqueMmioPointer::from(registers)), 1, divisor).start();
    }

    #[test]
    fn t57_a_16550_that_the_host_reconfigured_is_set_up_again() {
        let mut registers = [const { ReadPureWrite(0xff) }; COUNT];
        set_up(&mut registers, None);
        // Interrupts, FIFOs, line, modem.
        assert_eq!([1, 2, 3, 4].map(|n| registers[n].0), [0, 1, 3, 3]);
    }

    #[test]
    fn firmwares_divisor_is_read_and_kept() {
        let mut registers = [const { ReadPureWrite(0u8) }; COUNT * 4];
        (registers[0].0, registers[4].0) = (13, 1);
        let mut uart = Ns16550::new(Lanes::Bytes(UniqueMmioPointer::from(registers.as_mut_slice())), 4, None);
        assert_eq!(uart.read_divisor(), Some(0x10d));
        assert_eq!(registers[12].0 & DLAB, 0);
    }

    #[test]
    fn a_byte_is_sent_when_there_is_room() {
        let mut registers = [const { ReadPureWrite(0u32) }; COUNT];
        registers[LSR].0 = u32::from(THRE);
        let mut uart = Ns16550::new(Lanes::Words(UniqueMmioPointer::from(registers.as_mut_slice())), 1, None);
        assert!(!uart.is_full() && uart.is_busy());
        uart.send(b'x');
        assert_eq!(registers[THR].0, u32::from(b'x'));
    }
}
