//! EL2's PL011: configuration, also after the host used it, and transmission with bounded waits.

use crate::backlog::for_each_byte;
use arm_pl011_uart::{DataBits, LineConfig, Parity, StopBits, Uart, UniqueMmioPointer};
use core::fmt::{self, Write};
use safe_mmio::{field, fields::ReadPureWrite};

/// Maximum polls of a full transmitter before a byte is dropped: much longer than one byte takes at any baud rate.
const TX_POLLS: u32 = 100_000;
/// UARTCLK; only for the divisor, which emulated UARTs ignore.
const UARTCLK: u32 = 24_000_000;
/// Bits per second.
const BAUD: u32 = 115_200;

/// Offset of [`Modes`] from the base of a PL011.
pub const MODES: u64 = 0x48;

/// Registers that redirect a PL011's bytes and are not in its driver (DDI 0183 issue G, 3.3.14 and 4.4.2). Zero after reset.
#[repr(C)]
pub struct Modes {
    /// `UARTDMACR`: TXDMAE and RXDMAE connect the FIFOs to a DMA controller.
    dmacr: ReadPureWrite<u32>,
    _reserved: [u32; 13],
    /// `UARTTCR`: with ITEN a register controls the pins, TESTFIFO swaps the FIFOs, SIRTEST is for infrared.
    tcr: ReadPureWrite<u32>,
}

/// The UART, if there is one.
pub struct Port<'a> {
    uart: Option<(Uart<'a>, UniqueMmioPointer<'a, Modes>)>,
    /// Whether the transmitter timed out: each byte is then tried only once until one succeeds.
    timed_out: bool,
    dropped: u64,
}

impl<'a> Port<'a> {
    /// Uses `uart` without changing its configuration; the second pointer is to its registers at [`MODES`].
    #[must_use]
    pub const fn new(uart: Option<(Uart<'a>, UniqueMmioPointer<'a, Modes>)>) -> Self {
        Self { uart, timed_out: false, dropped: 0 }
    }

    /// Sets the UART up: 115,200 baud, 8 bits, no parity, 1 stop bit, no flow control, no loopback, no DMA, no test mode, FIFOs on.
    pub fn start(&mut self) {
        let Some((uart, modes)) = &mut self.uart else { return };
        field!(*modes, dmacr).write(0);
        field!(*modes, tcr).write(0);
        let config = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
        // With an invalid divisor the UART keeps firmware's configuration, which still prints.
        let _ = uart.enable(config, BAUD, UARTCLK);
    }

    /// Reconfigures the UART after the host used it. Waits until it is idle, as required (DDI 0183, UARTCR), but not
    /// longer than the time of one byte: the host may have disabled it with bytes in the FIFO.
    pub fn restart(&mut self) {
        if let Some((uart, _)) = &self.uart {
            let _ = (0..TX_POLLS).find(|_| idle(uart.is_busy()));
        }
        self.start();
        self.timed_out = false;
    }

    /// Sends `byte`, or drops it after a bounded wait.
    pub fn put(&mut self, byte: u8) {
        let Some((uart, _)) = &mut self.uart else { return };
        let polls = if self.timed_out { 1 } else { TX_POLLS };
        if (0..polls).any(|_| idle(uart.is_tx_fifo_full())) {
            uart.write_word(byte);
            self.timed_out = false;
        } else {
            self.timed_out = true;
            self.dropped = self.dropped.wrapping_add(1);
        }
    }

    /// Sends `byte` if the transmitter has room; returns whether it had.
    pub fn try_put(&mut self, byte: u8) -> bool {
        let Some((uart, _)) = self.uart.as_mut().filter(|(uart, _)| !uart.is_tx_fifo_full()) else { return false };
        uart.write_word(byte);
        true
    }

    /// Number of dropped bytes.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Waits briefly until the UART is ready.
fn idle(pending: bool) -> bool {
    if pending {
        core::hint::spin_loop();
    }
    !pending
}

impl Write for Port<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for_each_byte(text, |byte| self.put(byte));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arm_pl011_uart::PL011Registers;
    use zerocopy::transmute_mut;

    /// Words of a PL011's register page (DDI 0183).
    const FR: usize = 0x18 / 4;
    const IBRD: usize = 0x24 / 4;
    const FBRD: usize = 0x28 / 4;
    const LCR_H: usize = 0x2c / 4;
    const CR: usize = 0x30 / 4;
    const BUSY: u32 = 1 << 3;
    const TXFF: u32 = 1 << 5;

    fn port(registers: &mut [u32; 1024]) -> Port<'_> {
        port_with(registers, std::boxed::Box::leak(std::boxed::Box::new(modes(0, 0))))
    }

    fn port_with<'a>(registers: &'a mut [u32; 1024], modes: &'a mut Modes) -> Port<'a> {
        let registers: &mut PL011Registers = transmute_mut!(registers);
        Port::new(Some((Uart::new(UniqueMmioPointer::from(registers)), UniqueMmioPointer::from(modes))))
    }

    fn modes(dmacr: u32, tcr: u32) -> Modes {
        Modes { dmacr: ReadPureWrite(dmacr), _reserved: [0; 13], tcr: ReadPureWrite(tcr) }
    }

    /// UARTDMACR is at 0x048, UARTTCR at 0x080.
    #[test]
    fn t57_a_uart_in_test_mode_or_under_dma_transmits_again() {
        assert_eq!(MODES + core::mem::offset_of!(Modes, tcr) as u64, 0x80);
        // TXDMAE, RXDMAE and DMAONERR; ITEN, TESTFIFO and SIRTEST.
        for (dmacr, tcr) in [(0b111, 0), (0, 0b111), (0b111, 0b111)] {
            let mut registers = [0; 1024];
            let mut modes = modes(dmacr, tcr);
            port_with(&mut registers, &mut modes).restart();
            assert_eq!((modes.dmacr.0, modes.tcr.0), (0, 0));
        }
    }

    #[test]
    fn t57_whatever_a_host_did_to_the_uart_it_is_set_up_again() {
        let mut fresh = [0; 1024];
        port(&mut fresh).start();
        let set_up = |registers: &[u32; 1024]| [CR, LCR_H, IBRD, FBRD].map(|n| registers[n]);
        // 8 bits and FIFOs; UARTEN, TXE, RXE; 13 and 1/64 for 115,200 baud at 24 MHz.
        assert_eq!(set_up(&fresh), [0x301, 0x70, 13, 1]);
        // Off; loopback; both flow controls; each with a break, 5 bits, two stop bits and even parity; sending, or full.
        for (cr, fr) in [(0, 0), (0x381, 0), (0xc301, BUSY), (0, BUSY | TXFF)] {
            let mut registers = [0; 1024];
            for (n, value) in [(CR, cr), (FR, fr), (LCR_H, 0xf), (IBRD, 1), (FBRD, 63)] {
                registers[n] = value;
            }
            port(&mut registers).restart();
            assert_eq!(set_up(&registers), set_up(&fresh), "CR {cr:#x}, FR {fr:#x}");
        }
    }

    #[test]
    fn t57_a_full_transmitter_is_waited_for_once() {
        let mut registers = [0; 1024];
        registers[FR] = TXFF;
        let mut port = port(&mut registers);
        assert!(!port.try_put(b'x'));
        assert_eq!(writeln!(port, "ab"), Ok(()));
        assert_eq!((port.dropped(), port.timed_out), (4, true));
        port.restart();
        assert!(!port.timed_out);
    }

    #[test]
    fn bytes_leave_with_a_carriage_return_before_each_line_feed() {
        let mut registers = [0; 1024];
        assert!(port(&mut registers).try_put(b'x'));
        assert_eq!(registers[0], u32::from(b'x'));
        assert_eq!(write!(port(&mut registers), "a\n"), Ok(()));
        assert_eq!(registers[0], u32::from(b'\n'));
        assert!(!Port::new(None).try_put(b'x'));
    }
}
