//! The decisions about the machine's devices at boot, and their lines in the boot log. The policy itself is in
//! `hyp::boot_info`.

use crate::arch::Conduit;
use crate::exit::refuse;
use crate::{devices, gic, log};
use hyp::boot_info::pci::Upstream;
use hyp::boot_info::{MmioPolicy, Platform, policy};
use hyp::pci::fixed_buses::BusNumberError;

/// `GICD_TYPER.LPIS` (Arm IHI 0069, H.b).
const GICD_TYPER_LPIS: u32 = 1 << 17;

/// The decisions about every node of the machine. Ends the boot if one of them is impossible.
///
/// They are repeated if the bus numbers of a PCI host require that it is withheld.
pub fn decide(platform: &mut Platform<'_>) -> MmioPolicy {
    let policy = once(platform);
    if check_numbers(platform, &policy) { once(platform) } else { policy }
}

fn once(platform: &Platform<'_>) -> MmioPolicy {
    MmioPolicy::decide(platform).unwrap_or_else(|error| refuse(format_args!("{error}"), Conduit::Smc))
}

/// Refuses to boot if a bus has a number that SMMUs do not cover. Returns whether a PCI host must be withheld because
/// its bridges have no bus numbers yet, which the host could then not set.
fn check_numbers(platform: &mut Platform<'_>, policy: &MmioPolicy) -> bool {
    let tree = platform.tree;
    let mut withhold = false;
    for host in platform.pci.iter_mut().filter(|host| !policy.is_withheld(host.node)) {
        let path = tree.path(host.node);
        match devices::check_numbers(host) {
            Ok(()) => continue,
            Err(Some(BusNumberError::Outside(rid))) => refuse(
                format_args!(
                    "{path}: the buses of bridge {rid} are behind no SMMU, or function {rid} has virtual functions: \
                     remove it, or disable them in the firmware's setup"
                ),
                Conduit::Smc,
            ),
            Err(Some(BusNumberError::Unnumbered(rid))) => log!("{path}: bridge {rid} has no bus numbers"),
            Err(None) => log!(
                "{path}: EL2 cannot use its configuration space: it is above 512 GiB or incomplete, or another node can \
                 switch the PCI host off"
            ),
        }
        host.upstream = Upstream::Partly;
        withhold = true;
    }
    withhold
}

/// Prints the decision about each node with registers, and its reason.
pub fn announce(platform: &Platform<'_>, policy: &MmioPolicy) {
    if platform.uarts.el2.is_none() && platform.uarts.host.is_some() {
        log!("WARNING: one UART only: this console is shared with the host, which can block it and forge lines");
    }
    for (n, smmu) in platform.smmus.iter().enumerate() {
        if let Some(why) = smmu.interrupts.absent {
            log!("smmu{n}: EL2 does not raise an interrupt of {}: {why}", platform.path(smmu.node));
        }
    }
    for decision in policy.decisions() {
        let path = platform.path(decision.node);
        match decision.verdict {
            policy::Verdict::Given(_) => log!("given: {path}: {}", policy.shown(platform, decision)),
            policy::Verdict::Emulated if cfg!(feature = "no-isolation") => {
                log!("given: {path}: SMMU, used by the host directly")
            }
            policy::Verdict::Emulated => log!("emulated: {path}: {}", decision.verdict),
            policy::Verdict::Withheld(_) => log!("withheld: {path}: {}", policy.shown(platform, decision)),
        }
    }
    for rule in policy.unused_rules(platform) {
        log!("policy: line {}: no device of this machine is '{}'", rule.line, rule.compatible);
    }
}

/// Prints which parts of the interrupt controller access memory without stage 2.
pub fn announce_not_isolated(platform: &Platform<'_>) {
    for frame in platform.gic.its.iter() {
        log!(
            "not isolated: {}: ITS: it uses tables at the host's addresses, without stage 2",
            platform.path(frame.node)
        );
    }
    if gic::typer() & GICD_TYPER_LPIS != 0 {
        log!(
            "not isolated: {}: redistributors: they use LPI tables at the host's addresses, without stage 2",
            platform.path(platform.gic.node)
        );
    }
}
