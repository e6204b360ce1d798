//! Selection: which rows are kept, exactly, in bounded memory, by a few passes over the records and one that writes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cut::{Counts, Cut, Edge};
use crate::methods::{Method, row_hash};
use crate::progress::Expectation;
use crate::quota::{Keep, Stock, quotas};
use crate::radix::{Left, Search, descend, order};
use crate::records::{Batch, Feed, Measure, Source, Within};
use crate::selection::{ShardWritten, Writer};
use crate::{Error, Result, Watch};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Top,
    Bottom,
    /// The ranks from ⌊(n-k)/2⌋ on, best first.
    Middle,
}

/// Which of the rows with the score at the cut are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ties {
    /// The lower rows.
    Row,
    /// Those whose hash of (seed, row) is higher; equal hashes: the lower row.
    Random,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SelectRequest {
    #[serde(flatten)]
    pub measure: Measure,
    pub direction: Direction,
    pub ties: Ties,
    pub bins: usize,
    pub keep: Keep,
    pub out: PathBuf,
    /// The digest of the plan, for the metadata of the shards.
    pub plan: String,
}

#[derive(Debug, Serialize)]
pub struct Group {
    pub name: String,
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Debug, Serialize)]
pub struct Selection {
    #[serde(flatten)]
    pub counts: Counts,
    pub groups: Vec<Group>,
    pub shards: Vec<ShardWritten>,
}

/// Selects and writes the selection's shards.
pub fn select(request: &SelectRequest, watch: &Watch) -> Result<Selection> {
    check(request)?;
    let feed = Feed::new(&request.measure)?;
    let stocks = census(&feed, watch)?;
    let names = feed.groups();
    // Groups are numbered as they are met, which threads may change; their order is that of their names' bytes, or of the inputs.
    let mut sorted: Vec<usize> = (0..names.len()).collect();
    if request.measure.within == Some(Within::Tag) {
        sorted.sort_by_key(|&group| &names[group]);
    }
    let ordered: Vec<Stock> = sorted.iter().map(|&group| stocks[group]).collect();
    let mut left = vec![Left::Rows(0); names.len()];
    for (&group, quota) in sorted.iter().zip(quotas(request.keep, &ordered)?) {
        left[group] = quota;
    }
    let ranking = Ranking::of(&feed, request, &stocks, watch)?;
    let mut cuts = ranking.cuts(&stocks, &left, watch)?;
    let shards = write(&ranking, &mut cuts, request, watch)?;
    let counts: Vec<Counts> =
        cuts.into_iter().zip(&stocks).map(|(cut, stock)| cut.counts(stock, feed.has_tokens())).collect();
    let mut all = Counts {
        tokens: feed.has_tokens().then_some(0),
        tokens_kept: feed.has_tokens().then_some(0),
        ..Counts::default()
    };
    for group in &counts {
        all.add(group);
    }
    let groups = match request.measure.within {
        None => Vec::new(),
        // A group is met by name before its rows are known to be passed over; without records it is none.
        Some(_) => sorted
            .iter()
            .filter(|&&group| stocks[group].scored + stocks[group].unscored > 0)
            .map(|&group| Group { name: names[group].clone(), counts: counts[group].clone() })
            .collect(),
    };
    Ok(Selection { counts: all, groups, shards })
}

/// Counts the records of every group.
fn census(feed: &Feed<'_>, watch: &Watch) -> Result<Vec<Stock>> {
    let parts = feed.fold(watch, Vec::<Stock>::new, |stocks, batch| {
        for index in 0..batch.rows.len() {
            let group = batch.groups[index] as usize;
            if group >= stocks.len() {
                stocks.resize(group + 1, Stock::default());
            }
            let scored = u64::from(!batch.scores[index].is_nan());
            stocks[group].scored += scored;
            stocks[group].unscored += 1 - scored;
            stocks[group].tokens += u64::from(batch.tokens[index]);
        }
        Ok(())
    })?;
    let mut stocks = vec![Stock::default(); feed.groups().len()];
    for part in parts {
        for (stock, more) in stocks.iter_mut().zip(part) {
            stock.scored += more.scored;
            stock.unscored += more.unscored;
            stock.tokens += more.tokens;
        }
    }
    Ok(stocks)
}

/// The order of the rows: smaller keys are better, then higher hashes (where ties are decided so), then lower rows.
struct Ranking<'a> {
    feed: &'a Feed<'a>,
    direction: Direction,
    seed: Option<u64>,
    expectation: Option<Expectation>,
}

impl<'a> Ranking<'a> {
    fn of(feed: &'a Feed<'a>, request: &SelectRequest, stocks: &[Stock], watch: &Watch) -> Result<Self> {
        let seed = (request.ties == Ties::Random).then_some(request.measure.seed);
        let expectation = if request.measure.method == Method::Progress {
            let scored: Vec<u64> = stocks.iter().map(|stock| stock.scored).collect();
            Some(Expectation::of(feed, request.bins, &scored, watch)?)
        } else {
            None
        };
        Ok(Self { feed, direction: request.direction, seed, expectation })
    }

    /// The score of a record, NaN if it has none.
    fn score(&self, batch: &Batch, index: usize) -> f32 {
        let score = batch.scores[index];
        match &self.expectation {
            Some(expectation) if !score.is_nan() => {
                expectation.at(batch.groups[index], batch.starts[index]) - score
            }
            _ => score,
        }
    }

    fn key(&self, score: f32) -> u32 {
        if self.direction == Direction::Bottom { order(score) } else { !order(score) }
    }

    fn hash(&self, row: u64) -> u64 {
        self.seed.map_or(0, |seed| !row_hash(row, seed))
    }

    /// Where every group is cut, `left` being what it may keep.
    fn cuts(&self, stocks: &[Stock], left: &[Left], watch: &Watch) -> Result<Vec<Cut>> {
        let mut cuts = vec![Cut::default(); stocks.len()];
        let mut searches = Vec::new();
        let mut find = |group: usize, left: Left| match left {
            Left::Rows(0) => Edge::Nothing,
            Left::Rows(rows) if rows >= stocks[group].scored => Edge::Everything,
            Left::Tokens(tokens) if tokens >= stocks[group].tokens => Edge::Everything,
            left => {
                searches.push(Search::new(group, left));
                Edge::Search(searches.len() - 1)
            }
        };
        for (group, (cut, &left)) in cuts.iter_mut().zip(left).enumerate() {
            let skipped = match (self.direction, left) {
                (Direction::Middle, Left::Rows(rows)) => (stocks[group].scored - rows) / 2,
                _ => 0,
            };
            let left = if let Left::Rows(rows) = left { Left::Rows(rows + skipped) } else { left };
            cut.edges = [find(group, Left::Rows(skipped)), find(group, left)];
        }
        let item = |batch: &Batch, index: usize| {
            let score = self.score(batch, index);
            (!score.is_nan()).then(|| (batch.groups[index] as usize, self.key(score)))
        };
        descend(self.feed, &mut searches, self.seed, item, watch)?;
        for edge in cuts.iter_mut().flat_map(|cut| &mut cut.edges) {
            if let Edge::Search(number) = *edge {
                let search = &searches[number];
                *edge = Edge::At { key: search.key(), hash: search.hash(), left: search.left };
            }
        }
        Ok(cuts)
    }
}

/// The last pass: decides row by row and writes the shards.
fn write(
    ranking: &Ranking<'_>,
    cuts: &mut [Cut],
    request: &SelectRequest,
    watch: &Watch,
) -> Result<Vec<ShardWritten>> {
    let feed = ranking.feed;
    let mut writer = Writer::new(&request.out, &request.plan, feed.shards());
    let all = 0..feed.shards().map_or(1, <[_]>::len);
    feed.stream(all, watch, &mut |batch| {
        for (index, &row) in batch.rows.iter().enumerate() {
            let score = ranking.score(batch, index);
            let kept = if score.is_nan() {
                false
            } else {
                let Some(cut) = cuts.get_mut(batch.groups[index] as usize) else {
                    return Err(Error::input(
                        "what is read has changed while it was read: run the step again",
                    ));
                };
                cut.decide(ranking.key(score), ranking.hash(row), batch.tokens[index], score)
            };
            writer.add(row, kept, score)?;
        }
        Ok(())
    })?;
    writer.finish()
}

/// Whether this request can be meant; `catprune select` has checked it before with better words.
fn check(request: &SelectRequest) -> Result<()> {
    let budget = matches!(request.keep, Keep::Tokens(_) | Keep::TokenFraction(..));
    let scores = matches!(request.measure.source, Source::Scores { .. });
    if budget && (!scores || request.direction == Direction::Middle) {
        return Err(Error::input("a token budget needs scores of checkpoints, and top or bottom"));
    }
    Ok(())
}
