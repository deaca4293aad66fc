//! EL2's UART: configuration, also after the host used it, and transmission with bounded waits.

pub mod ns16550;

use crate::backlog::for_each_byte;
use arm_pl011_uart::{DataBits, LineConfig, Parity, StopBits, Uart, UniqueMmioPointer};
use core::fmt::{self, Write};
use ns16550::Ns16550;
use safe_mmio::{field, fields::ReadPureWrite};

/// Maximum polls of a full transmitter before a byte is dropped: much longer than one byte takes at any baud rate.
const TX_POLLS: u32 = 100_000;
/// UARTCLK if firmware set no divisor, as under an emulator; emulators ignore the value.
const UARTCLK: u32 = 24_000_000;
/// Bits per second.
const BAUD: u32 = 115_200;

/// The smallest valid divisor of a PL011, in units of 1/64 (DDI 0183, 3.3.6).
const DIVISOR_MIN: u32 = 64;
/// Offsets of the two registers with a PL011's divisor: whole, and 1/64 (DDI 0183, 3.3.5 and 3.3.6).
pub const DIVISOR: [u64; 2] = [0x24, 0x28];

/// Offset of [`Modes`] from the base of a PL011.
pub const MODES: u64 = 0x48;

/// Registers that redirect a PL011's bytes and are not in its driver (DDI 0183 issue G, 3.3.14 and 4.4.2). Zero after
/// reset.
#[repr(C)]
pub struct Modes {
    /// `UARTDMACR`: TXDMAE and RXDMAE connect the FIFOs to a DMA controller.
    dmacr: ReadPureWrite<u32>,
    _reserved: [u32; 13],
    /// `UARTTCR`: with ITEN a register controls the pins, TESTFIFO swaps the FIFOs, SIRTEST is for infrared.
    tcr: ReadPureWrite<u32>,
}

/// A UART that EL2 drives.
pub enum Driver<'a> {
    /// A PL011.
    Pl011 {
        /// Its driver.
        uart: Uart<'a>,
        /// Its registers at [`MODES`].
        modes: UniqueMmioPointer<'a, Modes>,
        /// Firmware's divisor, in 1/64; 0 if firmware set none.
        divisor: u32,
    },
    /// The data and flag registers of a PL011 (SBSA generic UART, DEN0029 appendix): EL2 configures nothing in it.
    Sbsa(Uart<'a>),
    /// A 16550.
    Ns16550(Ns16550<'a>),
}

impl Driver<'_> {
    fn start(&mut self) {
        match self {
            Self::Pl011 { uart, modes, divisor } => {
                field!(*modes, dmacr).write(0);
                field!(*modes, tcr).write(0);
                let config = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
                // With these two the driver computes firmware's divisor.
                let (baud, clock) = if *divisor >= DIVISOR_MIN { (4, *divisor) } else { (BAUD, UARTCLK) };
                // With an invalid divisor the UART keeps firmware's settings, and still prints.
                let _ = uart.enable(config, baud, clock);
            }
            Self::Sbsa(_) => {}
            Self::Ns16550(uart) => uart.start(),
        }
    }

    fn is_busy(&mut self) -> bool {
        match self {
            Self::Pl011 { uart, .. } | Self::Sbsa(uart) => uart.is_busy(),
            Self::Ns16550(uart) => uart.is_busy(),
        }
    }

    fn is_full(&mut self) -> bool {
        match self {
            Self::Pl011 { uart, .. } | Self::Sbsa(uart) => uart.is_tx_fifo_full(),
            Self::Ns16550(uart) => uart.is_full(),
        }
    }

    fn send(&mut self, byte: u8) {
        match self {
            Self::Pl011 { uart, .. } | Self::Sbsa(uart) => uart.write_word(byte),
            Self::Ns16550(uart) => uart.send(byte),
        }
    }
}

/// The UART, if there is one.
pub struct Port<'a> {
    driver: Option<Driver<'a>>,
    /// The transmitter timed out: each byte is tried only once until one succeeds.
    timed_out: bool,
    dropped: u64,
}

impl<'a> Port<'a> {
    /// Uses a UART as it is.
    #[must_use]
    pub const fn new(driver: Option<Driver<'a>>) -> Self {
        Self { driver, timed_out: false, dropped: 0 }
    }

    /// Sets the UART up: firmware's speed, 8 bits, no parity, 1 stop bit, no flow control, no loopback, no DMA, no test
    /// mode, FIFOs on.
    pub fn start(&mut self) {
        if let Some(driver) = &mut self.driver {
            driver.start();
        }
    }

    /// Reconfigures the UART after the host used it. Waits until it is idle, as required (DDI 0183, UARTCR), but not
    /// longer than the time of one byte: the host may have disabled it with bytes in the FIFO.
    pub fn restart(&mut self) {
        if let Some(driver) = &mut self.driver {
            let _ = (0..TX_POLLS).find(|_| idle(driver.is_busy()));
            driver.start();
        }
        self.timed_out = false;
    }

    /// Sends `byte`, or drops it after a bounded wait.
    pub fn put(&mut self, byte: u8) {
        let Some(driver) = &mut self.driver else { return };
        let polls = if self.timed_out { 1 } else { TX_POLLS };
        if (0..polls).any(|_| idle(driver.is_full())) {
            driver.send(byte);
            self.timed_out = false;
        } else {
            self.timed_out = true;
            self.dropped = self.dropped.wrapping_add(1);
        }
    }

    /// Sends `byte` if the transmitter has room; returns whether it had. Without a UART there is always room.
    pub fn try_put(&mut self, byte: u8) -> bool {
        let Some(driver) = &mut self.driver else { return true };
        if driver.is_full() {
            return false;
        }
        driver.send(byte);
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
        let divisor = registers[IBRD] << 6 | registers[FBRD];
        let registers: &mut PL011Registers = transmute_mut!(registers);
        let uart = Uart::new(UniqueMmioPointer::from(registers));
        Port::new(Some(Driver::Pl011 { uart, modes: UniqueMmioPointer::from(modes), divisor }))
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
    fn t57_a_pl011_that_the_host_reconfigured_is_set_up_again() {
        let mut fresh = [0; 1024];
        port(&mut fresh).start();
        let set_up = |registers: &[u32; 1024]| [CR, LCR_H, IBRD, FBRD].map(|n| registers[n]);
        // 8 bits and FIFOs; UARTEN, TXE, RXE; 13 and 1/64 for 115,200 baud at 24 MHz.
        assert_eq!(set_up(&fresh), [0x301, 0x70, 13, 1]);
        // Off; loopback; both flow controls; each with a break, 5 bits, two stop bits and even parity; sending, or
        // full.
        for (cr, fr) in [(0, 0), (0x381, 0), (0xc301, BUSY), (0, BUSY | TXFF)] {
            let mut registers = [0; 1024];
            for (n, value) in [(CR, cr), (FR, fr), (LCR_H, 0xf), (IBRD, 1), (FBRD, 63)] {
                registers[n] = value;
            }
            let mut modes = modes(0, 0);
            let mut port = port_with(&mut registers, &mut modes);
            if let Some(Driver::Pl011 { divisor, .. }) = &mut port.driver {
                // Firmware's settings.
                *divisor = 13 << 6 | 1;
            }
            port.restart();
            assert_eq!(set_up(&registers), set_up(&fresh), "CR {cr:#x}, FR {fr:#x}");
        }
    }

    #[test]
    fn firmwares_divisor_is_kept() {
        let mut registers = [0; 1024];
        (registers[IBRD], registers[FBRD]) = (27, 9);
        port(&mut registers).start();
        assert_eq!((registers[IBRD], registers[FBRD]), (27, 9));
    }

    #[test]
    fn t57_the_wait_for_a_full_transmitter_happens_once() {
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
    fn a_carriage_return_is_sent_before_each_line_feed() {
        let mut registers = [0; 1024];
        assert!(port(&mut registers).try_put(b'x'));
        assert_eq!(registers[0], u32::from(b'x'));
        assert_eq!(write!(port(&mut registers), "a\n"), Ok(()));
        assert_eq!(registers[0], u32::from(b'\n'));
        assert!(Port::new(None).try_put(b'x'), "without a UART there is no wait");
    }
}
