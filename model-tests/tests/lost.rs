//! An SMMU fails while there is no memory for tables: the host loses access to some of its own pages, and gets access
//! to no other page.

use mem_protect::{Devices, Error, Finding, Lost, Mismatch, PageRange, Table};
use model_tests::layout::{HOST_DATA, SID, TRANSLATER, TRANSLATER_BYTES};
use model_tests::{Machine, Setup};
use smmu_model::{Bbml, Config, Injection};

const PAGES: u64 = 512;

#[test]
fn t35_t47_pages_lost_with_a_failed_smmu_and_an_empty_pool_are_counted_by_the_audit() {
    let mut m = Machine::new(&Setup::guarded().with(Config { bbml: Bbml::Level0, ..Config::qemu() }));
    let Some(translater) = PageRange::covering(io_pgtable::Ipa(TRANSLATER), TRANSLATER_BYTES) else {
        panic!("a range")
    };
    let dma = [translater];
    let devices = Devices { cpu: &[], dma: &dma };
    assert_eq!(m.owner().audit_access(devices), Ok(Lost::default()));

    m.models[0].borrow_mut().inject(Injection::SyncNever);
    m.owner().dma().fail_tables_after(Some(0));
    // All pages that one table maps: the table is unlinked, and there is no memory for another one to map them again.
    assert_eq!(m.donate(HOST_DATA, PAGES), Err(Error::NotCompleted));
    assert_eq!(m.owner().audit_access(devices), Ok(Lost { cpu: 0, dma: PAGES }));
    let strict = m.owner().audit(devices);
    let Err(Finding::Table { table, ipa, what, .. }) = strict else { panic!("{strict:?}") };
    assert_eq!((table, ipa.0, what), (Table::Dma, HOST_DATA, Mismatch::Missing));
    assert_eq!(m.isolated(&[0, SID]), Ok(()));

    // Later calls are refused and change nothing.
    assert_eq!(m.donate(HOST_DATA + PAGES * 4096, 1), Err(Error::NotCompleted));
    assert_eq!(m.owner().audit_access(devices), Ok(Lost { cpu: 0, dma: PAGES }));
    m.owner().dma().fail_tables_after(None);
}
