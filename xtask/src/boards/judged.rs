//! One board's verdict.

use hyp::boot_info::policy::Verdict;
use hyp::boot_info::{Judged, PhysRange, Request, image::HEADER_SIZE, judge as judge_tree};

use super::fill::{Filled, SMMU, fill};

/// Part of memory that EL2 takes for its tables, and what it takes besides: as a boot does.
const POOL_SHIFT: u32 = 7;
const POOL_MIN: u64 = 16 << 20;

/// What a boot on a board would end in.
pub(super) struct Outcome {
    /// What the board gets, or the message of the refusal.
    pub(super) verdict: Result<Accepted, String>,
    /// The tree has an SMMUv3, enabled or not.
    pub(super) smmu: bool,
    /// What a boot loader has to fill in.
    pub(super) notes: Vec<String>,
}

/// What an accepted board gets.
pub(super) struct Accepted {
    pub(super) memory: u64,
    pub(super) smmus: Vec<String>,
    pub(super) console: String,
    pub(super) given: Vec<(String, String)>,
    pub(super) withheld: Vec<(String, String)>,
}

impl Outcome {
    /// One line about it.
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

/// Judges the board whose device tree is `dtb`, with `options` on EL2's command line.
pub(super) fn judge(dtb: &[u8], options: &str) -> Outcome {
    let smmu = dtb.windows(SMMU.len()).any(|window| window == SMMU);
    match fill(dtb, options) {
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
pub(super) fn with_plan<T>(filled: &Filled, with: impl FnOnce(&Filled, &Judged<'_>) -> T) -> Result<T, String> {
    let header = kernel_header(filled.kernel.size());
    let request = Request {
        image: filled.image,
        dtb: filled.dtb_at,
        pool_size: (filled.memory >> POOL_SHIFT) + POOL_MIN,
        record: PhysRange::default(),
        kernel_header: Some(&header),
    };
    match judge_tree(&filled.dtb, &request) {
        Ok(judged) => Ok(with(filled, &judged)),
        Err(error) => Err(error.to_string()),
    }
}

fn accepted(_: &Filled, judged: &Judged<'_>) -> Accepted {
    let platform = &judged.platform;
    let mut given = Vec::new();
    let mut withheld = Vec::new();
    for decision in judged.policy.decisions() {
        let line = (platform.path(decision.node).to_string(), judged.policy.shown(platform, decision).to_string());
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
    Accepted { memory: platform.memory.ram.total(), smmus, console, given, withheld }
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
