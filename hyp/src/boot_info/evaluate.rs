//! All decisions about a device tree, in the order of a boot, without its effects: for tools and tests
//! on the build machine.

use super::error::BootError;
use super::layout::{self, Layout, Request};
use super::plan;
use super::platform::Platform;
use super::policy::MmioPolicy;

/// The decisions of EL2 about a machine.
#[derive(Clone, Debug)]
pub struct Evaluated<'a> {
    /// The machine.
    pub platform: Platform<'a>,
    /// The owners of registers.
    pub policy: MmioPolicy,
    /// The owners of memory.
    pub layout: Layout,
}

/// Evaluates the machine that `dtb` describes; [`plan::check`] has passed when it returns a plan.
///
/// # Errors
/// The reason for which a boot with this tree and `request` is refused.
pub fn evaluate<'a>(dtb: &'a [u8], request: &Request<'_>) -> Result<Evaluated<'a>, BootError<'a>> {
    decide(Platform::parse(dtb)?, request)
}

/// The same for a machine whose policy module has this content.
///
/// # Errors
/// As [`evaluate`], and for a rule that cannot be followed.
pub fn evaluate_with_policy<'a>(
    dtb: &'a [u8],
    content: &'a [u8],
    request: &Request<'_>,
) -> Result<Evaluated<'a>, BootError<'a>> {
    let mut platform = Platform::parse(dtb)?;
    platform.read_rules(content)?;
    decide(platform, request)
}

fn decide<'a>(platform: Platform<'a>, request: &Request<'_>) -> Result<Evaluated<'a>, BootError<'a>> {
    let policy = MmioPolicy::decide(&platform)?;
    let layout = layout::plan(&platform, request)?;
    plan::check(&platform, &policy, &layout)?;
    Ok(Evaluated { platform, policy, layout })
}
