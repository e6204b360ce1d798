//! The request of `select`: sources, columns, guards, groups, and how much is kept.

use std::path::PathBuf;

use serde::Deserialize;

use crate::columns::float32::saturate;
use crate::selection::clusters::Clusters;
use crate::selection::methods::{Choices, Method, Statistic};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Top,
    Bottom,
    /// The ranks from ⌊(n-k)/2⌋ on, best first.
    Middle,
}

/// Which rows with the score at the cut are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ties {
    /// The lower rows.
    Row,
    /// Rows with a higher hash of (seed, row); equal hashes: the lower row.
    Random,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SelectRequest {
    #[serde(flatten)]
    pub measure: Measure,
    pub direction: Direction,
    pub ties: Ties,
    /// For all records without their own share.
    pub keep: Keep,
    pub out: PathBuf,
    /// Whether only the numbers of the kept rows are written, to `rows.npy`, and no shards.
    pub rows: bool,
    /// The digest of the plan, for the metadata of the shards.
    pub plan: String,
}

/// How much to keep; fractions are `[numerator, denominator]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Of the records that pass the guards, scored or not.
    Fraction(u64, u64),
    Rows(u64),
    /// Of the target tokens of the scored records.
    TokenFraction(u64, u64),
    Tokens(u64),
}

impl Keep {
    /// Whether target tokens are counted and not rows.
    pub fn counts_tokens(&self) -> bool {
        matches!(self, Self::Tokens(_) | Self::TokenFraction(..))
    }
}

/// One file of a column set: the rows `first..end`.
#[derive(Debug, Clone, Deserialize)]
pub struct Shard {
    pub path: PathBuf,
    pub first: u64,
    pub end: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Source {
    /// One list of shards per checkpoint, in training order; `backward` lists the sets of models that predict the
    /// source; their token counts are source tokens.
    Scores {
        sets: Vec<Vec<Shard>>,
        #[serde(default)]
        backward: Vec<usize>,
    },
    /// The decisions of cleaning; records are the rows without a reason.
    Clean { shards: Vec<Shard> },
    /// Files with `row` and a numeric column.
    File { paths: Vec<PathBuf>, column: String },
    /// A one-dimensional float array; the row is the index.
    Npy { path: PathBuf },
}

/// A column that a method computes from the source.
#[derive(Debug, Clone, Deserialize)]
pub struct Computed {
    pub method: Method,
    /// The score sets that it reads, in training order.
    pub sets: Vec<usize>,
}

/// A column of Parquet files that is matched by row number.
#[derive(Debug, Clone, Deserialize)]
pub struct ExternalFiles {
    pub paths: Vec<PathBuf>,
    pub column: String,
}

/// The exposures of a checkpoint that was trained on some rows more often than on others.
#[derive(Debug, Clone, Deserialize)]
pub struct Exposures {
    /// The score set whose column `seen` has the exposures.
    pub set: usize,
    pub name: String,
    /// The exposures that occur, ascending.
    pub times: Vec<u32>,
}

/// A condition on a column; a record without a value fails it.
#[derive(Debug, Clone, Deserialize)]
pub struct Guard {
    pub column: usize,
    pub op: Op,
    pub value: f64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub enum Op {
    #[serde(rename = ">")]
    Above,
    #[serde(rename = ">=")]
    AtLeast,
    #[serde(rename = "<")]
    Below,
    #[serde(rename = "<=")]
    AtMost,
    #[serde(rename = "==")]
    Equal,
    #[serde(rename = "!=")]
    Unequal,
}

/// What is read and how it is scored. Columns are numbered: the source's own or those computed from it, then external columns.
#[derive(Debug, Clone, Deserialize)]
pub struct Measure {
    pub source: Source,
    pub computed: Vec<Computed>,
    pub external: Vec<ExternalFiles>,
    #[serde(flatten)]
    pub choices: Choices,
    pub bins: usize,
    pub seed: u64,
    /// The column that is the score, unless several are merged.
    pub score: usize,
    pub merge: Option<Merge>,
    pub guards: Vec<Guard>,
    /// Whether rows are drawn at random, with the score as their weight.
    pub draw: bool,
    /// The shards of the cleaned corpus, for the tags.
    pub clean: Option<Vec<Shard>>,
    pub within: Option<Within>,
    /// The column of lengths; None: target tokens.
    pub length: Option<usize>,
    pub own: Vec<Own>,
    /// Clusters that are ranked separately and share the budget evenly.
    pub clusters: Option<Clusters>,
    /// Records are ranked separately by their exposures to these checkpoints.
    pub exposures: Vec<Exposures>,
    /// The row range `[first, end)` of every input.
    pub inputs: Vec<(u64, u64)>,
    pub threads: usize,
    /// A folder for temporary files, which is removed in the end.
    pub tmp: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    Rank,
    Z,
}

/// Columns and their weights; the weighted sum is divided by the sum of the absolute weights.
#[derive(Debug, Clone, Deserialize)]
pub struct Merge {
    pub by: By,
    pub terms: Vec<(usize, f64)>,
}

impl Merge {
    /// The sum of the absolute weights.
    pub fn total(&self) -> f64 {
        self.terms.iter().map(|(_, weight)| weight.abs()).sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Within {
    Input,
    Tag,
    /// Buckets of half an octave: ⌊2·log₂ n⌋ of n target tokens or characters.
    Length,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    Input(u32),
    Tag(String),
}

/// An input or tag that is ranked separately and has its own share.
#[derive(Debug, Clone, Deserialize)]
pub struct Own {
    pub of: Of,
    /// As the user wrote it.
    pub label: String,
    /// None: all its records are kept, without ranking or guards.
    pub keep: Option<Keep>,
}

impl Measure {
    /// How many columns there are.
    pub fn columns(&self) -> usize {
        let own = match self.source {
            Source::Scores { .. } | Source::Clean { .. } => self.computed.len(),
            Source::File { .. } | Source::Npy { .. } => 1,
        };
        own + self.external.len()
    }

    /// The statistics that are read for a checkpoint, in the order of their columns.
    pub fn statistics(&self, set: usize) -> impl Iterator<Item = Statistic> {
        let clustered = self.clusters.as_ref().is_some_and(|clusters| clusters.sets.contains(&set));
        let wanted = move |statistic: &Statistic| {
            let computed = self.computed.iter().filter(|column| column.sets.contains(&set));
            (clustered && *statistic == Statistic::Nll)
                || computed.filter_map(|column| column.method.reads()).any(|reads| reads == *statistic)
        };
        Statistic::ALL.into_iter().filter(wanted)
    }

    /// The number of combinations of the exposures that `exposures` lists.
    pub fn exposure_combinations(&self) -> u32 {
        self.exposures.iter().map(|checkpoint| checkpoint.times.len() as u32).product()
    }

    /// The name of a combination, like "seen 0 times by epoch-0.5, 1 time by epoch-1.5".
    pub fn exposure_name(&self, mut exposure: u32) -> String {
        let mut parts = Vec::with_capacity(self.exposures.len());
        for checkpoint in self.exposures.iter().rev() {
            let count = checkpoint.times.len() as u32;
            let times = checkpoint.times[(exposure % count) as usize];
            let unit = if times == 1 { "time" } else { "times" };
            parts.push(format!("{times} {unit} by {}", checkpoint.name));
            exposure /= count;
        }
        parts.reverse();
        format!("seen {}", parts.join(", "))
    }
}

impl Guard {
    /// Whether a value passes; it is compared as float32.
    pub fn admits(&self, value: f32) -> bool {
        let limit = saturate(self.value);
        !value.is_nan()
            && match self.op {
                Op::Above => value > limit,
                Op::AtLeast => value >= limit,
                Op::Below => value < limit,
                Op::AtMost => value <= limit,
                // Both are stored numbers, so exact equality is intended.
                #[allow(clippy::float_cmp)]
                Op::Equal => value == limit,
                #[allow(clippy::float_cmp)]
                Op::Unequal => value != limit,
            }
    }
}
