//! The command line of the library: `reachable-panics --help`.

use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use reachable_panics::{Entry, find, list, stack};

const HELP: &str = "\
Lists the panics that an AArch64 image can still reach from given entry points

Usage: reachable-panics IMAGE.elf LINKER.map ENTRY... [--panic NAME]... [--list FILE [--fix]]
       reachable-panics IMAGE.elf LINKER.map --stack FUNCTION [--panic NAME]...

ENTRY is --vectors SYMBOL for the 16 exception vectors there, or --entry FUNCTION; it may repeat.
  --panic NAME  functions whose names begin with NAME are panics too
  --stack FUNCTION  prints how much stack FUNCTION needs, and the call path that needs most, instead
  --list FILE   compares with the committed list FILE, one `key: reason` a line; ends with 1 where they differ
  --fix         writes the list, with `REASON MISSING` at what is new";

/// The command line.
#[derive(Debug, Default)]
struct Args {
    files: Vec<String>,
    vectors: Vec<String>,
    functions: Vec<String>,
    panics: Vec<String>,
    stack: Option<String>,
    list: Option<String>,
    fix: bool,
}

impl Args {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut args = Self::default();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--vectors" => args.vectors.push(value()?),
                "--entry" => args.functions.push(value()?),
                "--panic" => args.panics.push(value()?),
                "--stack" => args.stack = Some(value()?),
                "--list" => args.list = Some(value()?),
                "--fix" => args.fix = true,
                option if option.starts_with('-') => bail!("unknown option {option}\n\n{HELP}"),
                _ => args.files.push(word),
            }
        }
        let named = !args.vectors.is_empty() || !args.functions.is_empty() || args.stack.is_some();
        ensure!(named, "name an entry point\n\n{HELP}");
        Ok(args)
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    let [elf, map] = args.files.as_slice() else { bail!("name an ELF file and a linker map\n\n{HELP}") };
    let elf = fs::read(elf).with_context(|| format!("cannot read {elf}"))?;
    let map = fs::read_to_string(map).with_context(|| format!("cannot read {map}"))?;
    let vectors = args.vectors.iter().map(|name| Entry::Vectors(name));
    let entries: Vec<Entry<'_>> = vectors.chain(args.functions.iter().map(|name| Entry::Function(name))).collect();
    let panics: Vec<&str> = args.panics.iter().map(String::as_str).collect();
    if let Some(function) = &args.stack {
        let deepest = stack::deepest(&elf, &map, function, &panics)?;
        for (name, bytes) in &deepest.path {
            println!("{bytes:6} {name}");
        }
        println!("{:6} bytes", deepest.bytes);
        return Ok(ExitCode::SUCCESS);
    }
    let found = find(&elf, &map, &entries, &panics)?;
    let Some(file) = &args.list else {
        for (key, path) in found.panics() {
            println!("{key}: {path}");
        }
        return Ok(ExitCode::SUCCESS);
    };
    let mut text = fs::read_to_string(file).unwrap_or_default();
    if args.fix {
        text = list::render(&text, found.panics().keys());
        fs::write(file, &text).with_context(|| format!("cannot write {file}"))?;
    }
    let wrong = list::compare(found.panics(), &list::parse(&text), file);
    for line in &wrong {
        eprintln!("{line}");
    }
    println!("{} panics in {} functions, {} to be checked", found.panics().len(), found.functions(), wrong.len());
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.is_empty() || words.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    Args::parse(words.into_iter()).and_then(|args| run(&args)).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_and_files_may_be_mixed() -> Result<()> {
        let args = parse("a.elf --vectors v a.map --entry f --entry g --panic p:: --list l --fix")?;
        assert_eq!(args.files, ["a.elf", "a.map"]);
        assert_eq!((args.vectors.len(), args.functions.len(), args.panics.len()), (1, 2, 1));
        assert!(args.list.as_deref() == Some("l") && args.fix);
        Ok(())
    }

    #[test]
    fn unknown_options_and_missing_values_and_entries_are_refused() {
        for line in ["a.elf a.map", "--entry", "--entry f --unknown"] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("a.elf --entry f").is_ok_and(|args| run(&args).is_err()));
    }
}
