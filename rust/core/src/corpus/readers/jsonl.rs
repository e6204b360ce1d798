//! JSON lines: one object per line, of which one or two fields are the record; other fields are skipped undecoded.

use std::fmt;
use std::result::Result as StdResult;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Deserializer;

use crate::Result;
use crate::corpus::fields::Fields;
use crate::corpus::readers::lines::Lines;
use crate::corpus::record::{Pairs, Record};

/// The names on the way to the fields.
#[derive(Debug, Default)]
pub struct Tree {
    /// Which side stands here.
    side: Option<usize>,
    children: Vec<(String, Tree)>,
}

/// The sides of a record, as far as they are present.
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
            let mut place = &mut tree;
            for name in path {
                let index = place.children.iter().position(|(child, _)| child == name).unwrap_or_else(|| {
                    place.children.push((name.to_owned(), Self::default()));
                    place.children.len() - 1
                });
                place = &mut place.children[index].1;
            }
            place.side = Some(side);
        }
        Ok(tree)
    }

    /// Whether a side stands here or below.
    fn holds(&self, side: usize) -> bool {
        self.side == Some(side) || self.children.iter().any(|(_, child)| child.holds(side))
    }

    /// Of two members of one name the last counts, with all that is in it.
    fn forget(&self, sides: &mut Sides) {
        if let Some(side) = self.side {
            sides.present[side] = false;
        }
        self.children.iter().for_each(|(_, child)| child.forget(sides));
    }
}

/// The pairs of some lines. A line that is no JSON object, that lacks a field, or whose field is no string, is malformed.
/// Bytes that are not UTF-8, and lone surrogates, come through as they are.
pub fn decode(records: &Lines, tree: &Tree) -> Pairs {
    let mut pairs = Pairs::default();
    let mut sides = Sides::default();
    // A source that is not looked for is empty.
    let absent = !tree.holds(0);
    for index in 0..records.len() {
        if records.is_too_long(index) {
            pairs.push(Record::TooLong);
            continue;
        }
        sides.present = [absent, false];
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

/// Whether no string holds a bare control character: the reading of strings as bytes lets them through.
fn is_strict(line: &[u8]) -> bool {
    line.iter().all(|&byte| byte >= b' ') || serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Reads the value at one place of the tree.
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

/// Reads the name of a member and says which child of the tree it is.
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
