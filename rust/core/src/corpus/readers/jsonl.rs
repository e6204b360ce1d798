//! JSON lines: one object per line, in which one or two fields are the record; other fields are skipped undecoded.

use std::borrow::Cow;
use std::fmt;
use std::result::Result as StdResult;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

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
            // Flattened data has members that are named like the whole path.
            tree.insert(&[&path.join(".")], side);
            tree.insert(&path, side);
        }
        Ok(tree)
    }

    /// Makes the node at a path a side, and the nodes on the way to it.
    fn insert(&mut self, path: &[&str], side: usize) {
        let mut node = self;
        for name in path {
            let index = node.children.iter().position(|(child, _)| child == name).unwrap_or_else(|| {
                node.children.push(((*name).to_owned(), Self::default()));
                node.children.len() - 1
            });
            node = &mut node.children[index].1;
        }
        node.side = Some(side);
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
/// string. Invalid UTF-8 and lone surrogates pass through unchanged, for the rules to find. `NaN` and `Infinity`, which
/// Python writes, are numbers.
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
        let line = records.line(index);
        let mut read = |line: &[u8], any: bool| {
            sides.present = [monolingual, false];
            let mut json = Deserializer::from_slice(line);
            let read = Seed { tree, sides: &mut sides, any }.deserialize(&mut json).and_then(|()| json.end());
            read.is_ok() && sides.present == [true, true] && is_strict(line)
        };
        // Few lines need the further, slower tries.
        let is_pair = read(line, false) || {
            let plain = without_constants(line);
            plain != line && read(&plain, false) || read(&plain, true)
        };
        pairs.push(if is_pair {
            Record::Pair { source: &sides.text[0], target: &sides.text[1] }
        } else {
            Record::Malformed
        });
    }
    pairs
}

/// Whether no string holds an unescaped control character: `deserialize_bytes` accepts them, although JSON does not.
fn is_strict(line: &[u8]) -> bool {
    line.iter().all(|&byte| byte >= b' ') || serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// The line with zeros instead of the constants `NaN`, `Infinity` and `-Infinity` outside its strings, as long as before.
fn without_constants(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let (mut rest, mut inside) = (line, false);
    while let Some(&byte) = rest.first() {
        let constant = [&b"NaN"[..], b"Infinity", b"-Infinity"]
            .into_iter()
            .find(|constant| !inside && rest.starts_with(constant));
        if let Some(constant) = constant {
            plain.push(b'0');
            plain.resize(plain.len() + constant.len() - 1, b' ');
            rest = &rest[constant.len()..];
            continue;
        }
        // An escaped quotation mark does not end a string.
        let length = if inside && byte == b'\\' { rest.len().min(2) } else { 1 };
        inside ^= byte == b'"';
        plain.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
    }
    plain
}

/// The line with other texts in the fields of the sides; None stays. A line that is not UTF-8 stays as it is: it is never written.
pub fn replace<'a>(line: &'a [u8], tree: &Tree, sides: [Option<&[u8]>; 2]) -> Cow<'a, [u8]> {
    let plain = without_constants(line);
    let mut found = [None; 2];
    let is_found = std::str::from_utf8(&plain).is_ok_and(|plain| find(plain, tree, &mut found).is_ok());
    if !is_found {
        return Cow::Borrowed(line);
    }
    let mut fields: Vec<(&str, &[u8])> =
        found.iter().zip(sides).filter_map(|(value, side)| Some(((*value)?, side?))).collect();
    fields.sort_unstable_by_key(|(value, _)| value.as_ptr());
    let (mut replaced, mut end) = (Vec::with_capacity(line.len()), 0);
    for (value, side) in fields {
        let start = value.as_ptr() as usize - plain.as_ptr() as usize;
        replaced.extend_from_slice(&line[end..start]);
        replaced
            .extend_from_slice(serde_json::Value::from(String::from_utf8_lossy(side)).to_string().as_bytes());
        end = start + value.len();
    }
    replaced.extend_from_slice(&line[end..]);
    Cow::Owned(replaced)
}

/// Finds the values of the sides, as JSON, in an object.
fn find<'a>(object: &'a str, tree: &Tree, found: &mut [Option<&'a str>; 2]) -> serde_json::Result<()> {
    Deserializer::from_str(object).deserialize_map(Members { tree, found })
}

struct Members<'a, 't, 'f> {
    tree: &'t Tree,
    found: &'f mut [Option<&'a str>; 2],
}

impl<'a> Visitor<'a> for Members<'a, '_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> StdResult<(), M::Error> {
        while let Some(child) = map.next_key_seed(Name(self.tree))? {
            let value = map.next_value::<&RawValue>()?.get();
            let Some(child) = child else { continue };
            (0..2).filter(|&side| child.holds(side)).for_each(|side| self.found[side] = None);
            if let Some(side) = child.side.filter(|_| value.starts_with('"')) {
                self.found[side] = Some(value);
            } else if value.starts_with('{') {
                find(value, child, self.found).map_err(M::Error::custom)?;
            }
        }
        Ok(())
    }
}

/// Reads the value at one node of the tree.
struct Seed<'a> {
    tree: &'a Tree,
    sides: &'a mut Sides,
    /// Whether the value may be of any type: a later member of the same name may be text. Text must then be UTF-8.
    any: bool,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> StdResult<(), D::Error> {
        match self.tree.side {
            _ if self.any => json.deserialize_any(self),
            Some(_) => json.deserialize_bytes(self),
            None => json.deserialize_map(self),
        }
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

    fn visit_str<E: serde::de::Error>(self, text: &str) -> StdResult<(), E> {
        if self.tree.side.is_some() { self.visit_bytes(text.as_bytes()) } else { Ok(()) }
    }

    fn visit_unit<E>(self) -> StdResult<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> StdResult<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> StdResult<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> StdResult<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> StdResult<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> StdResult<(), S::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> StdResult<(), M::Error> {
        if self.tree.side.is_some() && !self.any {
            return Err(M::Error::custom("not a string"));
        }
        while let Some(child) = map.next_key_seed(Name(self.tree))? {
            match child {
                Some(tree) => {
                    tree.forget(self.sides);
                    map.next_value_seed(Seed { tree, sides: &mut *self.sides, any: self.any })?;
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
