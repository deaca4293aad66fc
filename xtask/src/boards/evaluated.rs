//! EL2's decision about one board.

use hyp::boot_info::policy::Verdict;
use hyp::boot_info::{
    Evaluated, PhysRange, Request, evaluate as evaluate_tree, evaluate_with_policy, image::HEADER_SIZE,
};

use super::fill::{Author, Filled, SMMU, fill};

/// The part of memory that EL2 uses for its tables, and its other memory, as in a boot.
const POOL_SHIFT: u32 = 7;
const POOL_MIN: u64 = 16 << 20;

/// The result that a boot on a board would have.
pub(super) struct Outcome {
    /// The result of an accepted board, or the message of the refusal.
    pub(super) verdict: Result<Accepted, String>,
    /// The tree has an SMMUv3, enabled or not.
    pub(super) smmu: bool,
    /// What a boot loader must add.
    pub(super) notes: Vec<String>,
}

/// The result of an accepted board.
pub(super) struct Accepted {
    pub(super) memory: u64,
    pub(super) smmus: Vec<String>,
    pub(super) console: String,
    pub(super) given: Vec<(String, String)>,
    pub(super) withheld: Vec<(String, String)>,
    /// Rules of the author that match no device.
    pub(super) unused: Vec<String>,
}

impl Outcome {
    /// The result in one line.
    pub(super) fn line(&self) -> String {
        match &self.verdict {
            Ok(board) => format!(
                "accepted: {} MiB, {} SMMUs, {}, {} devices given, {} withheld",
                board.memory >> 20,
                board.smmus.len(),
                board.console,
                board.given.len(),
                board.withheld.len(),
            ),
            Err(why) => format!("refused: {why}"),
        }
    }
}

/// Runs EL2's decisions for the board with the device tree `dtb` and the author's options and rules.
pub(super) fn evaluate(dtb: &[u8], author: Author<'_>) -> Outcome {
    let smmu = dtb.windows(SMMU.len()).any(|window| window == SMMU);
    match fill(dtb, author) {
        Ok(filled) => {
            let verdict = with_plan(&filled, accepted);
            Outcome { verdict, smmu, notes: filled.notes }
        }
        Err(error) => Outcome { verdict: Err(format!("{error:#}")), smmu, notes: Vec::new() },
    }
}

/// Calls `with` with the finished plan for `filled`.
///
/// # Errors
/// The message of a refusal.
pub(super) fn with_plan<T>(filled: &Filled, with: impl FnOnce(&Filled, &Evaluated<'_>) -> T) -> Result<T, String> {
    let header = kernel_header(filled.kernel.size());
    let request = Request {
        image: filled.image,
        dtb: filled.dtb_at,
        pool_size: (filled.memory >> POOL_SHIFT) + POOL_MIN,
        record: PhysRange::default(),
        kernel_header: Some(&header),
    };
    let evaluated = match &filled.policy {
        Some(content) => evaluate_with_policy(&filled.dtb, content, &request),
        None => evaluate_tree(&filled.dtb, &request),
    };
    match evaluated {
        Ok(evaluated) => Ok(with(filled, &evaluated)),
        Err(error) => Err(error.to_string()),
    }
}

fn accepted(_: &Filled, evaluated: &Evaluated<'_>) -> Accepted {
    let platform = &evaluated.platform;
    let mut given = Vec::new();
    let mut withheld = Vec::new();
    for decision in evaluated.policy.decisions() {
        let line = (platform.path(decision.node).to_string(), evaluated.policy.shown(platform, decision).to_string());
        match decision.verdict {
            Verdict::Given(_) => given.push(line),
            Verdict::Withheld(_) => withheld.push(line),
            Verdict::Emulated => {}
        }
    }
    let smmus = platform.smmus.iter().map(|smmu| platform.path(smmu.node).to_string()).collect();
    let console = match (platform.uarts.el2, platform.uarts.host) {
        (Some(uart), _) => format!("console {}", platform.path(uart.node)),
        (None, Some(uart)) => format!("console {} shared with the host", platform.path(uart.node)),
        (None, None) => "no console".to_owned(),
    };
    let unused = evaluated.policy.unused_rules(platform);
    let unused = unused.map(|rule| format!("line {}: no device is '{}'", rule.line, rule.compatible)).collect();
    Accepted { memory: platform.memory.ram.total(), smmus, console, given, withheld, unused }
}

/// The header of an arm64 Image that needs `size` bytes.
fn kernel_header(size: u64) -> [u8; HEADER_SIZE] {
    let mut header = [0; HEADER_SIZE];
    for (slot, value) in [(16, size.to_le_bytes()), (24, 0b1010u64.to_le_bytes())] {
        header.iter_mut().skip(slot).zip(value).for_each(|(byte, new)| *byte = new);
    }
    header.iter_mut().skip(56).zip(*b"ARM\x64").for_each(|(byte, new)| *byte = new);
    header
}
