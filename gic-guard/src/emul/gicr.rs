//! The registers of a redistributor's RD and VLPI frames that the host sees: a register without a row is RAZ/WI. The
//! host accesses the SGI frame directly.

use crate::spec::gicr as reg;

host_access::register_table! {
    Ctlr reg::CTLR, Bits32, "EnableLPIs as written, CES, DPG; RWP and UWP of hardware", "EnableLPIs: a change maps or unmaps events; DPG is written to hardware";
    Iidr reg::IIDR, Bits32, "hardware", "ignored";
    Typer reg::TYPER, Bits64, "allow-listed fields", "ignored";
    Statusr reg::STATUSR, Bits32, "zero", "ignored";
    Waker reg::WAKER, Bits32, "ProcessorSleep and ChildrenAsleep of hardware", "ProcessorSleep is written to hardware";
    Propbaser reg::PROPBASER, Bits64, "last written", "stored while EnableLPIs is 0; never reaches hardware";
    Pendbaser reg::PENDBASER, Bits64, "last written, PTZ as zero", "stored while EnableLPIs is 0; never reaches hardware";
    Pidr2 reg::PIDR2, Bits32, "hardware", "ignored";
    Vpropbaser reg::VPROPBASER, Bits64, "zero", "ignored";
    Vpendbaser reg::VPENDBASER, Bits64, "zero", "ignored";
}
