//! The actions of a host, its devices and its hardware, and their encoding as bytes.
//!
//! Every action is a record of six bytes: its kind and up to five arguments. So an input stays valid when the fuzzer
//! moves, repeats or joins parts of inputs. New kinds come last: the corpus stores their index.

/// Bytes of an action.
const RECORD: usize = 6;
/// Maximum number of actions in a run, so that a run takes milliseconds.
const MAX_ACTIONS: usize = 512;

macro_rules! actions {
    ($($(#[doc = $what:literal])* $name:ident $([$($argument:ident),*])?;)*) => {
        /// An action. Arguments are indices of the tables in `value`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "arguments of the same kind have the same name")]
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
    /// Loads from a register.
    Load [frame, at, size];
    /// Stores to a register, repeated until the store is complete, or not repeated if bit 7 of `frame` is set.
    Store [frame, at, size, value, low];
    /// Writes a command to the command queue.
    Command [what, device, event, lpi, icid];
    /// Changes one word of the last command.
    Forge [its, word, shift, byte];
    /// Writes many commands to the command queue and submits them. The bits of `step` select the numbers that are
    /// incremented.
    Many [what, device, event, count, step];
    /// Writes GITS_CWRITER with `how` added. If `times` is not zero, it is the maximum number of stores.
    Post [its, how, times];
    /// Writes a configuration byte.
    Configure [lpi, byte];
    /// Donates a page of the host. With bit 7 of `page` all pages are returned to the host.
    Donate [page];
    /// Sets up an ITS as Linux does.
    StartIts [its];
    /// Sets up a CPU as Linux does.
    StartCpu [cpu];
    /// Writes GITS_CTLR.Enabled.
    EnableIts [its, on];
    /// Writes EnableLPIs and DPG of GICR_CTLR.
    EnableLpis [cpu, on];
    /// A device raises interrupts.
    Raise [its, device, event, count];
    /// Makes another CPU change each word of the host's memory right after EL2 has read it, or stops this.
    Race [on];
    /// Makes a redistributor lose its state. With bit 0 of `how`, its base registers hold fewer address bits afterwards.
    LosePower [cpu, how];
    /// Makes hardware fail in the way `what`, after the number `after` of commands.
    Fail [what, after];
    /// Limits EL2's pool to `left` more allocations; 255 removes the limit.
    Pool [left];
    /// Lowers EL2's limit of memory for devices.
    Limit [to];
    /// Makes the GIC quiescent, as EL2 does before power-off.
    Quiesce;
    /// Makes an ITS lose its registers while a CPU is off, and then turns the CPU on. With bit 0 of `how`, firmware has
    /// enabled the ITS.
    Wake [its, cpu, how];
}

/// A run: its machine and its actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of the machine.
    pub machine: u8,
    /// Seed of the random choices of hardware.
    pub seed: u8,
    /// The actions.
    pub actions: Vec<Action>,
}

impl Run {
    /// Decodes a run and ignores an incomplete action at the end.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let (head, rest) = bytes.split_at(bytes.len().min(2));
        let at = |n: usize| head.get(n).copied().unwrap_or(0);
        let (records, _) = rest.as_chunks::<RECORD>();
        let actions = records.iter().take(MAX_ACTIONS).map(|record| Action::decode(*record)).collect();
        Self { machine: at(0), seed: at(1), actions }
    }

    /// Encodes the run.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let records = self.actions.iter().flat_map(|action| action.encode());
        [self.machine, self.seed].into_iter().chain(records).collect()
    }
}
