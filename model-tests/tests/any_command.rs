//! Any command with any payload, compared with the result on an SMMU that has the features of the host's ID registers.

use model_tests::host::{Host, ON, STAGE1, Shape};
use model_tests::layout::{HOST_DATA, IOVA, RAM, RAM_BYTES, SID, SIDS};
use model_tests::{CANARY, Machine, Rng, Setup};
use smmu_model::arch::{cmd as c, regs as r};
use smmu_model::{Config, Hazard, Memory, Model, Pace, Region, Res0, Snoop, StallModel, Transfer};

/// An SMMU with the features of the host's ID registers.
fn reference(shown: &Config) -> Model {
    let mem = Memory::new(Snoop::Coherent);
    mem.add(RAM, RAM_BYTES, Region::Ram);
    let config = Config {
        stage2: false,
        hyp: false,
        ats: false,
        pri: false,
        btm: false,
        vmw: false,
        msi: true,
        sev: false,
        stall: StallModel::Terminate,
        cmdq_bits: 8,
        pace: Pace::Eager,
        ..shown.clone()
    };
    let mut model = Model::new(config, mem);
    model.write64(r::CMDQ_BASE, (RAM + 0x1_0000) | 4);
    model.write32(r::CR0, r::CR0_CMDQEN);
    model
}

/// The CERROR code of the command, if any. An implementation may check reserved bits or not [IHI 0070G 4.1.5].
fn answer(shown: &Config, res0: Res0, cmd: [u64; 2]) -> Option<u32> {
    let mut model = reference(&Config { res0, ..shown.clone() });
    model.mem().cpu_write64(RAM + 0x1_0000, cmd[0]);
    model.mem().cpu_write64(RAM + 0x1_0008, cmd[1]);
    model.write32(r::CMDQ_PROD, 1);
    let error = model.read32(r::GERROR) & r::GERROR_CMDQ != 0;
    error.then(|| model.read32(r::CMDQ_CONS) >> 24)
}

#[test]
fn t23_every_opcode_with_any_payload() {
    for config in [Config::qemu(), Config { pace: Pace::Lazy, seed: 21, ..Config::full() }] {
        let mut m = Machine::new(&Setup::guarded().with(config.clone()));
        let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
        let mut rng = Rng::new(0x1234_5678_9abc_def1);
        for op in 0..256 {
            for round in 0..6 {
                let defined = c::defined(op, config.ril).unwrap_or([0xff, 0]);
                let cmd = match round {
                    0 => [op, 0],
                    1 => [op | 1 << 10, 0],
                    2 => [op | 3 << 12, 0],
                    // Random values in defined fields only, then in all bits.
                    3 | 4 => [op | (rng.next64() & defined[0] & !0x4ff), rng.next64() & defined[1]],
                    _ => [op | (rng.next64() & !0xff), rng.next64()],
                };
                let wanted = [Res0::Checked, Res0::Ignored].map(|res0| answer(&config, res0, cmd));
                host.cmd(&mut m, cmd);
                let got = host.cerror(&mut m);
                assert!(wanted.contains(&got), "{cmd:#x?}: {got:?} instead of {wanted:?}");
                if got.is_some() {
                    host.repair(&mut m);
                    assert_eq!(host.cerror(&mut m), None, "the host's repair works");
                }
            }
            m.models[0].borrow_mut().drop_caches();
        }
        host.sync(&mut m);
        assert_eq!(m.models[0].borrow_mut().take_hazards(), [], "EL2's own queue has no error");
        assert_eq!(m.isolated(&SIDS), Ok(()));
        host.install(&mut m, SID, STAGE1);
        assert_eq!(m.dma_write(0, SID, IOVA, 1), Transfer::Done);
    }
}

#[test]
fn t48_el2s_own_queue_has_no_command_error() {
    // Hardware checks reserved bits; the host sets random ones.
    let mut rng = Rng::new(77);
    for config in
        [Config { res0: Res0::Checked, ..Config::full() }, Config { res0: Res0::Checked, ril: false, ..Config::qemu() }]
    {
        let mut m = Machine::new(&Setup::guarded().with(config.clone()));
        let mut host = Host::enable(&mut m, 0, Shape::Linear);
        for op in [1, 2, 3, 4, 5, 6, 0x10, 0x11, 0x12, 0x13, 0x30, 0x46] {
            for _ in 0..40 {
                host.cmd(&mut m, [op | (rng.next64() & rng.next64() & !0xff), rng.next64() & rng.next64()]);
                if host.cerror(&mut m).is_some() {
                    host.repair(&mut m);
                }
            }
            m.models[0].borrow_mut().drop_caches();
        }
        host.sync(&mut m);
        let hazards = m.models[0].borrow_mut().take_hazards();
        assert!(!hazards.iter().any(|h| matches!(h, Hazard::CommandError { .. })), "{hazards:x?}");
        assert_eq!(m.driver(0, |smmu, _| smmu.stats().cmdq_recoveries), 0);
        assert_eq!(m.isolated(&SIDS), Ok(()));
    }
    // Without EL2 such a command stops the queue of the same hardware.
    let mut bare = Machine::new(&Setup::bare());
    let mut host = Host::enable(&mut bare, 0, Shape::Linear);
    host.cmd(&mut bare, [0x46 | 1 << 30, 0]);
    assert_eq!(host.cerror(&mut bare), Some(r::CERROR_ILL));
    let _ = (CANARY, ON);
}
