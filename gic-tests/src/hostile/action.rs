//! What a host, its devices and its hardware can do, and the byte string that says it.
//!
//! Every action is a record of six bytes: its kind and up to five arguments. So an input stays sensible when the fuzzer
//! moves, repeats or joins parts of inputs. New kinds come last: the corpus stores their index.

/// Bytes of an action.
const RECORD: usize = 6;
/// Actions of a run at most, so that a run takes milliseconds.
const MAX_ACTIONS: usize = 512;

macro_rules! actions {
    ($($(#[doc = $what:literal])* $name:ident $([$($argument:ident),*])?;)*) => {
        /// An action. Arguments are indices of the tables in `value`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "arguments of one kind have one name")]
        pub enum Action {
            $($(#[doc = $what])* $name { $($($argument: u8),*)? },)*
        }

        #[derive(Clone, Copy)]
        enum Kind {
            $($name,)*
        }

        const KINDS: &[Kind] = &[$(Kind::$name),*];

        impl Action {
            fn decode(bytes: [u8; RECORD]) -> Self {
                let [kind, arguments @ ..] = bytes;
                let mut arguments = arguments.into_iter();
                let mut _next = || arguments.next().unwrap_or(0);
                match KINDS[usize::from(kind) % KINDS.len()] {
                    $(Kind::$name => Self::$name { $($($argument: _next()),*)? },)*
                }
            }

            fn encode(self) -> [u8; RECORD] {
                let (kind, arguments): (Kind, &[u8]) = match &self {
                    $(Self::$name { $($($argument),*)? } => (Kind::$name, &[$($(*$argument),*)?]),)*
                };
                let mut bytes = [0; RECORD];
                bytes[0] = kind as u8;
                bytes[1..=arguments.len()].copy_from_slice(arguments);
                bytes
            }
        }
    };
}

actions! {
    /// A load.
    Load [frame, at, size];
    /// A store, repeated until it is complete, unless bit 7 of `frame` is set: then it is given up.
    Store [frame, at, size, value, low];
    /// A command into the ring.
    Command [what, device, event, lpi, icid];
    /// One word of the last command becomes another.
    Forge [its, word, shift, byte];
    /// Many commands into the ring, with numbers that count up as the bits of `step` say, and their submission.
    Many [what, device, event, count, step];
    /// GITS_CWRITER is written: `how` is added, and unless `times` is zero the store is repeated that often at most.
    Post [its, how, times];
    /// A configuration byte.
    Configure [lpi, byte];
    /// A page changes its owner: bit 7 of `page` takes all of them back.
    Donate [page];
    /// Linux sets up an ITS.
    StartIts [its];
    /// Linux sets up a CPU.
    StartCpu [cpu];
    /// GITS_CTLR.Enabled.
    EnableIts [its, on];
    /// GICR_CTLR: EnableLPIs and DPG.
    EnableLpis [cpu, on];
    /// A device raises interrupts.
    Raise [its, device, event, count];
    /// Another CPU changes each word of the host's memory right after EL2 has read it, or does not.
    Race [on];
    /// A redistributor loses its state; with bit 0 of `how` it keeps less of an address from then on.
    LosePower [cpu, how];
    /// Hardware fails: what, and after how many commands.
    Fail [what, after];
    /// EL2's pool has room for so many allocations more, 255 for any number.
    Pool [left];
    /// EL2's limit of memory for devices is lowered.
    Limit [to];
    /// EL2 makes the GIC quiet, as before power-off.
    Quiesce;
    /// An ITS loses its registers while a CPU is off, which wakes then. With bit 0 of `how` firmware has switched the
    /// ITS on.
    Wake [its, cpu, how];
}

/// A run: machine and actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which of the machines.
    pub machine: u8,
    /// Seed of hardware's choices.
    pub seed: u8,
    /// The actions.
    pub actions: Vec<Action>,
}

impl Run {
    /// Decodes a run; an incomplete action at the end is left out.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let (head, rest) = bytes.split_at(bytes.len().min(2));
        let at = |n: usize| head.get(n).copied().unwrap_or(0);
        let (records, _) = rest.as_chunks::<RECORD>();
        let actions = records.iter().take(MAX_ACTIONS).map(|record| Action::decode(*record)).collect();
        Self { machine: at(0), seed: at(1), actions }
    }

    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let records = self.actions.iter().flat_map(|action| action.encode());
        [self.machine, self.seed].into_iter().chain(records).collect()
    }
}
