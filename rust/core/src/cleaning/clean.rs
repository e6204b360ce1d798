//! Cleaning: one pass over the text that judges every pair by the rules, drops exact duplicates among the
//! survivors, and writes verdicts and measures as columns beside the corpus.

use std::fs;

use crate::cleaning::decisions::Verdicts;
use crate::cleaning::reasons::EXCLUDED;
use crate::cleaning::request::{CleanRequest, Cleaned, Prefer};
use crate::cleaning::rules::{Judge, judge_structure};
use crate::cleaning::sink::Ledger;
use crate::cleaning::test_sets::Exclusion;
use crate::columns::external::Column;
use crate::corpus::chunk::Chunk;
use crate::corpus::pipeline::{UnderWay, stream_within};
use crate::corpus::row_filter::KeptIn;
use crate::duplicates::fingerprints::{Fingerprints, Key};
use crate::duplicates::near::signature::Signatures;
use crate::text::normal_form::{Form, Normaliser};
use crate::{Error, Result, Watch};

/// Text under way may take this share of the memory.
const TEXT_SHARE: usize = 8;

pub fn clean(request: &CleanRequest, watch: &Watch) -> Result<Cleaned> {
    let exact = request.duplicates != Key::None;
    let folders = [("duplicates", exact || request.near_duplicates.is_some()), ("fingerprints", exact)];
    for (name, _) in folders.iter().filter(|(_, wanted)| *wanted) {
        let folder = request.out.join(name);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    }
    let exclusion = Exclusion::read(&request.exclude, request.corpus.max_line_bytes, request.memory, watch)?;
    let judges = Judges {
        request,
        exclusion: &exclusion,
        exact: Normaliser::new(request.duplicates_form),
        near: Normaliser::new(Form::NORMALISED),
    };
    let kind = Ledger::kind(request);
    let best = match &request.prefer {
        Prefer::Column { path, column } => Some(Column::open(std::slice::from_ref(path), column)?),
        Prefer::First | Prefer::Inputs(_) => None,
    };
    let mut ledger = Ledger::new(request, &kind, &exclusion, best.as_ref(), watch)?;
    let read = stream_within(
        UnderWay { bytes: request.memory / TEXT_SHARE, record_bytes: request.band_bytes() },
        &request.corpus,
        &KeptIn::All,
        request.threads,
        watch,
        |chunk| judges.judge(chunk),
        |verdicts| {
            watch.add(0, verdicts.chunk.len() as u64);
            ledger.add(verdicts)?;
            Ok(true)
        },
    );
    match read.and_then(|read| ledger.finish(read)) {
        Ok(()) => Ok(ledger.into_cleaned()),
        // What was read is not a corpus: nothing of it stays.
        Err(error @ Error::Input(_)) => {
            ledger.discard()?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// What the workers judge by.
struct Judges<'a> {
    request: &'a CleanRequest,
    exclusion: &'a Exclusion,
    exact: Normaliser,
    near: Normaliser,
}

impl Judges<'_> {
    fn judge(&self, chunk: Chunk) -> Result<Verdicts> {
        let request = self.request;
        let parts = request.duplicates.parts();
        let mut fingerprints = Fingerprints::new(&self.exact, request.duplicates_form);
        let mut signatures = request.near_duplicates.as_ref().map(|near| Signatures::new(near, &self.near));
        let mut judge = request.rules.get(chunk.input).map(Judge::new).transpose()?;
        let mut normal = String::new();
        let monolingual = chunk.monolingual;
        let mut verdicts = Verdicts::new(chunk, parts.len(), self.exclusion.sets.len());
        for index in 0..verdicts.chunk.len() {
            let record = verdicts.chunk.record(index);
            let (mut reasons, text) = match &mut judge {
                Some(judge) => {
                    let judged = if monolingual { judge.judge_target(record) } else { judge.judge(record) };
                    verdicts.measures.push([judged.source, judged.target]);
                    (judged.reasons, judged.text)
                }
                None => judge_structure(record),
            };
            for set in text
                .into_iter()
                .flat_map(|(source, target)| self.exclusion.find([source, target], &mut normal))
            {
                verdicts.excluded[set as usize] += 1;
                reasons |= EXCLUDED;
            }
            verdicts.reasons.push(reasons);
            let Some((source, target)) = text.filter(|_| reasons == 0) else { continue };
            verdicts.survivors.rows.push(verdicts.chunk.first + index as u64);
            for (&part, keyed) in parts.iter().zip(&mut verdicts.survivors.keys) {
                keyed.fingerprints.push(fingerprints.of(part, source, target));
                if request.verify {
                    fingerprints.append_text(part, source, target, &mut keyed.texts);
                    keyed.ends.push(keyed.texts.len());
                }
            }
            if let Some(signatures) = &mut signatures {
                verdicts.sketches.push(signatures.of(source, target, &mut verdicts.bands));
            }
        }
        Ok(verdicts)
    }
}
