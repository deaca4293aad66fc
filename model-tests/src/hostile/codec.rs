//! Byte encoding of runs, for the fuzzer, the property tests and the committed corpus.
//!
//! Two bytes select the machine and the seed. Then the actions follow, each with one byte for its kind and the bytes
//! of its fields. The kinds depend on the [`ActionSet`], so that each fuzz target covers its own part.

use arbitrary::{Result, Unstructured};
use mem_protect::Transition;
use smmu_drv::AccessSize;

use super::action::{Action, Cmd, Entry, Fault, NO_RANGE, Request, TRANSITIONS};
use super::action_set::{ActionSet, Kind};
use super::value::{Address, Half, Reg, SIDS, Value, pick};

/// A run: machine and actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of the machine.
    pub machine: u8,
    /// Seed of the hardware's choices.
    pub seed: u8,
    /// The actions.
    pub actions: Vec<Action>,
}

/// Maximum actions of one run, so that a run takes milliseconds.
const MAX_ACTIONS: usize = 2048;

impl Run {
    /// Decodes a run. Stops at an incomplete action.
    #[must_use]
    pub fn decode(set: ActionSet, bytes: &[u8]) -> Self {
        let mut u = Unstructured::new(bytes);
        let (machine, seed) = (byte(&mut u).unwrap_or(0), byte(&mut u).unwrap_or(0));
        let machine = set.machine(machine);
        let mut actions = Vec::new();
        while !u.is_empty() && actions.len() < MAX_ACTIONS {
            let before = u.len();
            let Ok(action) = Action::decode(set, &mut u) else { break };
            // Missing bytes would decode as zeroes: drop such an action.
            if u.is_empty() && before < encoded_len(set, action) {
                break;
            }
            actions.push(action);
        }
        Self { machine, seed, actions }
    }

    /// Encodes this run; actions that are not in the set are omitted.
    #[must_use]
    pub fn encode(&self, set: ActionSet) -> Vec<u8> {
        let mut out = vec![ActionSet::machine_byte(self.machine), self.seed];
        for action in &self.actions {
            action.encode(set, &mut out);
        }
        out
    }
}

fn encoded_len(set: ActionSet, action: Action) -> usize {
    let mut out = Vec::new();
    action.encode(set, &mut out);
    out.len()
}

fn byte(u: &mut Unstructured<'_>) -> Result<u8> {
    u.arbitrary()
}

/// Encoding of fields.
trait Field: Sized {
    fn take(u: &mut Unstructured<'_>) -> Result<Self>;
    fn put(&self, out: &mut Vec<u8>);
}

impl Field for u8 {
    fn take(u: &mut Unstructured<'_>) -> Result<Self> {
        byte(u)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
}

macro_rules! listed {
    ($($name:ident: $($value:expr),*;)*) => {
        $(impl Field for $name {
            fn take(u: &mut Unstructured<'_>) -> Result<Self> {
                Ok(pick(&[$($value),*], byte(u)?))
            }

            fn put(&self, out: &mut Vec<u8>) {
                let at = [$($value),*].iter().position(|value| value == self);
                out.push(at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0));
            }
        })*
    };
}

use AccessSize::{Byte, Double, Half as HalfWord, Word};

listed! {
    AccessSize: Word, Double, Word, Double, Word, Word, HalfWord, Byte;
    Request: Request::Write, Request::Read, Request::Translated, Request::Translation;
    Fault: Fault::NoMemory, Fault::MemoryRestored, Fault::NoTables, Fault::TablesRestored, Fault::PowerLoss,
        Fault::CommandError, Fault::EventAbort, Fault::SyncNever, Fault::Failure, Fault::Quiesce;
}

impl Field for Transition {
    fn take(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(pick(&TRANSITIONS, byte(u)?))
    }

    fn put(&self, out: &mut Vec<u8>) {
        let at = TRANSITIONS.iter().position(|kind| *kind == self.with(NO_RANGE, 0));
        out.push(at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0));
    }
}

impl Field for Address {
    fn take(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(Self { place: byte(u)?, word: u.arbitrary()? })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.place);
        out.extend(self.word.to_le_bytes());
    }
}

impl Field for Value {
    fn take(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match byte(u)? % 4 {
            0 => Self::Small(byte(u)?),
            1 => Self::Word(u.arbitrary()?),
            2 => Self::Wide(u.arbitrary()?),
            _ => Self::Pointer { to: Address::take(u)?, low: byte(u)?, top: byte(u)? },
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Small(value) => out.extend([0, *value]),
            Self::Word(value) => {
                out.push(1);
                out.extend(value.to_le_bytes());
            }
            Self::Wide(value) => {
                out.push(2);
                out.extend(value.to_le_bytes());
            }
            Self::Pointer { to, low, top } => {
                out.push(3);
                to.put(out);
                out.extend([*low, *top]);
            }
        }
    }
}

/// Bit of the first byte that selects a raw offset; bit 0 of that byte selects page 1.
const RAW: u8 = 0x80;
/// Bit of a row's byte that selects its second word.
const HIGH: u8 = 0x40;

impl Field for Reg {
    fn take(u: &mut Unstructured<'_>) -> Result<Self> {
        let tag = byte(u)?;
        if tag & RAW != 0 {
            let low: u16 = u.arbitrary()?;
            return Ok(Self::Raw(u32::from(tag & 1) << 16 | u32::from(low)));
        }
        let half = if tag & HIGH == 0 { Half::Low } else { Half::High };
        Ok(Self::Row { row: tag & (HIGH - 1), half })
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Row { row, half } => out.push(row & (HIGH - 1) | if *half == Half::High { HIGH } else { 0 }),
            Self::Raw(offset) => {
                let [low, high, page, _] = offset.to_le_bytes();
                out.extend([RAW | page & 1, low, high]);
            }
        }
    }
}

impl Field for Entry {
    fn take(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match byte(u)? % 6 {
            0 => Self::Invalid,
            1 => Self::Abort,
            2 => Self::Bypass,
            3 => Self::Stage1,
            4 => Self::Substreams { format: byte(u)?, log2: byte(u)?, default: byte(u)? },
            _ => Self::Words([Value::take(u)?, Value::take(u)?]),
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Invalid => out.push(0),
            Self::Abort => out.push(1),
            Self::Bypass => out.push(2),
            Self::Stage1 => out.push(3),
            Self::Substreams { format, log2, default } => out.extend([4, *format, *log2, *default]),
            Self::Words([first, second]) => {
                out.push(5);
                first.put(out);
                second.put(out);
            }
        }
    }
}

impl Field for Cmd {
    fn take(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match byte(u)? % 7 {
            0 => Self::Sync,
            1 => Self::SyncMsi { to: Value::take(u)?, data: byte(u)? },
            2 => Self::CfgiSte { sid: byte(u)?, leaf: byte(u)? },
            3 => Self::CfgiRange { sid: byte(u)?, range: byte(u)? },
            4 => Self::CfgiAll,
            5 => Self::NhAll,
            _ => Self::Any([Value::take(u)?, Value::take(u)?]),
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sync => out.push(0),
            Self::SyncMsi { to, data } => {
                out.push(1);
                to.put(out);
                out.push(*data);
            }
            Self::CfgiSte { sid, leaf } => out.extend([2, *sid, *leaf]),
            Self::CfgiRange { sid, range } => out.extend([3, *sid, *range]),
            Self::CfgiAll => out.push(4),
            Self::NhAll => out.push(5),
            Self::Any([first, second]) => {
                out.push(6);
                first.put(out);
                second.put(out);
            }
        }
    }
}

macro_rules! actions {
    ($($kind:ident { $($field:ident),* })*) => {
        impl Action {
            fn decode(set: ActionSet, u: &mut Unstructured<'_>) -> Result<Self> {
                Ok(match set.kind(byte(u)?) {
                    $(Kind::$kind => Self::$kind { $($field: Field::take(u)?),* },)*
                })
            }

            fn encode(&self, set: ActionSet, out: &mut Vec<u8>) {
                match self {
                    $(Self::$kind { $($field),* } => {
                        let Some(kind) = set.byte(Kind::$kind) else { return };
                        out.push(kind);
                        $($field.put(out);)*
                    })*
                }
            }
        }
    };
}

actions! {
    Read { smmu, at, size }
    Write { cpu, smmu, at, size, value }
    Resume { cpu }
    Abandon { cpu }
    Store { to, value }
    Race { at, value }
    Ste { smmu, sid, entry }
    Queue { smmu, cmd }
    WriteProd { cpu, smmu }
    Start { smmu, shape }
    Repair { smmu }
    Events { smmu }
    Context { ssid, table }
    Map { page, to }
    Transition { how, page, count }
    Dma { smmu, sid, ssid, request, iova }
    Time { steps }
    Interrupt { smmu }
    DropCaches {}
    Fault { smmu, what, arg }
    Record { smmu, kind, sid, ssid, syndrome, input, fetched }
    Damage { smmu, sid, word, bit }
    Fill { smmu, first, second, count }
    SteRange { smmu, entry, count }
    Level1 { smmu, to, span, count }
    ManyDma { smmu, sid, count }
    Assign { smmu, sid, count, guest }
    Block { smmu, sid, count }
    Release { smmu, sid, count }
    Retire { domain }
    GuestPage { guest, page, how }
}

impl Cmd {
    /// The two words of the command.
    #[must_use]
    pub fn words(self) -> [u64; 2] {
        match self {
            Self::Sync => [0x46, 0],
            Self::SyncMsi { to, data } => [1 << 12 | 0x46 | u64::from(data) << 32, to.get()],
            Self::CfgiSte { sid, leaf } => [u64::from(pick(&SIDS, sid)) << 32 | 3, u64::from(leaf & 1)],
            Self::CfgiRange { sid, range } => [u64::from(pick(&SIDS, sid)) << 32 | 4, u64::from(range & 31)],
            Self::CfgiAll => [4, 31],
            Self::NhAll => [0x10, 0],
            Self::Any([first, second]) => [first.get(), second.get()],
        }
    }
}
