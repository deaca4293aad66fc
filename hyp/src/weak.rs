//! Defences of EL2 that tests switch off one at a time, to show that each is what stops its attacks.
//!
//! `cargo xtask threats` builds an EL2 with the feature `weakened`, names a defence on its command line (`weaken=`),
//! and expects the attacks of the catalogue to land or to be caught there. Nothing else turns the feature on: without
//! it the option is unknown, and [`weakened!`](crate::weakened) is nothing.

/// Code for a defence that EL2's command line has switched off; nothing at all without the feature `weakened`.
#[macro_export]
macro_rules! weakened {
    ($weakness:ident, $code:block) => {
        #[cfg(feature = "weakened")]
        {
            if $crate::weak::lacks($crate::weak::Weakness::$weakness) $code
        }
    };
}

#[cfg(feature = "weakened")]
pub use switches::{Weakness, driver_lacks, lacks, switch_off};

#[cfg(test)]
pub(crate) mod for_tests {
    //! The unit tests of this crate without a defence: on the thread of the test alone.
    use std::cell::Cell;
    use std::panic::{RefUnwindSafe, catch_unwind};
    use std::string::String;
    use std::{println, thread_local};

    thread_local! {
        static MISSING: Cell<&'static str> = const { Cell::new("") };
    }

    /// Whether the running test lacks the defence that `word` names.
    #[cfg(feature = "weakened")]
    pub(crate) fn is_missing(word: &str) -> bool {
        !word.is_empty() && MISSING.get() == word
    }

    /// Runs `test` without a defence, where it has to fail, and then whole; only whole without the feature `weakened`.
    pub(crate) fn caught_without(word: &'static str, test: impl Fn() + RefUnwindSafe) {
        if cfg!(feature = "weakened") {
            MISSING.set(word);
            let end = catch_unwind(&test);
            MISSING.set("");
            let Err(payload) = end else { panic!("the test passes without {word}") };
            let text = payload.downcast_ref::<String>().map_or("an assertion failed", String::as_str);
            println!("attack run without its defence: {word}: {}", text.lines().next().unwrap_or_default());
        }
        test();
    }
}

#[cfg(feature = "weakened")]
mod switches {
    use core::sync::atomic::{AtomicU64, Ordering};
    use smmu_drv::weak::Weakness as Driver;

    macro_rules! weaknesses {
        ($($name:ident $word:literal $rows:literal $what:literal;)*) => {
            /// A defence of EL2 that can be switched off; those of the SMMU driver are [`smmu_drv::weak::Weakness`].
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Weakness {
                $(#[doc = concat!($what, ". ", $rows, ".")] $name,)*
            }

            /// Every one: its word in the option, and what is missing.
            const ALL: &[(Weakness, &str, &str)] = &[$((Weakness::$name, $word, $what),)*];
        };
    }

    weaknesses! {
        DmaMapsAll "dma-maps-all" "T01 T18 T20 T56" "the IOMMU's stage 2 maps all memory, EL2's too";
        DmaMapsMmio "dma-maps-mmio" "T06 T56" "the IOMMU's stage 2 maps every register below memory";
        DmaKeeps "dma-keeps" "T02 T03 T05 T26 T38 T51" "the IOMMU's stage 2 keeps what changes its owner";
        DmaStale "dma-stale" "T04 T46" "no SMMU is told what left its stage 2";
        CpuMapsAll "cpu-maps-all" "T01 T31 T39 T56" "the CPUs' stage 2 maps EL2's memory, and keeps what changes its owner";
        RegistersGiven "registers-given" "T40 T55 T57" "the host's CPUs get every register below memory but the SMMU's";
        ClaimsUnchecked "claims" "T12 T52" "EL2 reads and writes wherever the host points";
        ClaimsIgnored "claims-ignored" "T13" "a claimed page may change its owner";
        StatesUnchecked "states" "T36" "a transition does not look at who owns its pages";
        CallPanics "calls" "T37" "a hypercall that makes no sense ends EL2";
        NoMemoryPanics "no-memory-panics" "T35" "an empty pool ends EL2";
        NoSyndromePanics "no-syndrome" "T30" "an access that its syndrome does not describe ends EL2";
        NoFaultRetry "no-retry" "T49" "a fault while a block is split reaches the host, and a split takes its time";
        BlockLost "block" "T49" "what is beside a page that changes its owner is lost with it";
        EntriesUnchecked "entry-points" "T39" "a CPU may start or resume anywhere";
        FirmwareCalls "firmware-calls" "T54" "firmware calls that nobody knows succeed, as they may where firmware knows them";
        BootUnchecked "boot-unchecked" "T58" "nobody looks whether what was loaded lies in memory and apart";
        TrapsOff "traps" "T53" "implementation-defined registers are the host's";
    }

    /// EL2's own, and the driver's.
    static OFF: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

    fn off(set: usize, number: usize) -> bool {
        let bit = u32::try_from(number).ok().and_then(|number| 1_u64.checked_shl(number)).unwrap_or(0);
        OFF.get(set).is_some_and(|set| set.load(Ordering::Relaxed) & bit != 0)
    }

    fn switch(set: usize, number: usize) {
        let bit = u32::try_from(number).ok().and_then(|number| 1_u64.checked_shl(number)).unwrap_or(0);
        if let Some(set) = OFF.get(set) {
            set.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether this defence is switched off.
    #[must_use]
    pub fn lacks(weakness: Weakness) -> bool {
        #[cfg(test)]
        if super::for_tests::is_missing(ALL.iter().find(|(one, ..)| *one == weakness).map_or("", |(_, word, _)| word)) {
            return true;
        }
        ALL.iter().position(|(one, ..)| *one == weakness).is_some_and(|number| off(0, number))
    }

    /// Whether this defence of the driver is switched off.
    #[must_use]
    pub fn driver_lacks(weakness: Driver) -> bool {
        Driver::ALL.iter().position(|(one, ..)| *one == weakness).is_some_and(|number| off(1, number))
    }

    /// Switches the defence off that `word` names, for good, and tells what is missing then; `None` if there is none.
    pub fn switch_off(word: &str) -> Option<&'static str> {
        if let Some(number) = ALL.iter().position(|(_, name, _)| *name == word) {
            switch(0, number);
            return ALL.get(number).map(|(.., what)| *what);
        }
        let number = Driver::ALL.iter().position(|(_, name, ..)| *name == word)?;
        switch(1, number);
        Driver::ALL.get(number).map(|(.., what)| *what)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn words_are_unique_and_fit_the_sets() {
            let words = || ALL.iter().map(|(_, word, _)| *word).chain(Driver::ALL.iter().map(|(_, word, ..)| *word));
            assert!(words().all(|word| words().filter(|other| *other == word).count() == 1));
            assert!(ALL.len() <= 64 && Driver::ALL.len() <= 64);
        }

        #[test]
        fn a_word_switches_its_own_defence_off_and_no_other() {
            assert!(!lacks(Weakness::BlockLost) && !driver_lacks(Driver::NoRecovery));
            assert!(switch_off("recovery").is_some() && switch_off("nothing").is_none());
            assert!(!lacks(Weakness::BlockLost) && driver_lacks(Driver::NoRecovery) && !driver_lacks(Driver::NoBudget));
        }
    }
}
