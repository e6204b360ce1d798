//! The `clean` pass: applies the rules to every record, finds duplicates among the remaining records, and writes
//! decisions and measures as columns. It reads the text once.

use crate::cleaning::decisions::{Decisions, add_measures};
use crate::cleaning::reasons::EXCLUDED;
use crate::cleaning::request::{CleanRequest, Cleaned, Prefer};
use crate::cleaning::rules::{RuleFilter, check_structure};
use crate::cleaning::sink::DecisionSink;
use crate::cleaning::state::{State, looks};
use crate::cleaning::test_sets::Exclusion;
use crate::columns::external::ExternalColumn;
use crate::corpus::chunk::Chunk;
use crate::corpus::pipeline::{InFlightLimit, stream_within};
use crate::corpus::row_filter::WantedRows;
use crate::duplicates::fingerprints::Fingerprints;
use crate::duplicates::near::signature::Signatures;
use crate::text::normal_form::{Form, Normaliser};
use crate::text::side::Measures;
use crate::{Error, Progress, Result};

/// Text in flight may use one part in this many of the memory.
const TEXT_SHARE: usize = 8;

pub fn clean(request: &CleanRequest, progress: &Progress) -> Result<Cleaned> {
    let exclusion = Exclusion::read(&request.exclude, &request.corpus, request.memory, progress)?;
    let workers = Workers {
        request,
        exclusion: &exclusion,
        exact: Normaliser::new(request.duplicates_form),
        near: Normaliser::new(Form::NORMALISED),
    };
    let best = match &request.prefer {
        Prefer::Column { path, column } => Some(ExternalColumn::open(std::slice::from_ref(path), column)?),
        Prefer::First | Prefer::Inputs(_) => None,
    };
    let looks = looks(request)?;
    let state = State::read(request, &looks, progress)?;
    let mut corpus = request.corpus.within(request.memory);
    if let Some(state) = &state {
        corpus.read_before.clone_from(&state.ended);
        corpus.from_row = state.end;
    }
    let from_row = corpus.from_row;
    let mut sink = DecisionSink::new(request, &exclusion, best.as_ref(), looks, progress)?;
    if let Some(state) = state {
        sink.restore(state)?;
    }
    let read = stream_within(
        InFlightLimit { bytes: request.memory / TEXT_SHARE, record_bytes: request.band_bytes() },
        &corpus,
        &WantedRows::All,
        request.threads,
        progress,
        |chunk| workers.decide(chunk, from_row),
        |decisions| {
            progress.add(0, decisions.chunk.len() as u64);
            sink.add(decisions)?;
            Ok(true)
        },
    );
    match read.and_then(|read| sink.finish(read)) {
        Ok(()) => Ok(sink.into_cleaned()),
        // The input is not a valid corpus: no shard of it stays.
        Err(error @ Error::Input(_)) => {
            sink.discard()?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// What the workers share: the request, the test sets and the normalisers.
struct Workers<'a> {
    request: &'a CleanRequest,
    exclusion: &'a Exclusion,
    exact: Normaliser,
    near: Normaliser,
}

impl Workers<'_> {
    /// Decides about the records from row `from` on; an earlier cleaning decided about those before.
    fn decide(&self, chunk: Chunk, from: u64) -> Result<Decisions> {
        let request = self.request;
        let parts = request.duplicates.parts();
        let mut fingerprints = Fingerprints::new(&self.exact, request.duplicates_form);
        let mut signatures = request.near_duplicates.as_ref().map(|near| Signatures::new(near, &self.near));
        let mut filter = request.rules.get(chunk.input).map(RuleFilter::new).transpose()?;
        let mut normal = String::new();
        let monolingual = chunk.monolingual;
        let mut decisions = Decisions::new(chunk, parts.len());
        let skipped = from.saturating_sub(decisions.chunk.first).min(decisions.chunk.len() as u64) as usize;
        decisions.reasons.resize(skipped, 0);
        let sides = |source, target| [Some(source).filter(|_| !monolingual), Some(target)];
        if filter.is_some() {
            let none = sides(Measures::default(), Measures::default());
            (0..skipped).for_each(|_| add_measures(&mut decisions.measures, none));
        }
        for index in skipped..decisions.chunk.len() {
            let row = decisions.chunk.first + index as u64;
            let record = decisions.chunk.record(index);
            let (mut reasons, text) = match &mut filter {
                Some(filter) => {
                    let decision =
                        if monolingual { filter.decide_target(record) } else { filter.decide(record) };
                    add_measures(&mut decisions.measures, sides(decision.source, decision.target));
                    (decision.reasons, decision.text)
                }
                None => check_structure(record),
            };
            for set in text
                .into_iter()
                .flat_map(|(source, target)| self.exclusion.find([source, target], &mut normal))
            {
                decisions.excluded.push((row, set));
                reasons |= EXCLUDED;
            }
            decisions.reasons.push(reasons);
            let Some((source, target)) = text.filter(|_| reasons == 0) else { continue };
            decisions.survivors.rows.push(row);
            for (&part, keyed) in parts.iter().zip(&mut decisions.survivors.keys) {
                keyed.fingerprints.push(fingerprints.of(part, source, target));
                if request.verify {
                    fingerprints.append_text(part, source, target, &mut keyed.texts);
                    keyed.ends.push(keyed.texts.len());
                }
            }
            if let Some(signatures) = &mut signatures {
                decisions.sketches.push(signatures.of(source, target, &mut decisions.bands));
            }
        }
        Ok(decisions)
    }
}
