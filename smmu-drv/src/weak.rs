//! Defences of the driver that tests switch off one at a time, to show that each is what stops its attacks.
//!
//! A test that passes with a defence gone tests nothing. So `cargo xtask threats` runs the attacks without the defence that
//! is to stop them too, and fails unless they land or are caught. All of it is built with the feature `weakened` alone, which
//! nothing turns on but tests: elsewhere `weakened!` is nothing, and [`Platform`](crate::Platform) has no such method.

/// Code for a defence that the platform says is switched off; nothing at all without the feature `weakened`.
macro_rules! weakened {
    ($platform:expr, $weakness:ident, $code:block) => {
        #[cfg(feature = "weakened")]
        {
            if $crate::platform::Platform::lacks($platform, $crate::weak::Weakness::$weakness) $code
        }
    };
}
pub(crate) use weakened;

#[cfg(feature = "weakened")]
macro_rules! weaknesses {
    ($($name:ident $word:literal $rows:literal $what:literal;)*) => {
        /// A defence that can be switched off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Weakness {
            $(#[doc = concat!($what, ". ", $rows, ".")] $name,)*
        }

        impl Weakness {
            /// Every one: its word in options, the rows of the attack catalogue that it serves, and what is missing.
            pub const ALL: &'static [(Self, &'static str, &'static str, &'static str)] =
                &[$((Self::$name, $word, $rows, $what),)*];
        }
    };
}

#[cfg(feature = "weakened")]
weaknesses! {
    TakeOverThroughOff "take-over" "T08" "take-over switches the SMMU off without making GBPA abort first";
    ResetUnseen "reset" "T09" "an SMMU that lost its registers is not noticed";
    OffIsBypass "off" "T07" "a disabled SMMU and a bypass entry become a real bypass (2-level tables)";
    HostEntries "entries" "T16 T17 T20" "the host's entries go to hardware as the host wrote them";
    EntriesTwice "entries-twice" "T15" "an entry is fetched again after it was checked";
    EntryOrder "entry-order" "T17" "an entry on its way to another is a bypass instead of an abort";
    SpanUnchecked "span" "T18" "a level-1 descriptor may span more than its table";
    TableKept "table-kept" "T41" "the geometry of the first stream table is kept for good";
    FreedEarly "freed-early" "T41" "a level-2 table is freed before hardware has forgotten it";
    NoMemoryOpens "no-memory" "T35" "streams without memory for their table get stage 2 alone instead of nothing";
    CommandsTwice "commands-twice" "T14" "a command is fetched again after it was checked, and goes to hardware as it is then";
    CommandsRaw "commands" "T22 T23 T48" "commands go to hardware as the host wrote them, illegal ones too";
    NoRecovery "recovery" "T14" "an error of EL2's own queue is not recovered from";
    SyncForgiven "sync" "T47" "an SMMU that does not complete a CMD_SYNC is taken to have done so";
    IndexUnmasked "index" "T24" "CMDQ_PROD is not cut to the queue's size";
    NoBudget "budget" "T19 T25" "a trap may work as long as it likes";
    MsiForwarded "msi" "T10" "the completion of a CMD_SYNC by store is hardware's, to any address";
    IrqCfgObeyed "irq-cfg" "T11" "events are announced by a store to the host's EVENTQ_IRQ_CFG0";
    ClaimsKept "claims-kept" "T27" "a queue that is switched off keeps its claim";
    Cr0Unfiltered "cr0" "T28" "the host's CR0 goes to hardware, reserved bits and all";
    RegistersRaw "registers" "T29" "every store to a register goes to hardware as well";
    HiddenForwarded "hidden" "T33" "registers that the host must not see are hardware's";
    AtsUnchecked "ats" "T28 T32" "Translated transactions are not checked";
    StallAllowed "stall" "T59" "the host may have transactions stalled";
    EventsKept "events" "T43" "hardware's event queue is never drained";
    QuiesceSkipped "quiesce" "T39" "streams go on when the machine stops";
}
