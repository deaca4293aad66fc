//! The registers of an ITS that the host sees: a register without a row is RAZ/WI.

use crate::spec::gits as reg;

host_access::register_table! {
    Ctlr reg::CTLR, Bits32, "Enabled as written, Quiescent", "Enabled: refused without valid tables and queue; a change enables or disables the ITS";
    Iidr reg::IIDR, Bits32, "hardware", "ignored";
    Typer reg::TYPER, Bits64, "allow-listed fields", "ignored";
    Statusr reg::STATUSR, Bits32, "zero", "ignored";
    Cbaser reg::CBASER, Bits64, "last written", "stored while disabled, sets CREADR to zero; never reaches hardware";
    Cwriter reg::CWRITER, Bits64, "last written", "processes commands while enabled; ignored beyond the queue; Retry acts on a stall only";
    Creadr reg::CREADR, Bits64, "emulated", "ignored";
    Baser0 reg::BASER0, Bits64, "last written; Type and Entry_Size of hardware", "stored while disabled; never reaches hardware";
    Baser1 reg::BASER1, Bits64, "last written; Type and Entry_Size of hardware", "stored while disabled; never reaches hardware";
    Baser2 reg::BASER2, Bits64, "last written; Type and Entry_Size of hardware", "stored while disabled; never reaches hardware";
    Baser3 reg::BASER3, Bits64, "last written; Type and Entry_Size of hardware", "stored while disabled; never reaches hardware";
    Baser4 reg::BASER4, Bits64, "last written; Type and Entry_Size of hardware", "stored while disabled; never reaches hardware";
    Baser5 reg::BASER5, Bits64, "last written; Type and Entry_Size of hardware", "stored while disabled; never reaches hardware";
    Baser6 reg::BASER6, Bits64, "last written; Type and Entry_Size of hardware", "stored while disabled; never reaches hardware";
    Baser7 reg::BASER7, Bits64, "last written; Type and Entry_Size of hardware", "stored while disabled; never reaches hardware";
    Pidr2 reg::PIDR2, Bits32, "hardware", "ignored";
}

impl Register {
    /// The number of the GITS_BASER register, if it is one.
    pub(crate) const fn baser(self) -> Option<usize> {
        match self {
            Self::Baser0 => Some(0),
            Self::Baser1 => Some(1),
            Self::Baser2 => Some(2),
            Self::Baser3 => Some(3),
            Self::Baser4 => Some(4),
            Self::Baser5 => Some(5),
            Self::Baser6 => Some(6),
            Self::Baser7 => Some(7),
            Self::Ctlr
            | Self::Iidr
            | Self::Typer
            | Self::Statusr
            | Self::Cbaser
            | Self::Cwriter
            | Self::Creadr
            | Self::Pidr2 => None,
        }
    }
}
