//! Decisions by the rules of the board's author. A rule is about a kind of device, so it can match unexpected nodes. If
//! a rule would give a node that is a DMA master in the tree or withheld by the bindings, the boot is refused, as for
//! `allow=`.

use super::draft::Draft;
use super::nodes::{is_bus, is_unknown_bridge};
use super::{Verdict, Withheld};
use crate::boot_info::error::BootError;
use crate::boot_info::named::{Name, Named};
use crate::boot_info::platform::Platform;
use crate::boot_info::policy::Given;
use crate::boot_info::rules::{Rule, RuleRemedy, Rules};
use crate::boot_info::tree::NodeRef;

/// The rules of `platform`.
///
/// # Errors
/// [`BootError::Missing`] if there is a module and its content was not read: its `withhold` rules would be ignored.
pub(super) fn of<'a>(platform: &Platform<'a>) -> Result<Rules<'a>, BootError<'a>> {
    match (platform.modules().and_then(|modules| modules.policy), platform.rules) {
        (Some(_), None) => Err(BootError::Missing {
            what: "content of the policy module",
            remedy: "pass the policy module's content too (cargo xtask boards: --policy)",
        }),
        (_, rules) => Ok(rules.unwrap_or_default()),
    }
}

/// Whether `withhold=` can exclude `node`, with this decision, from a rule that would give it.
pub(super) fn excludes(platform: &Platform<'_>, node: &NodeRef<'_, '_>, verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Withheld(_)) && platform.rules.is_some_and(|rules| rules.giving(node).is_some())
}

/// The decision about `node` after the `withhold` rules; `verdict` is the decision before them.
///
/// # Errors
/// [`BootError::Rule`] if the host needs the node, or there is no decision about it.
pub(super) fn withheld<'a>(
    platform: &Platform<'a>,
    node: &NodeRef<'a, '_>,
    verdict: Option<Verdict>,
) -> Result<Option<Verdict>, BootError<'a>> {
    let Some(rule) = platform.rules.and_then(|rules| rules.withholding(node)) else { return Ok(verdict) };
    let refuse = |why| Err(refused(rule, node, why, RuleRemedy::Remove));
    match verdict {
        // The command line is for this machine, so it overrides a rule.
        Some(Verdict::Withheld(_) | Verdict::Given(Given::Allowed)) => Ok(verdict),
        Some(Verdict::Given(_)) if node.id == platform.gic.node => {
            refuse("it is the interrupt controller, without which the host cannot run")
        }
        Some(Verdict::Given(_)) => Ok(Some(Verdict::Withheld(Withheld::Rule { line: rule.line }))),
        Some(Verdict::Emulated) => refuse("it is an SMMU, whose registers the host never gets"),
        None if is_bus(node) => refuse("it is a bus, for which EL2 has no decision: name the devices on it"),
        None => Ok(None),
    }
}

fn refused<'a>(rule: Rule<'a>, node: &NodeRef<'a, '_>, why: &'static str, remedy: RuleRemedy) -> BootError<'a> {
    let Rule { line, kind, compatible, .. } = rule;
    BootError::Rule { line, kind, compatible, node: node.path(), why, other: None, remedy }
}

impl Draft {
    /// Checks that the host gets every node that a rule gives, and records the rules that match a node.
    ///
    /// # Errors
    /// [`BootError::Rule`] with the node, the reason, and the other node if there is one.
    pub(super) fn check_rules<'a>(&mut self, platform: &Platform<'a>, rules: Rules<'a>) -> Result<(), BootError<'a>> {
        if rules == Rules::default() {
            return Ok(());
        }
        platform.tree.walk(&mut |node| {
            let Some((at, verdict)) = self.verdict_at(node.id) else { return Ok(()) };
            if let Some(rule) = rules.withholding(node) {
                self.rule_used(rules, rule);
            }
            let Some(rule) = rules.giving(node) else { return Ok(()) };
            self.rule_used(rules, rule);
            let Some((why, remedy)) = refusal_of_rule(platform, node, verdict)? else { return Ok(()) };
            let mut error = refused(rule, node, why, remedy);
            if let BootError::Rule { other, .. } = &mut error {
                let node_of = |name| if let Name::Node(node) = name { Some(platform.path(node)) } else { None };
                let name = self.shares(at).or_else(|| self.withheld_above(at));
                *other = name.map(|name| Named { name, path: node_of(name) });
            }
            Err(error)
        })
    }

    fn rule_used(&mut self, rules: Rules<'_>, rule: Rule<'_>) {
        if let Some(number) = rules.iter().position(|other| other.line == rule.line) {
            self.use_rule(number);
        }
    }
}

/// The reason why EL2 refuses a rule that gives a node with this decision.
fn refusal_of_rule<'a>(
    platform: &Platform<'a>,
    node: &NodeRef<'a, '_>,
    verdict: Verdict,
) -> Result<Option<(&'static str, RuleRemedy)>, BootError<'a>> {
    let exclude = |why| Ok(Some((why, RuleRemedy::Exclude)));
    match verdict {
        Verdict::Emulated => Ok(Some(("it is an SMMU, which EL2 emulates", RuleRemedy::Remove))),
        Verdict::Given(Given::Rule { .. }) if node.value("device_type") == Some(b"pci\0") => {
            exclude("it is a PCI host, a DMA master behind no SMMU")
        }
        Verdict::Given(Given::Rule { .. }) if is_unknown_bridge(platform, node)? => {
            exclude("it is a bridge of a type that EL2 does not know, and may be a DMA master")
        }
        Verdict::Given(_) => Ok(None),
        // These decisions are about this node, so they override a rule about a kind of device.
        Verdict::Withheld(
            Withheld::Disabled | Withheld::El2Console | Withheld::CommandLine | Withheld::Rule { .. },
        ) => Ok(None),
        Verdict::Withheld(why) => exclude(why.text()),
    }
}
