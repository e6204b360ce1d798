//! The records that a selection ranks and the columns computed from what they hold: score sets of several checkpoints side
//! by side, what cleaning kept, a column in Parquet files, or a .npy array.

use std::ops::Range;
use std::path::PathBuf;

use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, ArrayRef, Float32Array, UInt32Array};
use serde::Deserialize;

use crate::columns::external::Column;
use crate::columns::npy::Npy;
use crate::columns::shards::ShardReader;
use crate::selection::clusters::Clusters;
use crate::selection::groups::{Own, Within};
use crate::selection::methods::{self, Choices, Method, Statistic};
use crate::selection::sources::shards::{Shard, align, check_equal, check_ranges, rows, typed};
use crate::selection::statistics::merge::Merge;
use crate::{Error, Result};

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Source {
    /// One list of shards per checkpoint, in training order; `backward` are those of models that predict the source, whose
    /// tokens are counted there.
    Scores {
        sets: Vec<Vec<Shard>>,
        #[serde(default)]
        backward: Vec<usize>,
    },
    /// The verdicts of cleaning; records are the rows without a reason.
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
    /// Which of the sets of scores it reads, in training order.
    pub sets: Vec<usize>,
}

/// A column that is joined by row.
#[derive(Debug, Clone, Deserialize)]
pub struct Joined {
    pub paths: Vec<PathBuf>,
    pub column: String,
}

/// A checkpoint that had been trained on some rows more often than on others.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// Which of the sets of scores says so, in its column `seen`.
    pub set: usize,
    pub name: String,
    /// The numbers of times that occur, ascending.
    pub times: Vec<u32>,
}

/// A condition on a column; a record that has no value there fails it.
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

/// What is read and how it is scored. Columns are numbered: the source's own or those computed from it, then those joined.
#[derive(Debug, Clone, Deserialize)]
pub struct Measure {
    pub source: Source,
    pub computed: Vec<Computed>,
    pub joined: Vec<Joined>,
    #[serde(flatten)]
    pub choices: Choices,
    pub bins: usize,
    pub seed: u64,
    /// The column that is the score, unless several are merged.
    pub score: usize,
    pub merge: Option<Merge>,
    pub guards: Vec<Guard>,
    /// Whether the score is a weight, by which is drawn.
    pub sample: bool,
    /// The shards of the cleaned corpus, for the tags.
    pub clean: Option<Vec<Shard>>,
    pub within: Option<Within>,
    /// The column of lengths; None: target tokens.
    pub length: Option<usize>,
    pub own: Vec<Own>,
    /// By which records are told apart, each cluster giving as much as the others as far as it can.
    pub clusters: Option<Clusters>,
    /// Records that were trained on equally often by all of these are ranked among themselves.
    pub seen: Vec<Seen>,
    /// The row range `[first, end)` of every input.
    pub inputs: Vec<(u64, u64)>,
    pub threads: usize,
    /// Where temporary files may be made and removed.
    pub tmp: PathBuf,
}

/// Records in row order. A score of NaN means that there is none.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<u64>,
    /// Empty where everything is one group.
    pub groups: Vec<u32>,
    /// Target tokens; empty where the source has none.
    pub tokens: Vec<u32>,
    pub columns: Vec<Vec<f32>>,
    pub scores: Vec<f32>,
    /// For `progress` the nll of the first checkpoint, else empty.
    pub starts: Vec<f32>,
    /// Which records a guard has dropped; empty where there are no guards.
    pub guarded: Vec<bool>,
    /// How often records had been trained on, as a number below `Measure::courses`; empty where that does not matter.
    pub courses: Vec<u32>,
    /// The clusters of the records; empty where there are none.
    pub clusters: Vec<u32>,
}

impl Measure {
    /// How many columns there are.
    pub fn columns(&self) -> usize {
        let own = match self.source {
            Source::Scores { .. } | Source::Clean { .. } => self.computed.len(),
            Source::File { .. } | Source::Npy { .. } => 1,
        };
        own + self.joined.len()
    }

    /// The statistics that are read of a checkpoint, in the order of their columns.
    fn statistics(&self, set: usize) -> impl Iterator<Item = Statistic> {
        let clustered = self.clusters.as_ref().is_some_and(|clusters| clusters.sets.contains(&set));
        let wanted = move |statistic: &Statistic| {
            let computed = self.computed.iter().filter(|column| column.sets.contains(&set));
            (clustered && *statistic == Statistic::Nll)
                || computed.filter_map(|column| column.method.reads()).any(|reads| reads == *statistic)
        };
        Statistic::ALL.into_iter().filter(wanted)
    }

    /// How many combinations there are of the numbers of times that `seen` lists.
    pub fn courses(&self) -> u32 {
        self.seen.iter().map(|seen| seen.times.len() as u32).product()
    }

    /// What such a combination is called, like "seen 0 times by epoch-0.5, 1 time by epoch-1.5".
    pub fn course_name(&self, mut course: u32) -> String {
        let mut parts = Vec::with_capacity(self.seen.len());
        for seen in self.seen.iter().rev() {
            let count = seen.times.len() as u32;
            let times = seen.times[(course % count) as usize];
            let unit = if times == 1 { "time" } else { "times" };
            parts.push(format!("{times} {unit} by {}", seen.name));
            course /= count;
        }
        parts.reverse();
        format!("seen {}", parts.join(", "))
    }
}

impl Batch {
    pub fn group(&self, index: usize) -> usize {
        self.groups.get(index).map_or(0, |&group| group as usize)
    }

    pub fn token(&self, index: usize) -> u32 {
        self.tokens.get(index).copied().unwrap_or(0)
    }
}

/// The score sets of several checkpoints, and for each whether its model predicts the source.
pub struct Sets {
    shards: Vec<Vec<Shard>>,
    backward: Vec<bool>,
}

/// An opened source.
pub enum Records {
    Scores(Sets),
    Clean(Vec<Shard>),
    File(Column),
    Npy(Npy),
}

type Visit<'a> = &'a mut dyn FnMut(&mut Batch) -> Result<()>;

impl Records {
    pub fn open(source: &Source) -> Result<Self> {
        Ok(match source {
            Source::Scores { sets, backward } => {
                let shards = sets.iter().map(|set| align(set)).collect::<Result<Vec<_>>>()?;
                check_ranges(&shards)?;
                let backward = (0..sets.len()).map(|set| backward.contains(&set)).collect();
                Self::Scores(Sets { shards, backward })
            }
            Source::Clean { shards } => Self::Clean(align(shards)?),
            Source::File { paths, column } => Self::File(Column::open(paths, column)?),
            Source::Npy { path } => Self::Npy(Npy::open(path)?),
        })
    }

    /// How many parts can be streamed on their own.
    pub fn len(&self) -> usize {
        match self {
            Self::File(column) => column.len(),
            Self::Npy(array) => array.len(),
            Self::Scores(_) | Self::Clean(_) => self.shards().map_or(0, <[_]>::len),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shards whose ranges the selection's shards repeat; None where the rows alone say.
    pub fn shards(&self) -> Option<&[Shard]> {
        match self {
            Self::Scores(sets) => sets.shards.first().map(Vec::as_slice),
            Self::Clean(shards) => Some(shards),
            Self::File(_) | Self::Npy(_) => None,
        }
    }

    /// All rows are below this.
    pub fn end(&self) -> u64 {
        match self {
            Self::File(column) => column.end(),
            Self::Npy(array) => array.count(),
            Self::Scores(_) | Self::Clean(_) => {
                self.shards().and_then(<[_]>::last).map_or(0, |shard| shard.end)
            }
        }
    }

    /// How many records there are, none of them without a value, where the source says so.
    pub fn count(&self) -> Option<u64> {
        if let Self::Npy(array) = self { Some(array.count()) } else { None }
    }

    /// Whether a record's row is its place.
    pub fn is_gapless(&self) -> bool {
        matches!(self, Self::Npy(_))
    }

    /// Streams some parts: rows (unless `rowless`, which only files and arrays heed), tokens, and the columns that stand in the source or are computed from it.
    pub fn stream(
        &self,
        measure: &Measure,
        span: Range<usize>,
        rowless: bool,
        batch: &mut Batch,
        visit: Visit<'_>,
    ) -> Result<()> {
        match self {
            Self::Scores(sets) => {
                for index in span {
                    let shards: Vec<&Shard> = sets.shards.iter().map(|set| &set[index]).collect();
                    scores(measure, &shards, &sets.backward, batch, visit)?;
                }
                Ok(())
            }
            Self::Clean(shards) => {
                shards[span].iter().try_for_each(|shard| survivors(measure, shard, batch, visit))
            }
            Self::File(column) => {
                let mut reading = column.read(span);
                reading.rowless = rowless;
                while reading.batch()? {
                    std::mem::swap(&mut batch.rows, &mut reading.rows);
                    std::mem::swap(&mut batch.columns[0], &mut reading.scores);
                    visit(batch)?;
                }
                Ok(())
            }
            Self::Npy(array) => array.stream(span, rowless, batch, visit),
        }
    }
}

/// The records of one shard of every checkpoint.
fn scores(
    measure: &Measure,
    shards: &[&Shard],
    backward: &[bool],
    batch: &mut Batch,
    visit: Visit<'_>,
) -> Result<()> {
    let mut readers = Vec::with_capacity(shards.len());
    for (set, shard) in shards.iter().enumerate() {
        let mut names = vec!["row", "tokens"];
        names.extend(measure.statistics(set).map(Statistic::column));
        names.extend(measure.seen.iter().any(|seen| seen.set == set).then_some("seen"));
        readers.push(ShardReader::open(&shard.path, &names)?);
    }
    let mut next = shards[0].first;
    loop {
        let mut sets = Vec::with_capacity(readers.len());
        for reader in &mut readers {
            sets.push(reader.next().transpose()?);
        }
        check_equal(shards, backward, &sets)?;
        let sets: Vec<Vec<ArrayRef>> = sets.into_iter().flatten().collect();
        let Some(lead) = sets.first() else { return Ok(()) };
        batch.rows = rows(&lead[0], shards[0], &mut next)?;
        follow(measure, batch, &sets, shards)?;
        let forward = backward.iter().position(|&backward| !backward).unwrap_or(0);
        let lengths = typed::<UInt32Type>(&sets[forward][1], "tokens", shards[forward])?;
        compute(measure, batch, &Sums::of(measure, &sets, shards)?, lengths)?;
        visit(batch)?;
    }
}

/// One statistic of a batch under one checkpoint, and the tokens that it is a sum over.
#[derive(Clone, Copy)]
struct Sums<'a> {
    shard: &'a Shard,
    statistic: Statistic,
    tokens: &'a UInt32Array,
    values: Values<'a>,
}

#[derive(Clone, Copy)]
enum Values<'a> {
    Counts(&'a UInt32Array),
    Floats(&'a Float32Array),
}

impl<'a> Sums<'a> {
    /// The statistics that are read of every checkpoint.
    fn of(measure: &Measure, sets: &'a [Vec<ArrayRef>], shards: &[&'a Shard]) -> Result<Vec<Vec<Self>>> {
        let mut all = Vec::with_capacity(sets.len());
        for (set, (arrays, &shard)) in sets.iter().zip(shards).enumerate() {
            let tokens = typed::<UInt32Type>(&arrays[1], "tokens", shard)?;
            let mut sums = Vec::new();
            for (statistic, array) in measure.statistics(set).zip(&arrays[2..]) {
                let name = statistic.column();
                let values = match statistic {
                    Statistic::Correct => Values::Counts(typed::<UInt32Type>(array, name, shard)?),
                    _ => Values::Floats(typed::<Float32Type>(array, name, shard)?),
                };
                sums.push(Self { shard, statistic, tokens, values });
            }
            all.push(sums);
        }
        Ok(all)
    }

    /// The mean over the tokens of a record that has some.
    #[inline]
    fn mean(&self, index: usize, row: u64) -> Result<f64> {
        let (sum, is_null) = match self.values {
            Values::Counts(counts) => (f64::from(counts.value(index)), counts.is_null(index)),
            Values::Floats(floats) => (f64::from(floats.value(index)), floats.is_null(index)),
        };
        let mean = sum / f64::from(self.tokens.value(index));
        if mean.is_finite() && !is_null {
            return Ok(mean);
        }
        Err(self.refuse(row))
    }

    #[cold]
    fn refuse(&self, row: u64) -> Error {
        let (path, column) = (self.shard.path.display(), self.statistic.column());
        Error::input(format!("{path}: {column} of row {row} is no number: score it again"))
    }
}

/// Computes the columns of a batch from the statistics of all checkpoints; `lengths` are the target tokens.
fn compute(
    measure: &Measure,
    batch: &mut Batch,
    sums: &[Vec<Sums<'_>>],
    lengths: &UInt32Array,
) -> Result<()> {
    let count = batch.rows.len();
    batch.tokens.clear();
    batch.tokens.resize(count, 0);
    for column in &mut batch.columns {
        column.clear();
        column.resize(count, f32::NAN);
    }
    let find = |statistic: Statistic, sets: &[usize]| -> Vec<Sums<'_>> {
        let of = |&set: &usize| sums[set].iter().find(|sums| sums.statistic == statistic).copied();
        sets.iter().filter_map(of).collect()
    };
    let read = |column: &Computed| column.method.reads().map(|statistic| find(statistic, &column.sets));
    let read: Vec<Option<Vec<Sums<'_>>>> = measure.computed.iter().map(read).collect();
    let start = measure.computed.iter().find(|column| column.method == Method::Progress);
    let start = start.map(|column| find(Statistic::Nll, &column.sets[..1]));
    let course = measure.clusters.as_ref().map(|clusters| (clusters, find(Statistic::Nll, &clusters.sets)));
    batch.starts.clear();
    batch.starts.resize(if start.is_some() { count } else { 0 }, f32::NAN);
    batch.clusters.clear();
    batch.clusters.resize(if course.is_some() { count } else { 0 }, 0);
    let mut means = Vec::new();
    for (index, &row) in batch.rows.iter().enumerate().filter(|&(index, _)| lengths.is_valid(index)) {
        let fill = |from: &[Sums<'_>], means: &mut Vec<f64>| -> Result<()> {
            means.clear();
            for sums in from {
                means.push(sums.mean(index, row)?);
            }
            Ok(())
        };
        batch.tokens[index] = lengths.value(index);
        for ((Computed { method, .. }, from), column) in
            measure.computed.iter().zip(&read).zip(&mut batch.columns)
        {
            column[index] = match (method, from) {
                (Method::Length, _) => batch.tokens[index] as f32,
                (_, None) => methods::random(row, measure.seed),
                (_, Some(from)) => {
                    fill(from, &mut means)?;
                    methods::score(*method, &measure.choices, &means)
                }
            };
        }
        if let Some(start) = &start {
            batch.starts[index] = methods::saturate(start[0].mean(index, row)?);
        }
        if let Some((clusters, from)) = &course {
            fill(from, &mut means)?;
            batch.clusters[index] = clusters.nearest(&means);
        }
    }
    Ok(())
}

/// Numbers how often the records of a batch had been trained on; those without tokens never were.
fn follow(measure: &Measure, batch: &mut Batch, sets: &[Vec<ArrayRef>], shards: &[&Shard]) -> Result<()> {
    batch.courses.clear();
    if measure.seen.is_empty() {
        return Ok(());
    }
    batch.courses.resize(batch.rows.len(), 0);
    for Seen { set, times, .. } in &measure.seen {
        let shard = shards[*set];
        let seen = typed::<UInt32Type>(&sets[*set][sets[*set].len() - 1], "seen", shard)?;
        for (index, course) in batch.courses.iter_mut().enumerate() {
            let found = times.iter().position(|&time| seen.is_null(index) || time == seen.value(index));
            let Some(place) = found else {
                let (path, row) = (shard.path.display(), batch.rows[index]);
                let told = seen.value(index);
                return Err(Error::input(format!(
                    "{path}: row {row} was trained on {told} times, which its manifest does not list: score it again"
                )));
            };
            *course = *course * times.len() as u32 + place as u32;
        }
    }
    Ok(())
}

/// The rows of one shard that cleaning kept, with their length in characters or a random number.
fn survivors(measure: &Measure, shard: &Shard, batch: &mut Batch, visit: Visit<'_>) -> Result<()> {
    let by_length = measure.computed.iter().any(|column| column.method == Method::Length);
    let names: &[&str] =
        if by_length { &["row", "reasons", "target_characters"] } else { &["row", "reasons"] };
    let mut next = shard.first;
    for arrays in ShardReader::open(&shard.path, names)? {
        let arrays = arrays?;
        let reasons = typed::<UInt32Type>(&arrays[1], "reasons", shard)?.values();
        let all = rows(&arrays[0], shard, &mut next)?;
        let kept =
            || reasons.iter().enumerate().filter(|&(_, &reasons)| reasons == 0).map(|(index, _)| index);
        batch.rows.clear();
        batch.rows.extend(kept().map(|index| all[index]));
        for (Computed { method, .. }, column) in measure.computed.iter().zip(&mut batch.columns) {
            column.clear();
            if *method == Method::Length {
                let lengths = typed::<UInt32Type>(&arrays[2], "target_characters", shard)?.values();
                column.extend(kept().map(|index| lengths[index] as f32));
            } else {
                column.extend(batch.rows.iter().map(|&row| methods::random(row, measure.seed)));
            }
        }
        visit(batch)?;
    }
    Ok(())
}

impl Guard {
    /// Whether a value, compared as float32, passes.
    pub fn admits(&self, value: f32) -> bool {
        let limit = methods::saturate(self.value);
        !value.is_nan()
            && match self.op {
                Op::Above => value > limit,
                Op::AtLeast => value >= limit,
                Op::Below => value < limit,
                Op::AtMost => value <= limit,
                // Both are stored numbers: equality is what is meant.
                #[allow(clippy::float_cmp)]
                Op::Equal => value == limit,
                #[allow(clippy::float_cmp)]
                Op::Unequal => value != limit,
            }
    }
}
