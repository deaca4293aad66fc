//! Register offsets and fields [IHI 0070G 6.2, 6.3].

/// Offset of page 1 from page 0.
pub const PAGE1: u32 = 0x1_0000;

/// Identification registers.
pub const IDR0: u32 = 0x00;
/// See [`IDR0`].
pub const IDR1: u32 = 0x04;
/// See [`IDR0`].
pub const IDR2: u32 = 0x08;
/// See [`IDR0`].
pub const IDR3: u32 = 0x0c;
/// See [`IDR0`].
pub const IDR4: u32 = 0x10;
/// See [`IDR0`].
pub const IDR5: u32 = 0x14;
/// Implementer, product and revision.
pub const IIDR: u32 = 0x18;
/// Architecture revision.
pub const AIDR: u32 = 0x1c;
/// Enables.
pub const CR0: u32 = 0x20;
/// Acknowledges CR0.
pub const CR0ACK: u32 = 0x24;
/// Attributes of table and queue accesses.
pub const CR1: u32 = 0x28;
/// E2H, RECINVSID, PTM.
pub const CR2: u32 = 0x2c;
/// Dormancy.
pub const STATUSR: u32 = 0x40;
/// Global bypass attributes: bypass or abort while SMMUEN is 0.
pub const GBPA: u32 = 0x44;
/// Implementation defined part of GBPA.
pub const AGBPA: u32 = 0x48;
/// Interrupt enables.
pub const IRQ_CTRL: u32 = 0x50;
/// Acknowledges IRQ_CTRL.
pub const IRQ_CTRLACK: u32 = 0x54;
/// Global errors.
pub const GERROR: u32 = 0x60;
/// Acknowledged global errors.
pub const GERRORN: u32 = 0x64;
/// MSI address of the global error interrupt.
pub const GERROR_IRQ_CFG0: u32 = 0x68;
/// MSI data.
pub const GERROR_IRQ_CFG1: u32 = 0x70;
/// MSI attributes.
pub const GERROR_IRQ_CFG2: u32 = 0x74;
/// Stream table.
pub const STRTAB_BASE: u32 = 0x80;
/// Format and size of the stream table.
pub const STRTAB_BASE_CFG: u32 = 0x88;
/// Command queue.
pub const CMDQ_BASE: u32 = 0x90;
/// Write index of the command queue.
pub const CMDQ_PROD: u32 = 0x98;
/// Read index and error of the command queue.
pub const CMDQ_CONS: u32 = 0x9c;
/// Event queue.
pub const EVENTQ_BASE: u32 = 0xa0;
/// MSI address of the event queue interrupt.
pub const EVENTQ_IRQ_CFG0: u32 = 0xb0;
/// MSI data.
pub const EVENTQ_IRQ_CFG1: u32 = 0xb8;
/// MSI attributes.
pub const EVENTQ_IRQ_CFG2: u32 = 0xbc;
/// PRI queue.
pub const PRIQ_BASE: u32 = 0xc0;
/// MSI address of the PRI queue interrupt.
pub const PRIQ_IRQ_CFG0: u32 = 0xd0;
/// MSI data.
pub const PRIQ_IRQ_CFG1: u32 = 0xd8;
/// MSI attributes.
pub const PRIQ_IRQ_CFG2: u32 = 0xdc;
/// IDR6.
pub const IDR6: u32 = 0x190;
/// Write index of the event queue, in page 1.
pub const EVENTQ_PROD: u32 = PAGE1 + 0xa8;
/// Read index of the event queue, in page 1.
pub const EVENTQ_CONS: u32 = PAGE1 + 0xac;
/// Write index of the PRI queue, in page 1.
pub const PRIQ_PROD: u32 = PAGE1 + 0xc8;
/// Read index of the PRI queue, in page 1.
pub const PRIQ_CONS: u32 = PAGE1 + 0xcc;

/// The registers that are 64 bits wide.
pub const WIDE: [u32; 7] =
    [GERROR_IRQ_CFG0, STRTAB_BASE, CMDQ_BASE, EVENTQ_BASE, EVENTQ_IRQ_CFG0, PRIQ_BASE, PRIQ_IRQ_CFG0];

/// CR0.SMMUEN.
pub const CR0_SMMUEN: u32 = 1 << 0;
/// CR0.PRIQEN.
pub const CR0_PRIQEN: u32 = 1 << 1;
/// CR0.EVENTQEN.
pub const CR0_EVENTQEN: u32 = 1 << 2;
/// CR0.CMDQEN.
pub const CR0_CMDQEN: u32 = 1 << 3;
/// CR0.ATSCHK.
pub const CR0_ATSCHK: u32 = 1 << 4;
/// CR0.VMW.
pub const CR0_VMW: u32 = 0b111 << 6;
/// CR2.E2H.
pub const CR2_E2H: u32 = 1 << 0;
/// CR2.RECINVSID.
pub const CR2_RECINVSID: u32 = 1 << 1;
/// CR2.PTM.
pub const CR2_PTM: u32 = 1 << 2;
/// GBPA.ABORT.
pub const GBPA_ABORT: u32 = 1 << 20;
/// GBPA.Update.
pub const GBPA_UPDATE: u32 = 1 << 31;
/// IRQ_CTRL.GERROR_IRQEN.
pub const IRQ_GERROR: u32 = 1 << 0;
/// IRQ_CTRL.PRIQ_IRQEN.
pub const IRQ_PRIQ: u32 = 1 << 1;
/// IRQ_CTRL.EVENTQ_IRQEN.
pub const IRQ_EVENTQ: u32 = 1 << 2;
/// GERROR.CMDQ_ERR.
pub const GERROR_CMDQ: u32 = 1 << 0;
/// GERROR.EVENTQ_ABT_ERR.
pub const GERROR_EVENTQ_ABT: u32 = 1 << 2;
/// GERROR.PRIQ_ABT_ERR.
pub const GERROR_PRIQ_ABT: u32 = 1 << 3;
/// GERROR.MSI_CMDQ_ABT_ERR.
pub const GERROR_MSI_CMDQ: u32 = 1 << 4;
/// GERROR.MSI_EVENTQ_ABT_ERR.
pub const GERROR_MSI_EVENTQ: u32 = 1 << 5;
/// GERROR.MSI_PRIQ_ABT_ERR.
pub const GERROR_MSI_PRIQ: u32 = 1 << 6;
/// GERROR.MSI_GERROR_ABT_ERR.
pub const GERROR_MSI_GERROR: u32 = 1 << 7;
/// GERROR.SFM_ERR.
pub const GERROR_SFM: u32 = 1 << 8;
/// Every defined bit of GERROR that the model implements.
pub const GERROR_ALL: u32 = 0x1fd;
/// CMDQ_CONS.ERR: an illegal command.
pub const CERROR_ILL: u32 = 1;
/// CMDQ_CONS.ERR: the command could not be fetched.
pub const CERROR_ABT: u32 = 2;
/// CMDQ_CONS.ERR: an ATC invalidation did not complete.
pub const CERROR_ATC_INV_SYNC: u32 = 3;
/// Shift of CMDQ_CONS.ERR.
pub const CONS_ERR_SHIFT: u32 = 24;
/// Index and wrap bit of a queue index register.
pub const QUEUE_INDEX: u32 = 0xf_ffff;
/// OVFLG and OVACKFLG.
pub const QUEUE_OVERFLOW: u32 = 1 << 31;
