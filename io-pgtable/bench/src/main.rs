//! Measures io-pgtable against other page-table crates on the same workloads, in one run.
//!
//! Repeats are interleaved (every subject once, then again) and figures are medians. Absolute times are printed for
//! orientation only; targets are for ratios, instruction counts (`--insns`, under valgrind) and counts of TLB
//! maintenance.

mod arena;
mod floor;
mod insns;
mod ours;
mod peers;
mod report;
mod subject;
mod workload;

use std::collections::BTreeMap;
use std::process::ExitCode;

use floor::Floor;
use io_pgtable::{G4K, G16K, G64K, S1, S2};
use ours::{Ours, Table};
use peers::{Ax, Generic, Paging};
use report::{Figure, Report, median};
use subject::Subject;
use workload::{Sample, Workload, run};

const HELP: &str = "\
Measures io-pgtable against other page-table crates.

usage: pgtable-bench [--repeats N] [--insns] [--only WORKLOAD] [--bits 40|48] [--json FILE]

  --repeats N      interleaved repeats, at least 11 for a figure to be quoted (default 11)
  --insns          count instructions under valgrind as well (slower; needs valgrind)
  --only WORKLOAD  one row only; `--only list` lists them
  --bits B         input size of the tables (default: 40, and 48 for comparison)
  --json FILE      write the figures as one flat JSON object

Exit code 0 when every figure meets its target, 3 when some do not, 2 on bad arguments.";

/// Results of one subject in one row.
#[derive(Default)]
struct Row {
    ns: Vec<f64>,
    last: Option<Sample>,
}

type Rows = BTreeMap<&'static str, Row>;

fn sample<S: Subject>(rows: &mut Rows, workload: Workload, bits: u32) {
    if workload.possible::<S>() {
        let sample = run::<S>(workload, bits);
        let row = rows.entry(S::NAME).or_default();
        row.ns.push(sample.ns_per_op());
        row.last = Some(sample);
    }
}

/// A prime number of subjects, so that every stride visits each subject once.
const SUBJECTS: [fn(&mut Rows, Workload, u32); 5] =
    [sample::<Floor>, sample::<Ours>, sample::<Ax>, sample::<Generic>, sample::<Paging>];

fn measure(workload: Workload, bits: u32, repeats: usize) -> Rows {
    let mut rows = Rows::new();
    // The first round fills caches and page tables of the machine itself; its results are discarded.
    for round in 0..=repeats {
        if round == 1 {
            rows.clear();
        }
        // Each round has another order, so that one subject's cache content does not always affect the same other
        // subject.
        for turn in 0..SUBJECTS.len() {
            SUBJECTS[(round + turn * (1 + round % 4)) % SUBJECTS.len()](&mut rows, workload, bits);
        }
    }
    rows
}

/// Runs one workload of one subject, for callgrind.
pub(crate) fn run_one(subject: &str, workload: Workload, bits: u32) -> Option<Sample> {
    match subject {
        Ours::NAME => Some(run::<Ours>(workload, bits)),
        Ax::NAME => Some(run::<Ax>(workload, bits)),
        Generic::NAME => Some(run::<Generic>(workload, bits)),
        Paging::NAME => Some(run::<Paging>(workload, bits)),
        Floor::NAME => Some(run::<Floor>(workload, bits)),
        "s1_4k" => Some(run::<Table<S1<G4K>>>(workload, bits)),
        "s2_16k" => Some(run::<Table<S2<G16K>>>(workload, bits)),
        "s2_64k" => Some(run::<Table<S2<G64K>>>(workload, bits)),
        _ => None,
    }
}

struct Options {
    repeats: usize,
    insns: bool,
    only: Option<Workload>,
    bits: Vec<u32>,
    json: Option<String>,
    child: Option<(String, Workload, u32)>,
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut options = Options { repeats: 11, insns: false, only: None, bits: vec![40, 48], json: None, child: None };
    let mut args = args.iter();
    let workload = |name: &str| {
        Workload::from_name(name).ok_or_else(|| {
            let names: Vec<&str> = Workload::ALL.into_iter().map(Workload::name).collect();
            format!("workloads: {}", names.join(" "))
        })
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--repeats" => options.repeats = value()?.parse().map_err(|_| "--repeats needs a number".to_owned())?,
            "--insns" => options.insns = true,
            "--only" => options.only = Some(workload(value()?)?),
            "--bits" => options.bits = vec![value()?.parse().map_err(|_| "--bits needs 40 or 48".to_owned())?],
            "--json" => options.json = Some(value()?.clone()),
            "--child" => {
                let (subject, name) = (value()?.clone(), value()?.clone());
                let bits = value()?.parse().map_err(|_| "bits".to_owned())?;
                options.child = Some((subject, workload(&name)?, bits));
            }
            "--help" | "-h" => return Err(HELP.to_owned()),
            _ => return Err(format!("unknown argument {arg}\n\n{HELP}")),
        }
    }
    if options.bits.iter().any(|bits| !matches!(bits, 40 | 48)) {
        return Err("--bits needs 40 or 48".to_owned());
    }
    Ok(options)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options = match parse(&args) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    arena::init();
    if let Some((subject, workload, bits)) = &options.child {
        let sample = run_one(subject, *workload, *bits);
        let Some(sample) = sample else { return ExitCode::from(2) };
        println!("{}", sample.ops);
        return ExitCode::SUCCESS;
    }
    let mut report = Report::default();
    // The ratio of this machine to the machine of Linux's figures: the same crate on the same row.
    let scale =
        median(&mut measure(Workload::Map4kEach, 40, options.repeats).remove(Ax::NAME).unwrap_or_default().ns) / 5.76;
    for &bits in &options.bits {
        println!(
            "\n{bits}-bit stage 2, 4K granule; ns per operation, medians of {} interleaved repeats",
            options.repeats
        );
        println!(
            "{:<14}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}  {:>7} {:>7}  TLBI/sync per call",
            "", "floor", "ours", "ax", "generic", "paging", "linux*", "ratio", "target"
        );
        for workload in Workload::ALL.into_iter().filter(|&w| options.only.is_none_or(|only| only == w)) {
            row(&mut report, workload, bits, &options, scale);
        }
    }
    if options.only.is_none() {
        variants(&mut report, &options);
    }
    println!(
        "* Linux 7.3 or 6.1 (the faster), scaled from another machine by the ax row of map4k_each: for orientation."
    );
    let pages = workload::table_pages::<Ours>();
    let kib = pages as f64 * 4.0 + 8.0;
    println!("tables for 1 GiB of 4K pages: {kib} KiB, root included; side data for counters: 0");
    report.add(
        "pgtable.table_kib.1g_4k".to_owned(),
        Figure {
            value: kib,
            unit: "KiB",
            target: Some(2060.0),
            peer: None,
            note: "counters lie in ignored bits of table descriptors: 0 bytes of side data".to_owned(),
        },
    );
    if let Some(path) = &options.json
        && let Err(error) = std::fs::write(path, report.json())
    {
        eprintln!("cannot write {path}: {error}");
        return ExitCode::FAILURE;
    }
    let missed = report.missed();
    if missed.is_empty() {
        println!("every target is met");
        return ExitCode::SUCCESS;
    }
    println!("missed: {}", missed.join(" "));
    ExitCode::from(3)
}

/// Stage 1 and the larger granules: no peer has all of them, so they are compared with the 4K stage 2 of the same run.
fn variants(report: &mut Report, options: &Options) {
    println!("\n48-bit, other regimes and granules; ns per operation (instructions with --insns)");
    println!("{:<14}{:>16}{:>16}{:>16}{:>16}", "", "stage 2 4K", "stage 1 4K", "stage 2 16K", "stage 2 64K");
    for workload in Workload::ALL {
        let mut rows = Rows::new();
        for one in [
            sample::<Ours> as fn(&mut Rows, Workload, u32),
            sample::<Table<S1<G4K>>>,
            sample::<Table<S2<G16K>>>,
            sample::<Table<S2<G64K>>>,
        ] {
            (0..=options.repeats).for_each(|_| one(&mut rows, workload, 48));
        }
        arena::divide(0x1000);
        print!("{:<14}", workload.name());
        for name in [Ours::NAME, "s1_4k", "s2_16k", "s2_64k"] {
            let Some(row) = rows.get_mut(name) else { continue };
            let ns = median(&mut row.ns);
            let insns = if options.insns { insns::per_op(name, workload, 48) } else { None };
            print!("{:>16}", insns.map_or(format!("{ns:.2}"), |insns| format!("{ns:.2} ({insns:.1})")));
            if name != Ours::NAME {
                let note = insns.map_or(String::new(), |insns| format!("{insns:.2} instructions"));
                let figure = Figure { value: ns, unit: "ns", target: None, peer: None, note };
                report.add(format!("pgtable.{}.ns.{name}", workload.name()), figure);
            }
        }
        println!();
    }
}

fn row(report: &mut Report, workload: Workload, bits: u32, options: &Options, scale: f64) {
    let rows = measure(workload, bits, options.repeats);
    let middle = |name: &str| rows.get(name).map(|row| median(&mut row.ns.clone()));
    let (floor, ours) = (middle(Floor::NAME).unwrap_or(f64::NAN), middle(Ours::NAME).unwrap_or(f64::NAN));
    let crates = [middle(Ax::NAME), middle(Generic::NAME), middle(Paging::NAME)];
    let target = workload.target();
    let linux = target.linux_ns.map(|ns| ns * scale);
    let live = workload.peers();
    let peer_rows: Vec<&Row> = live.iter().filter_map(|name| rows.get(name)).collect();
    let best_crate = live
        .iter()
        .filter_map(|name| rows.get(name))
        .map(|row| median(&mut row.ns.clone()))
        .fold(f64::INFINITY, f64::min);
    // The ratio within each round, so that other load of the machine affects both sides; then the median.
    let own = rows.get(Ours::NAME).map_or(&[] as &[f64], |row| &row.ns);
    let best_of_round =
        |i: usize| peer_rows.iter().filter_map(|row| row.ns.get(i)).copied().fold(f64::INFINITY, f64::min);
    let ratio = median(&mut own.iter().enumerate().map(|(i, ns)| ns / best_of_round(i)).collect::<Vec<_>>());
    let least = |row: &Row| row.ns.iter().copied().fold(f64::INFINITY, f64::min);
    let quiet = rows.get(Ours::NAME).map_or(f64::NAN, least)
        / peer_rows.iter().map(|row| least(row)).fold(f64::INFINITY, f64::min);
    let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let sample = rows.get(Ours::NAME).and_then(|row| row.last);
    let (tlbi, syncs) = sample.map_or((0, 0), |sample| (sample.tlbi, sample.syncs));
    println!(
        "{:<14}{floor:>8.2}{ours:>9.2}{:>9}{:>9}{:>9}{:>9}  {ratio:>7.3} {quiet:>7.3} {:>7.2}  {tlbi}/{syncs} in {} ops",
        workload.name(),
        show(crates[0]),
        show(crates[1]),
        show(crates[2]),
        show(linux),
        target.ratio,
        sample.map_or(0, |sample| sample.ops),
    );
    let suffix = if bits == 40 { String::new() } else { format!(".{bits}bit") };
    let name = |what: &str| format!("pgtable.{}.{what}{suffix}", workload.name());
    let linux_note =
        linux.map_or("refused by Linux".to_owned(), |ns| format!("Linux scaled {ns:.2} ns: ratio {:.3}", ours / ns));
    report.add(
        name("ratio"),
        Figure {
            value: ratio,
            unit: "ratio",
            target: Some(target.ratio),
            peer: Some(1.0),
            note: format!(
                "{ours:.3} ns per op, best crate {best_crate:.3}; ratio of the best rounds {quiet:.3}; {linux_note}"
            ),
        },
    );
    report.add(
        name("floor_ratio"),
        Figure {
            value: ours / floor,
            unit: "ratio",
            target: None,
            peer: Some(best_crate / floor),
            note: format!("floor {floor:.3} ns"),
        },
    );
    report.add(name("tlb"), tlb(tlbi, syncs));
    if options.insns {
        instructions(report, workload, bits, name("insns"));
    }
}

/// TLB maintenance of an operation.
fn tlb(tlbi: u64, syncs: u64) -> Figure {
    Figure {
        value: tlbi.max(syncs) as f64,
        unit: "count",
        target: None,
        peer: None,
        note: format!("{tlbi} TLBI, {syncs} sync"),
    }
}

/// Counts the instructions of an operation, and reports them as `name`.
fn instructions(report: &mut Report, workload: Workload, bits: u32, name: String) {
    let (live, target) = (workload.peers(), workload.target());
    let count = |subject: &str| insns::per_op(subject, workload, bits);
    let ours = count(Ours::NAME);
    let best = live.iter().filter_map(|subject| count(subject)).fold(f64::INFINITY, f64::min);
    if let Some(ours) = ours {
        println!("{:<14}{ours:>17.1} instructions, best crate {best:.1}, target {}", "", target.insns);
        let figure = Figure {
            value: ours,
            unit: "instructions",
            target: Some(target.insns),
            peer: Some(best),
            note: String::new(),
        };
        report.add(name, figure);
    }
}
