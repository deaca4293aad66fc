//! Collects the firmware's description of the machine and converts it to EL2's device tree.
#![allow(unsafe_code)]

use acpi_machine::{Aperture, Firmware, MemoryEntry, Range};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use uefi::boot::{self, MemoryType, OpenProtocolAttributes, OpenProtocolParams, image_handle};
use uefi::mem::memory_map::MemoryMap;
use uefi::println;
use uefi::proto::pci::configuration::ResourceRangeType;
use uefi::proto::pci::root_bridge::PciRootBridgeIo;

use crate::{acpi, registers, spaces};

/// Makes the device tree; `own` is EL2's memory, and `command_line` is EL2's command line.
///
/// # Errors
/// A message, if the firmware's description is incomplete or invalid.
pub fn describe(own: Range, command_line: &str) -> Result<Vec<u8>, String> {
    let tables = acpi::copy()?;
    let tables: Vec<&[u8]> = tables.iter().map(Vec::as_slice).collect();
    let spaces = spaces::map()?;
    let registers = registers::find(&spaces);
    let apertures = apertures()?;
    // All memory allocated from here on is freed before the hand-over, since EL2 uses this map.
    let memory = memory()?;
    let firmware = Firmware {
        tables: &tables,
        memory: &memory,
        spaces: &spaces,
        apertures: &apertures,
        registers: &registers,
        own,
        command_line,
    };
    let description = acpi_machine::describe(&firmware).map_err(|error| error.to_string())?;
    for note in &description.notes {
        println!("portcullis: {note}");
    }
    Ok(description.dtb)
}

fn memory() -> Result<Vec<MemoryEntry>, String> {
    let map = boot::memory_map(MemoryType::LOADER_DATA)
        .map_err(|error| format!("the firmware does not return its memory map: {error}"))?;
    Ok(map
        .entries()
        .map(|entry| MemoryEntry {
            kind: entry.ty.0,
            base: entry.phys_start,
            pages: entry.page_count,
            attributes: entry.att.bits(),
        })
        .collect())
}

/// The addresses that the firmware allocated below each root bridge: CPU addresses, with the offset to bus addresses.
fn apertures() -> Result<Vec<Aperture>, String> {
    let mut found = Vec::new();
    for handle in boot::find_handles::<PciRootBridgeIo>().unwrap_or_default() {
        let params = OpenProtocolParams { handle, agent: image_handle(), controller: None };
        // SAFETY: (1) the protocol is not removed while this program runs, and this program only reads it.
        let bridge = unsafe { boot::open_protocol::<PciRootBridgeIo>(params, OpenProtocolAttributes::GetProtocol) };
        let bridge = bridge.map_err(|error| format!("the protocol of a PCI root bridge cannot be opened: {error}"))?;
        let resources = bridge
            .configuration()
            .map_err(|error| format!("a PCI root bridge does not report its windows: {error}"))?;
        let is_bus = |kind: &ResourceRangeType| matches!(kind, ResourceRangeType::Bus);
        let bus = resources.iter().find(|resource| is_bus(&resource.resource_range_type));
        let first_bus = bus.and_then(|bus| u8::try_from(bus.address_min).ok());
        let first_bus = first_bus.ok_or("a PCI root bridge reports no bus number: update the firmware")?;
        let segment = u16::try_from(bridge.segment_nr()).unwrap_or(u16::MAX);
        let memory = resources.iter().filter(|resource| {
            matches!(resource.resource_range_type, ResourceRangeType::Memory) && resource.address_length > 0
        });
        found.extend(memory.map(|resource| Aperture {
            segment,
            first_bus,
            cpu: Range { base: resource.address_min, size: resource.address_length },
            bus: resource.address_min.wrapping_add(resource.translation_offset),
        }));
    }
    Ok(found)
}
