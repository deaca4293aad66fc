//! A correct host gets its DMA in every configuration that changes EL2's behaviour.

use model_tests::host::{BYPASS, Host, STAGE1, Shape};
use model_tests::layout::{HOST_DATA, IOVA, SID};
use model_tests::{Guard, Machine, Setup};
use smmu_drv::MsiAdvert;
use smmu_model::{Bbml, Config, Pace, Res0, Snoop, StallModel, Transfer};

fn configs() -> Vec<(&'static str, Config)> {
    vec![
        ("qemu", Config::qemu()),
        ("full", Config::full()),
        ("lazy", Config { pace: Pace::Lazy, seed: 7, ..Config::full() }),
        ("non-coherent", Config { snoop: Snoop::NonCoherent, ..Config::qemu() }),
        ("linear only", Config { two_level: false, sid_bits: 8, ..Config::qemu() }),
        ("bbml 0", Config { bbml: Bbml::Level0, ..Config::qemu() }),
        ("no ril", Config { ril: false, ..Config::qemu() }),
        ("stall", Config { stall: StallModel::Both, term_model: false, ..Config::qemu() }),
        ("vmid 8, oas 40", Config { vmid16: false, asid16: false, oas: 2, ..Config::qemu() }),
        ("ignores RES0", Config { res0: Res0::Ignored, page1_aliases: true, ..Config::qemu() }),
    ]
}

#[test]
fn a_correct_host_gets_its_dma() {
    for (name, config) in configs() {
        for guard in [Guard::None, Guard::El2] {
            let setup = Setup { guard, ..Setup::guarded().with(config.clone()) };
            let mut m = Machine::new(&setup);
            assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done, "{name} {guard:?}: bypass at boot");
            let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
            assert_eq!(m.dma_write(0, SID, IOVA + 5, 42), Transfer::Done, "{name} {guard:?}");
            let (end, byte) = m.dma_read(0, SID, IOVA + 5);
            assert_eq!((end, byte), (Transfer::Done, 42), "{name} {guard:?}");
            host.install(&mut m, SID, BYPASS);
            host.cmd(&mut m, [0x30, 0]);
            host.sync(&mut m);
            assert_eq!(m.dma_write(0, SID, HOST_DATA + 9, 7), Transfer::Done, "{name} {guard:?}: bypass");
            for model in &m.models {
                assert_eq!(model.borrow_mut().take_hazards(), [], "{name} {guard:?}");
            }
            if guard == Guard::El2 {
                assert_eq!(m.isolated(&[0, SID, 9, 63, 64]), Ok(()), "{name}");
            }
        }
    }
}

#[test]
fn completion_by_store_works_where_idr0_msi_is_shown() {
    let mut m = Machine::new(&Setup { msi: MsiAdvert::WhenCoherent, ..Setup::guarded() });
    let mut host = Host::enable(&mut m, 0, Shape::TwoLevel);
    let flag = host.flag();
    host.sync_msi(&mut m, flag, 0x1234);
    assert_eq!(m.mem.cpu_read32(flag), 0x1234);
    host.context(&m);
    host.map(&m, IOVA, HOST_DATA);
    host.install(&mut m, SID, STAGE1);
    assert_eq!(m.dma_write(0, SID, IOVA, 1), Transfer::Done);
}
