//! Nodes and properties of a device tree.

use alloc::string::String;
use alloc::vec::Vec;

use dtoolkit::model::{DeviceTreeNode, DeviceTreeProperty};

/// A property's value: 32-bit cells and strings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Value {
    bytes: Vec<u8>,
}

impl Value {
    /// An empty value, for a property without content.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// One cell for each number.
    pub(crate) fn cells(cells: &[u32]) -> Self {
        Self { bytes: cells.iter().flat_map(|cell| cell.to_be_bytes()).collect() }
    }

    /// Two cells for each number.
    pub(crate) fn wide(numbers: &[u64]) -> Self {
        Self { bytes: numbers.iter().flat_map(|number| number.to_be_bytes()).collect() }
    }

    /// Strings, each with its terminating zero.
    pub(crate) fn strings<'s>(strings: impl IntoIterator<Item = &'s str>) -> Self {
        Self { bytes: strings.into_iter().flat_map(|string| string.bytes().chain([0])).collect() }
    }

    /// This value followed by `other`.
    pub(crate) fn and(mut self, mut other: Self) -> Self {
        self.bytes.append(&mut other.bytes);
        self
    }
}

/// Makes a node. Names consist of constants and hexadecimal numbers.
pub(crate) fn node<'n>(name: String, properties: impl IntoIterator<Item = (&'n str, Value)>) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    set(&mut node, properties);
    node
}

/// Adds properties to a node.
pub(crate) fn set<'n>(node: &mut DeviceTreeNode, properties: impl IntoIterator<Item = (&'n str, Value)>) {
    for (name, value) in properties {
        node.add_property(DeviceTreeProperty::new_unchecked(name, value.bytes.as_slice()));
    }
}
