//! The `select` pass: decides exactly which rows are kept, in bounded memory, by a few passes over the records and a last
//! one that writes.

use serde::Serialize;

use crate::columns::float32::order;
use crate::columns::npy::RowsWriter;
use crate::selection::batch::Batch;
use crate::selection::budget::{Budget, GroupCounts, Sharing, quotas};
use crate::selection::cut::{Counts, Cut, Edge};
use crate::selection::methods::row_hash;
use crate::selection::request::{Direction, SelectRequest, Source, Ties, Within};
use crate::selection::scan::Scan;
use crate::selection::scored_records::ScoredRecords;
use crate::selection::statistics::order_statistics::{Search, descend};
use crate::selection::writer::{SelectionShard, Writer};
use crate::{Error, Progress, Result};

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
    pub shards: Vec<SelectionShard>,
}

/// Selects and writes the selection's shards, or the rows alone.
pub fn select(request: &SelectRequest, progress: &Progress) -> Result<Selection> {
    check(request)?;
    let mut records = ScoredRecords::new(&request.measure)?;
    let group_counts = census(&records, progress)?;
    let names = records.groups.names();
    let sorted = in_order(request, &records.groups.kinds());
    let left = share_out(request, &group_counts, &sorted)?;
    let scored: Vec<u64> = group_counts.iter().map(|counts| counts.scored).collect();
    records.learn(group_counts.iter().map(GroupCounts::records).sum(), &scored, progress)?;
    let seed = (request.ties == Ties::Random).then_some(request.measure.seed);
    let ranking = Ranking { records: &records, direction: request.direction, seed };
    let mut cuts = ranking.cuts(&group_counts, &left, progress)?;
    let shards = if request.rows {
        let count = kept_in_all(&group_counts, &left, &cuts);
        write_rows(&ranking, &mut cuts, request, count, progress)?;
        Vec::new()
    } else {
        write_shards(&ranking, &mut cuts, request, progress)?
    };
    let counts: Vec<Counts> = cuts
        .into_iter()
        .zip(&group_counts)
        .map(|(cut, counts)| cut.counts(counts, records.has_tokens()))
        .collect();
    let mut all = Counts {
        tokens: records.has_tokens().then_some(0),
        tokens_kept: records.has_tokens().then_some(0),
        ..Counts::default()
    };
    for group in &counts {
        all.add(group);
    }
    // A group may get a name although none of its rows is a record: such a group is not reported.
    let reported =
        sorted.iter().filter(|&&group| !records.groups.is_one() && group_counts[group].records() > 0);
    let groups =
        reported.map(|&group| Group { name: names[group].clone(), counts: counts[group].clone() }).collect();
    Ok(Selection { counts: all, groups, shards })
}

/// The order of the groups: own groups in the order of the request, then tags by the bytes of their names, or inputs and
/// lengths by number. Tags are numbered as threads see them, so their numbers have no fixed order.
fn in_order(request: &SelectRequest, kinds: &[String]) -> Vec<usize> {
    let exposures = request.measure.exposure_combinations() as usize;
    let mut sorted: Vec<usize> = (0..kinds.len() * exposures).collect();
    if request.measure.within == Some(Within::Tag) {
        sorted[request.measure.own.len() * exposures..]
            .sort_by_key(|&group| (&kinds[group / exposures], group % exposures));
    }
    sorted
}

/// The budget of every group: own groups have their own share, the others share the general one.
fn share_out(request: &SelectRequest, group_counts: &[GroupCounts], sorted: &[usize]) -> Result<Vec<Budget>> {
    let (own, exposures) = (&request.measure.own, request.measure.exposure_combinations() as usize);
    let mut left = vec![Budget::Rows(0); group_counts.len()];
    for (number, own) in own.iter().enumerate() {
        let groups = number * exposures..(number + 1) * exposures;
        if group_counts[groups.clone()].iter().all(|counts| counts.records() == 0) {
            return Err(Error::input(format!(
                "{}: no record is of it (or another option takes it first)",
                own.label
            )));
        }
        if let Some(keep) = own.keep {
            let quotas = quotas(keep, Sharing::Proportional, &group_counts[groups.clone()])
                .map_err(|error| Error::input(format!("{}: {error}", own.label)))?;
            left[groups].copy_from_slice(&quotas);
        }
    }
    let others = &sorted[own.len() * exposures..];
    let ordered: Vec<GroupCounts> = others.iter().map(|&group| group_counts[group]).collect();
    let clustered = request.measure.clusters.is_some();
    let sharing = if clustered { Sharing::Balanced } else { Sharing::Proportional };
    for (&group, quota) in others.iter().zip(quotas(request.keep, sharing, &ordered)?) {
        left[group] = quota;
    }
    Ok(left)
}

/// How many rows will be kept; None for a token budget.
fn kept_in_all(group_counts: &[GroupCounts], left: &[Budget], cuts: &[Cut]) -> Option<u64> {
    let groups = group_counts.iter().zip(left).zip(cuts);
    let kept = groups.map(|((counts, left), cut)| match left {
        _ if cut.trusted => Some(counts.records()),
        Budget::Rows(rows) => Some(*rows),
        Budget::Tokens(_) => None,
    });
    kept.sum()
}

/// Counts the records of every group.
fn census(records: &ScoredRecords<'_>, progress: &Progress) -> Result<Vec<GroupCounts>> {
    if let Some(count) = records.count() {
        return Ok(vec![GroupCounts { scored: count, ..GroupCounts::default() }]);
    }
    let parts = records.fold(true, progress, Vec::<GroupCounts>::new, |group_counts, batch| {
        if batch.groups.is_empty() && batch.guarded.is_empty() {
            group_counts.resize(1, GroupCounts::default());
            let scored = batch.scores.iter().map(|score| u64::from(!score.is_nan())).sum::<u64>();
            group_counts[0].scored += scored;
            group_counts[0].unscored += batch.scores.len() as u64 - scored;
            let tokens = batch.scores.iter().zip(&batch.tokens);
            group_counts[0].tokens +=
                tokens.map(|(score, &tokens)| u64::from(tokens) * u64::from(!score.is_nan())).sum::<u64>();
            return Ok(());
        }
        for (index, score) in batch.scores.iter().enumerate() {
            let group = batch.group(index);
            if group >= group_counts.len() {
                group_counts.resize(group + 1, GroupCounts::default());
            }
            let counts = &mut group_counts[group];
            if !score.is_nan() {
                counts.scored += 1;
                counts.tokens += u64::from(batch.token(index));
            } else if batch.guarded.get(index) == Some(&true) {
                counts.guarded += 1;
            } else {
                counts.unscored += 1;
            }
        }
        Ok(())
    })?;
    let mut group_counts = vec![GroupCounts::default(); records.groups.names().len()];
    for part in parts {
        for (counts, more) in group_counts.iter_mut().zip(&part) {
            counts.add(more);
        }
    }
    Ok(group_counts)
}

/// The order of the rows: smaller keys first, then higher hashes (if ties are decided at random), then lower rows.
struct Ranking<'a> {
    records: &'a ScoredRecords<'a>,
    direction: Direction,
    seed: Option<u64>,
}

impl Ranking<'_> {
    /// The bits that turn the order of a score into a key.
    fn flip(&self) -> u32 {
        if self.direction == Direction::Bottom { 0 } else { u32::MAX }
    }

    fn key(&self, score: f32) -> u32 {
        order(score) ^ self.flip()
    }

    fn hash(&self, batch: &Batch, index: usize) -> u64 {
        self.seed.map_or(0, |seed| !row_hash(batch.rows[index], seed))
    }

    /// The cut of every group; `left` are the budgets.
    fn cuts(&self, group_counts: &[GroupCounts], left: &[Budget], progress: &Progress) -> Result<Vec<Cut>> {
        let mut cuts = vec![Cut::default(); group_counts.len()];
        let mut searches = Vec::new();
        let mut find = |group: usize, left: Budget| match left {
            Budget::Rows(0) => Edge::Nothing,
            Budget::Rows(rows) if rows >= group_counts[group].scored => Edge::Everything,
            Budget::Tokens(tokens) if tokens >= group_counts[group].tokens => Edge::Everything,
            left => {
                searches.push(Search::new(group, left));
                Edge::Search(searches.len() - 1)
            }
        };
        for (group, (cut, &left)) in cuts.iter_mut().zip(left).enumerate() {
            cut.trusted = self.records.groups.is_trusted(group);
            let skipped = match (self.direction, left) {
                (Direction::Middle, Budget::Rows(rows)) => (group_counts[group].scored - rows) / 2,
                _ => 0,
            };
            let left = if let Budget::Rows(rows) = left { Budget::Rows(rows + skipped) } else { left };
            cut.edges = [find(group, Budget::Rows(skipped)), find(group, left)];
        }
        let item = |batch: &Batch, index: usize| {
            let score = batch.scores[index];
            (!score.is_nan()).then(|| (batch.group(index), self.key(score)))
        };
        descend(self.records, &mut searches, self.seed, Some(self.flip()), item, progress)?;
        for edge in cuts.iter_mut().flat_map(|cut| &mut cut.edges) {
            if let Edge::Search(number) = *edge {
                let search = &searches[number];
                *edge = Edge::At { key: search.key(), hash: search.hash(), left: search.left };
            }
        }
        Ok(cuts)
    }

    /// Decides batch by batch, in row order, and calls `take` with the decisions; with `rowless`, batches may lack rows.
    fn decide(
        &self,
        cuts: &mut [Cut],
        rowless: bool,
        progress: &Progress,
        take: &mut dyn FnMut(&Batch, &[bool]) -> Result<()>,
    ) -> Result<()> {
        let mut kept = Vec::new();
        self.records.all(rowless && self.seed.is_none(), progress, &mut |batch| {
            kept.clear();
            if let ([cut], true) = (&mut *cuts, batch.groups.is_empty())
                && cut.is_plain()
            {
                cut.decide_all(&batch.scores, &batch.tokens, self.flip(), &mut kept);
                return take(batch, &kept);
            }
            for (index, &score) in batch.scores.iter().enumerate() {
                let Some(cut) = cuts.get_mut(batch.group(index)) else {
                    return Err(Error::input("the scores changed while they were read: run the step again"));
                };
                kept.push(if score.is_nan() {
                    cut.decide_unscored()
                } else {
                    cut.decide(self.key(score), self.hash(batch, index), batch.token(index), score)
                });
            }
            take(batch, &kept)
        })
    }
}

/// The last pass: writes the shards.
fn write_shards(
    ranking: &Ranking<'_>,
    cuts: &mut [Cut],
    request: &SelectRequest,
    progress: &Progress,
) -> Result<Vec<SelectionShard>> {
    let mut writer =
        Writer::new(&request.out, &request.plan, ranking.records.shards(), request.measure.threads);
    ranking.decide(cuts, false, progress, &mut |batch, kept| writer.add(&batch.rows, kept, &batch.scores))?;
    writer.finish()
}

/// The last pass if only row numbers are written. The header of the file needs their count; for a token budget, an
/// additional pass counts them first.
fn write_rows(
    ranking: &Ranking<'_>,
    cuts: &mut [Cut],
    request: &SelectRequest,
    count: Option<u64>,
    progress: &Progress,
) -> Result<()> {
    let mut rows = count.unwrap_or(0);
    if count.is_none() {
        ranking.decide(&mut cuts.to_vec(), true, progress, &mut |_, kept| {
            rows += kept.iter().filter(|&&kept| kept).count() as u64;
            Ok(())
        })?;
    }
    let mut writer = RowsWriter::create(&request.out.join("rows.npy"), rows, ranking.records.end())?;
    let gapless = ranking.records.is_gapless();
    ranking.decide(cuts, gapless, progress, &mut |batch, kept| writer.add(&batch.rows, kept))?;
    writer.finish()?;
    Ok(())
}

/// Checks the request; `catprune select` has checked it before, with better messages.
fn check(request: &SelectRequest) -> Result<()> {
    let own = request.measure.own.iter().filter_map(|own| own.keep);
    let budget = own.chain([request.keep]).any(|keep| keep.counts_tokens());
    let scores = matches!(request.measure.source, Source::Scores { .. });
    if budget && (!scores || request.direction == Direction::Middle) {
        return Err(Error::input("a token budget needs scores of checkpoints, and top or bottom"));
    }
    if request.measure.draw && request.direction != Direction::Top {
        return Err(Error::input("draw takes the top only: leave bottom and middle out"));
    }
    Ok(())
}
