//! What the shards of `clean/` have in common: their columns, how they are published, and which were.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::types::Int32Type;
use arrow_array::{DictionaryArray, Int32Array, StringArray};
use arrow_schema::{DataType, Field};

use crate::cleaning::reasons::{self, DUPLICATE, DUPLICATE_ELSEWHERE, REASONS};
use crate::columns::shards::{BackgroundShard, COLUMNS, PublishedShard, field};
use crate::duplicates::fingerprints::Key;
use crate::duplicates::first_rows::ELSEWHERE;
use crate::text::side::MEASURES;
use crate::{Error, Result};

/// What all shards of a corpus have in common.
pub struct ShardLayout {
    pub out: PathBuf,
    pub plan: String,
    /// How many measures are written for the source, and for the target.
    pub measures: [usize; 2],
    pub tagged: bool,
    pub key: Key,
}

impl ShardLayout {
    pub fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("plan".to_owned(), self.plan.clone())])
    }

    pub fn columns(&self) -> Vec<Field> {
        let strings = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let mut fields = vec![
            field("row", DataType::Int64),
            field("reasons", DataType::UInt32),
            field("reason", strings()),
        ];
        for (side, count) in ["source", "target"].into_iter().zip(self.measures) {
            let names = MEASURES[..count].iter();
            fields.extend(names.map(|name| field(&format!("{side}_{name}"), DataType::UInt32)));
        }
        if self.tagged {
            fields.push(field("tag", strings()));
        }
        fields
    }

    pub fn decisions(&self, first: u64) -> Result<BackgroundShard> {
        let mut metadata = self.metadata();
        metadata.insert("reasons".to_owned(), REASONS.join(","));
        BackgroundShard::create(
            &self.out.join(COLUMNS).join(format!("part-{first:012}")),
            self.columns(),
            &metadata,
        )
    }
}

/// The published shards by their first row. Several threads add shards as soon as these have their final names.
#[derive(Default)]
pub struct Published {
    pub decisions: Mutex<BTreeMap<u64, PublishedShard>>,
    pub fingerprints: Mutex<BTreeMap<u64, PublishedShard>>,
    pub duplicates: Mutex<BTreeMap<u64, PublishedShard>>,
}

pub fn note(shards: &Mutex<BTreeMap<u64, PublishedShard>>, shard: PublishedShard) {
    shards.lock().unwrap_or_else(PoisonError::into_inner).insert(shard.first, shard);
}

impl Published {
    fn sets(&self) -> [&Mutex<BTreeMap<u64, PublishedShard>>; 3] {
        [&self.decisions, &self.fingerprints, &self.duplicates]
    }

    /// The shards of decisions, fingerprints and duplicates, in row order.
    pub fn listed(&self) -> [Vec<PublishedShard>; 3] {
        self.sets().map(|set| set.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect())
    }

    /// Adds the shards that an earlier cleaning published.
    pub fn restore(&self, shards: [Vec<PublishedShard>; 3]) {
        for (set, shards) in self.sets().into_iter().zip(shards) {
            for shard in shards {
                note(set, shard);
            }
        }
    }

    /// Removes all published shards.
    pub fn discard(&self, out: &Path) -> Result<()> {
        for shards in self.sets() {
            for shard in shards.lock().unwrap_or_else(PoisonError::into_inner).values() {
                let path = out.join(&shard.file);
                std::fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }
}

/// The names of the reasons of each record, joined by `+`; null for kept records. The dictionary has one value for each
/// mask that occurs.
pub fn reason_names(masks: &[u32]) -> Result<DictionaryArray<Int32Type>> {
    let (mut keys, mut names) = (BTreeMap::new(), Vec::new());
    let key = |&mask: &u32| {
        (mask != 0).then(|| {
            *keys.entry(mask).or_insert_with(|| {
                names.push(reasons::names(mask));
                names.len() as i32 - 1
            })
        })
    };
    let indices: Int32Array = masks.iter().map(key).collect();
    DictionaryArray::try_new(indices, Arc::new(StringArray::from(names)))
        .map_err(|error| Error::input(error.to_string()))
}

/// The reason for a duplicate of row `of`.
pub fn reason(of: u64) -> u32 {
    if of == ELSEWHERE { DUPLICATE_ELSEWHERE } else { DUPLICATE }
}
