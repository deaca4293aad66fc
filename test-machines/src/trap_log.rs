//! EL2's console output in each trap, from QEMU's own log (`-d int,trace:pl011_write`).

/// QEMU arguments for the log.
pub const QEMU_ARGS: [&str; 2] = ["-d", "int,trace:pl011_write"];

/// Number of bytes that EL2 sent in each trap of the host, in the order of `log`. Bytes before the host ran and after
/// the last return to the host are not counted: EL2 then waits for the transmitter.
#[must_use]
pub fn bytes_per_trap(log: &str) -> Vec<usize> {
    let mut traps = Vec::new();
    let mut bytes = None;
    for line in log.lines() {
        if line.contains("from EL1 to EL2") || line.contains("from EL0 to EL2") {
            bytes = Some(0);
        } else if line.starts_with("Exception return from AArch64 EL2 to ") {
            traps.extend(bytes.take());
        } else if line.starts_with("pl011_write addr 0x000 ") {
            // The data register.
            bytes = bytes.map(|count: usize| count.saturating_add(1));
        }
    }
    traps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_between_a_trap_and_its_return_are_counted() {
        let log = "pl011_write addr 0x000 value 0x0000000d reg DR\n\
                   Exception return from AArch64 EL2 to AArch64 EL1 PC 0x49000000\n\
                   pl011_write addr 0x000 value 0x00000041 reg DR\n\
                   Taking exception 11 [Hypervisor Call] on CPU 0\n\
                   ...from EL1 to EL2\n\
                   ...to EL2 PC 0x40201400 PSTATE 0x23c9\n\
                   pl011_write addr 0x000 value 0x00000041 reg DR\n\
                   pl011_write addr 0x030 value 0x00000301 reg CR\n\
                   pl011_write addr 0x000 value 0x00000042 reg DR\n\
                   Exception return from AArch64 EL2 to AArch64 EL1 PC 0x49000004\n\
                   ...from EL1 to EL2\n\
                   Exception return from AArch64 EL2 to AArch64 EL1 PC 0x49000008\n\
                   ...from EL1 to EL2\n\
                   pl011_write addr 0x000 value 0x00000042 reg DR\n";
        assert_eq!(bytes_per_trap(log), [2, 0]);
    }
}
