//! A simple editor for QEMU's flattened device trees.

use anyhow::{Context, Result, bail, ensure};

/// Tokens of the flattened device tree: a property is this word, its length, the offset of its name, its value.
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;
/// Offsets of the header's words: total size, offsets of the structure and of the names, and their sizes.
const SIZE_AT: usize = 4;
const STRUCTURE_AT: usize = 8;
const NAMES_AT: usize = 12;
const NAMES_SIZE_AT: usize = 32;
const STRUCTURE_SIZE_AT: usize = 36;

/// Removes QEMU's padding after the tree: QEMU doubles the size when it loads the tree, which would exceed the limit.
pub(crate) fn cut(tree: &mut Vec<u8>) -> Result<()> {
    let end = word(tree, NAMES_AT)?.checked_add(word(tree, NAMES_SIZE_AT)?).context("no device tree")?;
    tree.truncate(usize::try_from(end)?);
    let size = tree.get_mut(SIZE_AT..).and_then(|rest| rest.first_chunk_mut::<4>()).context("no device tree")?;
    *size = end.to_be_bytes();
    Ok(())
}

/// Changes 32-bit cell `index` of property `name` of the first node whose name begins with `node`.
pub(crate) fn change_cell(tree: &mut [u8], node: &str, name: &str, index: usize, value: u32) -> Result<()> {
    let at = find_cell(tree, node, name, index)?;
    let cell = tree.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()).context("cut short")?;
    *cell = value.to_be_bytes();
    Ok(())
}

/// Reads that cell.
pub(crate) fn cell(tree: &[u8], node: &str, name: &str, index: usize) -> Result<u32> {
    word(tree, find_cell(tree, node, name, index)?)
}

/// Renames property `name` of that node; no node may have the new name yet.
pub(crate) fn rename_property(tree: &mut Vec<u8>, node: &str, name: &str, new: &str) -> Result<()> {
    // The word before the value is the offset of the name.
    let at = find_cell(tree, node, name, 0)?.checked_sub(4).context("no device tree")?;
    let place = name_place(tree, new)?;
    set_word(tree, at, place)
}

fn find_cell(tree: &[u8], node: &str, name: &str, index: usize) -> Result<usize> {
    let names = usize::try_from(word(tree, NAMES_AT)?)?;
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    let place = find(tree.get(names..).unwrap_or_default(), &wanted).with_context(|| format!("no name {name}"))? + 1;
    let place = u32::try_from(place)?.to_be_bytes();
    // The token that begins a node, and its name.
    let begin = [&[0, 0, 0, 1], node.as_bytes()].concat();
    let begin = find(tree, &begin).with_context(|| format!("no node {node}"))?;
    let starts = |at: &usize| {
        tree.get(*at..).is_some_and(|rest| {
            rest.starts_with(&PROPERTY.to_be_bytes()) && rest.get(8..12).is_some_and(|name| *name == place)
        })
    };
    let at = (begin..names).step_by(4).find(starts).with_context(|| format!("no property {name}"))?;
    Ok(at + 12 + 4 * index)
}

/// The cells of a property (big-endian).
pub(crate) fn cells(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// A node to be added: its name, its properties, its child nodes.
pub(crate) struct Node<'n> {
    pub(crate) name: &'n str,
    pub(crate) properties: &'n [(&'n str, &'n [u8])],
    pub(crate) children: &'n [Node<'n>],
}

/// Adds `node` as the last one below the root. The strings block must be last.
pub(crate) fn add_node(tree: &mut Vec<u8>, node: &Node<'_>) -> Result<()> {
    // The end tokens of the root and of the structure are the last two words.
    let (start, size) = (word(tree, STRUCTURE_AT)?, word(tree, STRUCTURE_SIZE_AT)?);
    let at = usize::try_from(start + size)?.checked_sub(8).context("no device tree")?;
    ensure!(word(tree, at)? == END_NODE && word(tree, at + 4)? == END, "the structure does not end with the root");
    insert(tree, at, node)
}

/// Adds `node` as the last one below the first node named `parent`. The strings block must be last.
pub(crate) fn add_node_below(tree: &mut Vec<u8>, parent: &str, node: &Node<'_>) -> Result<()> {
    let begin = [&[0, 0, 0, 1], parent.as_bytes(), b"\0"].concat();
    let mut at = find(tree, &begin).with_context(|| format!("no node {parent}"))?;
    let mut open = 0u32;
    loop {
        match word(tree, at)? {
            BEGIN_NODE => {
                let name = tree.get(at + 4..).unwrap_or_default();
                let length = name.iter().position(|byte| *byte == 0).context("a name without an end")?;
                at += 4 + (length + 1).next_multiple_of(4);
                open += 1;
            }
            PROPERTY => at += 12 + usize::try_from(word(tree, at + 4)?)?.next_multiple_of(4),
            END_NODE if open == 1 => return insert(tree, at, node),
            END_NODE => {
                at += 4;
                open -= 1;
            }
            // FDT_NOP.
            4 => at += 4,
            token => bail!("the device tree has the token {token} at {at:#x}"),
        }
    }
}

/// Writes `node` at `at` in the structure.
fn insert(tree: &mut Vec<u8>, at: usize, node: &Node<'_>) -> Result<()> {
    let mut written = Vec::new();
    // This may add names, after the structure.
    write_node(tree, node, &mut written)?;
    let length = u32::try_from(written.len())?;
    tree.splice(at..at, written);
    for header in [SIZE_AT, NAMES_AT, STRUCTURE_SIZE_AT] {
        let value = word(tree, header)? + length;
        set_word(tree, header, value)?;
    }
    Ok(())
}

fn write_node(tree: &mut Vec<u8>, node: &Node<'_>, out: &mut Vec<u8>) -> Result<()> {
    let padded = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(4), 0);
    out.extend(BEGIN_NODE.to_be_bytes());
    out.extend(node.name.bytes().chain([0]));
    padded(out);
    for (name, value) in node.properties {
        for head in [PROPERTY, u32::try_from(value.len())?, name_place(tree, name)?] {
            out.extend(head.to_be_bytes());
        }
        out.extend(*value);
        padded(out);
    }
    node.children.iter().try_for_each(|child| write_node(tree, child, out))?;
    out.extend(END_NODE.to_be_bytes());
    Ok(())
}

/// Offset of `name` in the strings block; added if missing.
fn name_place(tree: &mut Vec<u8>, name: &str) -> Result<u32> {
    let names = usize::try_from(word(tree, NAMES_AT)?)?;
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    if let Some(place) = find(tree.get(names..).unwrap_or_default(), &wanted) {
        return Ok(u32::try_from(place + 1)?);
    }
    let place = word(tree, NAMES_SIZE_AT)?;
    tree.extend(name.bytes().chain([0]));
    let length = u32::try_from(name.len() + 1)?;
    for header in [SIZE_AT, NAMES_SIZE_AT] {
        let value = word(tree, header)? + length;
        set_word(tree, header, value)?;
    }
    Ok(place)
}

fn set_word(tree: &mut [u8], at: usize, value: u32) -> Result<()> {
    let word =
        tree.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()).context("the device tree is cut short")?;
    *word = value.to_be_bytes();
    Ok(())
}

fn word(tree: &[u8], at: usize) -> Result<u32> {
    let bytes = tree.get(at..).and_then(|rest| rest.first_chunk::<4>()).context("the device tree is cut short")?;
    Ok(u32::from_be_bytes(*bytes))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, a node "on" with a property of 8 bytes whose name is at offset 2, and the names.
    fn tree() -> Vec<u8> {
        let mut tree = vec![0; 80];
        tree[15] = 52;
        tree[35] = 6;
        tree[20..28].copy_from_slice(&[0, 0, 0, 1, b'o', b'n', 0, 0]);
        tree[28..32].copy_from_slice(&PROPERTY.to_be_bytes());
        tree[32..48].copy_from_slice(&[0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        tree[52..58].copy_from_slice(b"a\0map\0");
        tree
    }

    #[test]
    fn a_cell_is_found_by_its_node_and_property() {
        let mut tree = tree();
        assert!(change_cell(&mut tree, "on", "map", 1, 7).is_ok());
        assert_eq!(tree[40..48], [0, 0, 0, 1, 0, 0, 0, 7]);
        assert!(change_cell(&mut tree, "on", "pam", 0, 7).is_err());
        assert!(change_cell(&mut tree, "off", "map", 0, 7).is_err());
    }

    #[test]
    fn a_property_is_renamed() -> Result<()> {
        let mut tree = vec![0; 40];
        let name = u32::from_be_bytes(*b"on\0\0");
        tree.extend([BEGIN_NODE, name, PROPERTY, 8, 2, 1, 2, END_NODE, END].map(u32::to_be_bytes).concat());
        tree.extend(b"a\0map\0");
        for (at, value) in
            [(SIZE_AT, 82), (STRUCTURE_AT, 40), (NAMES_AT, 76), (NAMES_SIZE_AT, 6), (STRUCTURE_SIZE_AT, 36)]
        {
            set_word(&mut tree, at, value)?;
        }
        assert_eq!(cell(&tree, "on", "map", 1)?, 2);
        rename_property(&mut tree, "on", "map", "new")?;
        assert_eq!(cell(&tree, "on", "new", 1)?, 2);
        assert!(cell(&tree, "on", "map", 1).is_err());
        assert_eq!(tree.get(76..), Some(b"a\0map\0new\0".as_slice()));
        assert_eq!((word(&tree, SIZE_AT)?, word(&tree, NAMES_SIZE_AT)?), (86, 10));
        Ok(())
    }

    #[test]
    fn padding_after_the_names_is_removed() {
        let mut tree = [0; 80].to_vec();
        (tree[15], tree[35]) = (52, 6);
        assert!(cut(&mut tree).is_ok());
        assert_eq!((tree.len(), tree[7]), (58, 58));
    }

    #[test]
    fn a_node_is_added_below_the_root() -> Result<()> {
        // The header, an empty root, and the name "reg" after an empty one.
        let mut tree = vec![0; 40];
        let structure = [BEGIN_NODE, 0, END_NODE, END].map(u32::to_be_bytes).concat();
        tree.extend(structure);
        tree.extend(b"\0reg\0");
        for (at, value) in
            [(SIZE_AT, 61), (STRUCTURE_AT, 40), (NAMES_AT, 56), (NAMES_SIZE_AT, 5), (STRUCTURE_SIZE_AT, 16)]
        {
            set_word(&mut tree, at, value)?;
        }
        let child = Node { name: "b", properties: &[("no-map", &[])], children: &[] };
        add_node(&mut tree, &Node { name: "a@1", properties: &[("reg", &[0, 0, 0, 7])], children: &[child] })?;
        let words: Vec<u32> = (40..).step_by(4).map_while(|at| word(&tree, at).ok()).collect();
        let name = |text: &[u8; 4]| u32::from_be_bytes(*text);
        let new = [
            BEGIN_NODE,
            name(b"a@1\0"),
            PROPERTY,
            4,
            1,
            7,
            BEGIN_NODE,
            name(b"b\0\0\0"),
            PROPERTY,
            0,
            5,
            END_NODE,
            END_NODE,
        ];
        assert_eq!(words.get(..17), Some([&[BEGIN_NODE, 0], &new[..], &[END_NODE, END]].concat().as_slice()));
        assert_eq!((word(&tree, SIZE_AT)?, word(&tree, NAMES_AT)?), (120, 108));
        assert_eq!(tree.get(108..), Some(b"\0reg\0no-map\0".as_slice()));
        assert_eq!(cell(&tree, "a@1", "reg", 0)?, 7);
        add_node_below(&mut tree, "a@1", &Node { name: "c", properties: &[("reg", &[0, 0, 0, 9])], children: &[] })?;
        assert_eq!(cell(&tree, "c", "reg", 0)?, 9);
        let ends = [END_NODE, END_NODE, END_NODE, END].map(u32::to_be_bytes).concat();
        let names = usize::try_from(word(&tree, NAMES_AT)?)?;
        // It is below a@1, after its other node.
        assert_eq!(tree.get(names - 16..names), Some(ends.as_slice()));
        assert!(add_node_below(&mut tree, "d", &Node { name: "e", properties: &[], children: &[] }).is_err());
        Ok(())
    }
}
