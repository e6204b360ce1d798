//! The cut of a ranking: decides row by row what is kept, and counts it.

use serde::Serialize;

use crate::columns::float32::{FIRST, LAST, from_order, order};
use crate::selection::budget::{Budget, GroupCounts};

/// The result of a selection, in total or for one group.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Counts {
    pub scored: u64,
    pub unscored: u64,
    /// Records that a guard has dropped; they count neither as scored nor as unscored.
    pub guarded: u64,
    pub kept: u64,
    /// Kept records of trusted inputs and tags, which are kept without being ranked, with a score or not.
    pub trusted: u64,
    /// Target tokens of the scored records; None if the source has no tokens.
    pub tokens: Option<u64>,
    pub tokens_kept: Option<u64>,
    /// Rows with the score at a cut, if only some of them are kept.
    pub decided_by_ties: u64,
    /// The lowest and the highest kept score.
    pub lowest: Option<f32>,
    pub highest: Option<f32>,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.scored += other.scored;
        self.unscored += other.unscored;
        self.guarded += other.guarded;
        self.trusted += other.trusted;
        self.kept += other.kept;
        self.tokens = self.tokens.zip(other.tokens).map(|(a, b)| a + b);
        self.tokens_kept = self.tokens_kept.zip(other.tokens_kept).map(|(a, b)| a + b);
        self.decided_by_ties += other.decided_by_ties;
        let extreme =
            |a: Option<f32>, b: Option<f32>, of: fn(f32, f32) -> f32| a.into_iter().chain(b).reduce(of);
        self.lowest = extreme(self.lowest, other.lowest, f32::min);
        self.highest = extreme(self.highest, other.highest, f32::max);
    }
}

/// The rows before a position in the ranking of a group.
#[derive(Debug, Default, Clone, Copy)]
pub enum Edge {
    #[default]
    Nothing,
    Everything,
    /// The position that the search of this number finds.
    Search(usize),
    /// All rows with better keys, and rows with exactly this key (and hash) as long as `left` has room.
    At {
        key: u32,
        hash: Option<u64>,
        left: Budget,
    },
}

impl Edge {
    /// Whether a row is before this position; must be called in row order.
    pub fn admits(&mut self, key: u32, hash: u64, tokens: u32) -> bool {
        match self {
            Self::Nothing | Self::Search(_) => false,
            Self::Everything => true,
            Self::At { key: cut, hash: edge, left } => {
                match (key, edge.map_or(0, |_| hash)).cmp(&(*cut, edge.unwrap_or(0))) {
                    std::cmp::Ordering::Less => true,
                    std::cmp::Ordering::Greater => false,
                    std::cmp::Ordering::Equal => room(left, u64::from(tokens)),
                }
            }
        }
    }

    pub fn key(&self) -> Option<u32> {
        if let Self::At { key, .. } = self { Some(*key) } else { None }
    }
}

/// Takes one row from the budget; the first row that does not fit ends a token budget.
fn room(left: &mut Budget, tokens: u64) -> bool {
    match left {
        Budget::Rows(rows) if *rows > 0 => *rows -= 1,
        Budget::Tokens(budget) if tokens <= *budget => *budget -= tokens,
        other => {
            *other = Budget::Rows(0);
            return false;
        }
    }
    true
}

/// The cut of one group: rows before the second edge and not before the first are kept.
#[derive(Debug, Default, Clone)]
pub struct Cut {
    pub edges: [Edge; 2],
    /// Whether all records are kept, whatever their scores.
    pub trusted: bool,
    kept: u64,
    tokens_kept: u64,
    lowest: Option<u32>,
    highest: Option<u32>,
    /// Rows with the key of each edge, and how many of them are kept.
    tied: [(u64, u64); 2],
}

impl Cut {
    /// Whether a row without a score is kept; true in a trusted group.
    pub fn decide_unscored(&mut self) -> bool {
        self.kept += u64::from(self.trusted);
        self.trusted
    }

    /// Whether a row is kept; rows must come in row order.
    pub fn decide(&mut self, key: u32, hash: u64, tokens: u32, score: f32) -> bool {
        if self.trusted {
            self.tokens_kept += u64::from(tokens);
            return self.decide_unscored();
        }
        let [skipped, before] = self.edges.each_mut().map(|edge| edge.admits(key, hash, tokens));
        let kept = before && !skipped;
        for (edge, (tied, tied_kept)) in self.edges.iter().zip(&mut self.tied) {
            if edge.key() == Some(key) {
                *tied += 1;
                *tied_kept += u64::from(kept);
            }
        }
        if kept {
            let place = order(score);
            self.kept += 1;
            self.tokens_kept += u64::from(tokens);
            self.lowest = Some(self.lowest.map_or(place, |lowest| lowest.min(place)));
            self.highest = Some(self.highest.map_or(place, |highest| highest.max(place)));
        }
        kept
    }

    /// Decides a batch of one group without hashes; `flip` turns an order into a key.
    pub fn decide_all(&mut self, scores: &[f32], tokens: &[u32], flip: u32, kept: &mut Vec<bool>) {
        // Keys from `first` on and below `end` are kept; rows at the edges are decided one by one, and NaN is outside.
        let first = match self.edges[0] {
            Edge::At { key, .. } => key + 1,
            Edge::Everything => u32::MAX,
            Edge::Nothing | Edge::Search(_) => FIRST,
        };
        let end = match self.edges[1] {
            Edge::At { key, .. } => key,
            Edge::Everything => LAST + 1,
            Edge::Nothing | Edge::Search(_) => 0,
        };
        let [from, until] = self.edges.each_ref().map(|edge| edge.key().unwrap_or(u32::MAX));
        let (mut least, mut most, mut count, mut tied) = (u32::MAX, 0, 0_u32, false);
        kept.resize(scores.len(), false);
        for (&score, kept) in scores.iter().zip(kept.iter_mut()) {
            let key = order(score) ^ flip;
            let inside = first <= key && key < end;
            least = least.min(if inside { key } else { u32::MAX });
            most = most.max(if inside { key } else { 0 });
            count += u32::from(inside);
            tied |= key == from || key == until;
            *kept = inside;
        }
        if count > 0 {
            let (a, b) = ((least ^ flip).min(most ^ flip), (least ^ flip).max(most ^ flip));
            self.lowest = Some(self.lowest.map_or(a, |lowest| lowest.min(a)));
            self.highest = Some(self.highest.map_or(b, |highest| highest.max(b)));
            self.kept += u64::from(count);
            let inner = kept.iter().zip(tokens).filter(|&(&kept, _)| kept);
            self.tokens_kept += inner.map(|(_, &tokens)| u64::from(tokens)).sum::<u64>();
        }
        if tied {
            for (index, &score) in scores.iter().enumerate() {
                let key = order(score) ^ flip;
                if (key == from || key == until) && !score.is_nan() {
                    kept[index] = self.decide(key, 0, tokens.get(index).copied().unwrap_or(0), score);
                }
            }
        }
    }

    /// Whether `decide_all` may be used: the group is ranked, and no hash decides ties.
    pub fn is_plain(&self) -> bool {
        !self.trusted && !self.edges.iter().any(|edge| matches!(edge, Edge::At { hash: Some(_), .. }))
    }

    /// The result of a group with these counts; `counted` says whether it has tokens.
    pub fn counts(self, counts: &GroupCounts, counted: bool) -> Counts {
        let decided = self.tied.map(|(tied, kept)| if 0 < kept && kept < tied { tied } else { 0 });
        let same = self.edges[0].key() == self.edges[1].key();
        Counts {
            scored: counts.scored,
            unscored: counts.unscored,
            guarded: counts.guarded,
            trusted: if self.trusted { self.kept } else { 0 },
            kept: self.kept,
            tokens: counted.then_some(counts.tokens),
            tokens_kept: counted.then_some(self.tokens_kept),
            decided_by_ties: if same { decided[0] } else { decided.iter().sum() },
            lowest: self.lowest.map(from_order),
            highest: self.highest.map(from_order),
        }
    }
}
