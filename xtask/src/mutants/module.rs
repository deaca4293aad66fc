//! The modules whose mutants are tested, and their files.

/// A group of source files whose mutants are tested together.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Module {
    /// Checks of the host's commands and fields
    Policy,
    /// Command, event and error queues, EL2's and the host's
    Queue,
    /// Stream table entries
    Ste,
    /// Probe and take-over
    TakeOver,
    /// Register emulation
    Emulation,
    /// shadow-s2
    ShadowS2,
    /// Ownership of pages, and its changes
    Ownership,
    /// gic-guard
    GicGuard,
}

impl Module {
    pub(super) const ALL: [Self; 8] = [
        Self::Policy,
        Self::Ste,
        Self::Queue,
        Self::TakeOver,
        Self::Emulation,
        Self::ShadowS2,
        Self::Ownership,
        Self::GicGuard,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Queue => "queue",
            Self::Ste => "ste",
            Self::TakeOver => "take-over",
            Self::Emulation => "emulation",
            Self::ShadowS2 => "shadow-s2",
            Self::Ownership => "ownership",
            Self::GicGuard => "gic-guard",
        }
    }

    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Policy | Self::Queue | Self::Ste | Self::TakeOver | Self::Emulation => "smmu-drv",
            Self::ShadowS2 => "shadow-s2",
            Self::Ownership => "mem-protect",
            Self::GicGuard => "gic-guard",
        }
    }

    /// The package with the tests on a model.
    pub(super) fn model_tests(self) -> &'static str {
        match self {
            Self::Policy
            | Self::Queue
            | Self::Ste
            | Self::TakeOver
            | Self::Emulation
            | Self::ShadowS2
            | Self::Ownership => "model-tests",
            Self::GicGuard => "gic-tests",
        }
    }

    /// The files of the module as globs; no file is in two modules.
    pub(super) fn files(self) -> &'static [&'static str] {
        match self {
            Self::Policy => &[
                "smmu-drv/src/command.rs",
                "smmu-drv/src/smmu/emul/policy.rs",
                "smmu-drv/src/smmu/emul/command.rs",
                "smmu-drv/src/smmu/emul/convert.rs",
                "smmu-drv/src/smmu/emul/table.rs",
                "smmu-drv/src/smmu/emul/ids.rs",
            ],
            Self::Queue => &[
                "smmu-drv/src/smmu/index.rs",
                "smmu-drv/src/smmu/device/el2_cmdq.rs",
                "smmu-drv/src/smmu/device/el2_eventq.rs",
                "smmu-drv/src/smmu/emul/host_cmdq.rs",
                "smmu-drv/src/smmu/emul/completion.rs",
                "smmu-drv/src/smmu/emul/queue.rs",
                "smmu-drv/src/smmu/emul/host_eventq.rs",
                "smmu-drv/src/smmu/emul/gerror.rs",
                "smmu-drv/src/smmu/device/drain.rs",
                "smmu-drv/src/smmu/log.rs",
            ],
            Self::Ste => &[
                "smmu-drv/src/smmu/shadow/mod.rs",
                "smmu-drv/src/smmu/shadow/slots.rs",
                "smmu-drv/src/smmu/shadow/refresh.rs",
                "smmu-drv/src/smmu/stream.rs",
                "smmu-drv/src/smmu/emul/fetch.rs",
                "smmu-drv/src/smmu/shadow/change.rs",
                "smmu-drv/src/smmu/emul/strtab.rs",
                "smmu-drv/src/smmu/shadow/audit.rs",
                "smmu-drv/src/smmu/shadow/entry.rs",
                "smmu-drv/src/smmu/shadow/link.rs",
                "smmu-drv/src/smmu/shadow/owners.rs",
                "smmu-drv/src/smmu/shadow/assign.rs",
                "smmu-drv/src/smmu/streams.rs",
            ],
            Self::TakeOver => &[
                "smmu-drv/src/smmu/probe.rs",
                "smmu-drv/src/limits.rs",
                "smmu-drv/src/smmu/storage.rs",
                "smmu-drv/src/smmu/memory.rs",
                "smmu-drv/src/smmu/device/program.rs",
                "smmu-drv/src/smmu/device/mod.rs",
                "smmu-drv/src/stage2.rs",
                "smmu-drv/src/features.rs",
                "smmu-drv/src/smmu/device/hw.rs",
            ],
            Self::Emulation => &[
                "smmu-drv/src/smmu/emul/mod.rs",
                "smmu-drv/src/smmu/emul/registers.rs",
                "smmu-drv/src/smmu/emul/regs.rs",
                "smmu-drv/src/smmu/emul/sharing.rs",
                "smmu-drv/src/smmu/emul/cr0.rs",
                "smmu-drv/src/smmu/emul/audit.rs",
                "smmu-drv/src/smmu/emul/access.rs",
                "smmu-drv/src/smmu/emul/source.rs",
                "smmu-drv/src/smmu/hosted.rs",
                "smmu-drv/src/smmu.rs",
                "smmu-drv/src/smmu/access.rs",
                "smmu-drv/src/smmu/execute.rs",
                "smmu-drv/src/smmu/budget.rs",
                "smmu-drv/src/smmu/ste.rs",
                "smmu-drv/src/smmu/device/invalidate.rs",
            ],
            Self::ShadowS2 => &["shadow-s2/src/*.rs"],
            Self::Ownership => &["mem-protect/src/*.rs"],
            Self::GicGuard => &["gic-guard/src/**/*.rs"],
        }
    }
}
