//! Which defence is switched off for which payload test, so that its attack lands or is caught.
//!
//! The words are those of EL2's option `weaken=` in the build that has it (`hyp/src/weak.rs`, `smmu-drv/src/weak.rs`). Tests
//! that are not here run in the build without isolation, where they make sense there.

/// A payload test, and what to switch off.
pub(crate) struct Weakened {
    /// The test's name.
    pub(crate) test: &'static str,
    /// The defences, with commas between them.
    pub(crate) words: &'static str,
}

const fn off(test: &'static str, words: &'static str) -> Weakened {
    Weakened { test, words }
}

/// Every test of which one knows.
pub(crate) const WEAKENED: [Weakened; 61] = [
    off("t01_el2_memory_by_cpu", "cpu-maps-all"),
    off("t01_el2_memory_by_dma", "dma-maps-all"),
    off("t02_donated_page", "dma-keeps"),
    off("t03_guests_page", "dma-keeps"),
    off("t04_stale_stage1", "dma-stale"),
    off("t04_stale_bypass", "dma-stale"),
    off("t04_stale_off", "dma-stale"),
    off("t05_donate_while_off", "dma-keeps"),
    off("t06_mmio_by_dma", "dma-maps-mmio"),
    off("t07_off_reaches_host_memory_only", "off"),
    off("t10_sync_msi", "claims"),
    off("t11_irq_cfg", "irq-cfg"),
    off("t12_foreign_cmdq", "claims"),
    off("t12_foreign_strtab", "claims"),
    off("t12_foreign_evtq", "claims"),
    off("t13_evtq_page_donated", "claims-ignored"),
    off("t14_queue_changes_by_dma", "commands"),
    off("t14_queue_changes_under_check", "commands-twice,recovery"),
    off("t16_host_stage2", "entries"),
    off("t16_entry_fields", "entries"),
    off("t17_configs_and_transitions", "entries"),
    off("t18_stream_ids", "span"),
    off("t19_cfgi_all_again_and_again", "budget"),
    off("t20_foreign_tables", "dma-maps-all"),
    off("t22_foreign_invalidations", "commands"),
    off("t23_every_opcode", "commands"),
    off("t24_index_games", "index"),
    off("t25_costly_queue", "budget"),
    off("t26_donate_with_cmdq_off", "dma-stale"),
    off("t27_enables_in_any_order", "claims-kept"),
    off("t28_control_bits", "cr0"),
    off("t29_every_offset", "registers,reset"),
    off("t30_no_syndrome", "no-syndrome"),
    off("t31_fetch_walk_maintenance", "cpu-maps-all"),
    off("t33_hidden_pages", "hidden"),
    off("t35_pool_exhaustion", "no-memory-panics"),
    off("t35_pool_tops_itself_up", "no-memory-panics"),
    off("t35_stream_tables", "no-memory"),
    off("t36_bad_ranges", "states"),
    off("t37_random_hypercalls", "calls"),
    off("t38_devices_at_once", "dma-stale"),
    off("t38_everything_at_once", "dma-keeps"),
    off("t39_cpu_on_foreign_entry", "entry-points"),
    off("t39_hotplug_storm", "cpu-maps-all"),
    off("t39_suspend", "entry-points"),
    off("t40_masters_without_smmu", "registers-given"),
    off("t41_table_changes_shape", "table-kept"),
    off("t43_event_flood", "events"),
    off("t46_stale_block", "dma-stale"),
    off("t49_split_around_the_caller", "block,no-retry"),
    off("t49_split_while_in_use", "no-retry"),
    off("t51_dma_in_flight", "dma-keeps"),
    off("t52_queues_in_device_memory", "claims"),
    off("t53_implementation_defined", "traps"),
    off("t54_smc_allow_list", "firmware-calls"),
    off("t55_undescribed_mmio", "registers-given"),
    off("t56_peer_to_peer", "dma-maps-mmio"),
    off("t56_bar_over_other_things", "cpu-maps-all"),
    off("t56_bus_renumbered", "dma-maps-all"),
    off("t56_command_register_games", "dma-maps-all"),
    off("t57_console", "registers-given"),
];

/// What to switch off for `test`.
pub(crate) fn of(test: &str) -> Option<&'static Weakened> {
    WEAKENED.iter().find(|weakened| weakened.test == test)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threats::rows::rows_of;

    #[test]
    fn every_test_is_of_a_row_and_has_one_entry() {
        for weakened in &WEAKENED {
            assert!(!rows_of(weakened.test).is_empty(), "{}", weakened.test);
            assert_eq!(WEAKENED.iter().filter(|other| other.test == weakened.test).count(), 1, "{}", weakened.test);
        }
    }
}
