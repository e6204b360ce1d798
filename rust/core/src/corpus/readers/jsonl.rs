//! JSON lines: one object per line, in which one or two fields are the record; other fields are skipped undecoded.

use std::fmt;
use std::result::Result as StdResult;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Deserializer;

use crate::Result;
use crate::corpus::fields::Fields;
use crate::corpus::readers::lines::Lines;
use crate::corpus::record::{Pairs, Record};

/// The field names as a tree: an object on the way to a field is a node, the field a leaf.
#[derive(Debug, Default)]
pub struct Tree {
    /// The side (0 source, 1 target) whose text is at this node.
    side: Option<usize>,
    children: Vec<(String, Tree)>,
}

/// The sides of a record that were read so far.
#[derive(Default)]
struct Sides {
    text: [Vec<u8>; 2],
    present: [bool; 2],
}

impl Tree {
    pub fn new(fields: &Fields) -> Result<Self> {
        let mut tree = Self::default();
        let paths = fields.paths()?;
        let first = 2 - paths.len();
        for (side, path) in (first..).zip(paths) {
            let mut node = &mut tree;
            for name in path {
                let index = node.children.iter().position(|(child, _)| child == name).unwrap_or_else(|| {
                    node.children.push((name.to_owned(), Self::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[index].1;
            }
            node.side = Some(side);
        }
        Ok(tree)
    }

    /// Whether a side is at this node or below it.
    fn holds(&self, side: usize) -> bool {
        self.side == Some(side) || self.children.iter().any(|(_, child)| child.holds(side))
    }

    /// Drops what was read at this node and below: if an object repeats a name, its last member counts.
    fn forget(&self, sides: &mut Sides) {
        if let Some(side) = self.side {
            sides.present[side] = false;
        }
        self.children.iter().for_each(|(_, child)| child.forget(sides));
    }
}

/// Decodes lines to pairs. A line is malformed if it is not a JSON object, lacks a field, or has a field that is not a
/// string. Invalid UTF-8 and lone surrogates pass through unchanged, for the rules to find.
pub fn decode(records: &Lines, tree: &Tree) -> Pairs {
    let mut pairs = Pairs::default();
    let mut sides = Sides::default();
    // A monolingual corpus has empty sources.
    let monolingual = !tree.holds(0);
    for index in 0..records.len() {
        if records.is_too_long(index) {
            pairs.push(Record::TooLong);
            continue;
        }
        sides.present = [monolingual, false];
        let line = records.line(index);
        let mut json = Deserializer::from_slice(line);
        let read = Seed { tree, sides: &mut sides }.deserialize(&mut json).and_then(|()| json.end());
        pairs.push(match (read, sides.present) {
            (Ok(()), [true, true]) if is_strict(line) => {
                Record::Pair { source: &sides.text[0], target: &sides.text[1] }
            }
            _ => Record::Malformed,
        });
    }
    pairs
}

/// Whether no string holds an unescaped control character: `deserialize_bytes` accepts them, although JSON does not.
fn is_strict(line: &[u8]) -> bool {
    line.iter().all(|&byte| byte >= b' ') || serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Reads the value at one node of the tree.
struct Seed<'a> {
    tree: &'a Tree,
    sides: &'a mut Sides,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> StdResult<(), D::Error> {
        if self.tree.side.is_some() { json.deserialize_bytes(self) } else { json.deserialize_map(self) }
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, or an object on the way to it")
    }

    fn visit_bytes<E: serde::de::Error>(self, text: &[u8]) -> StdResult<(), E> {
        let Some(side) = self.tree.side else { return Err(E::custom("not an object")) };
        self.sides.text[side].clear();
        self.sides.text[side].extend_from_slice(text);
        self.sides.present[side] = true;
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> StdResult<(), M::Error> {
        if self.tree.side.is_some() {
            return Err(M::Error::custom("not a string"));
        }
        while let Some(child) = map.next_key_seed(Name(self.tree))? {
            match child {
                Some(tree) => {
                    tree.forget(self.sides);
                    map.next_value_seed(Seed { tree, sides: &mut *self.sides })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads the name of a member and finds the child of the node with that name.
struct Name<'a>(&'a Tree);

impl<'de, 'a> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<&'a Tree>;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> StdResult<Self::Value, D::Error> {
        json.deserialize_bytes(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<&'a Tree>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a member")
    }

    fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> StdResult<Self::Value, E> {
        Ok(self.0.children.iter().find(|(child, _)| child.as_bytes() == name).map(|(_, child)| child))
    }
}
