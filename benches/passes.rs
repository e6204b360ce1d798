//! Criterion benches of the passes over text, on a generated corpus: Zipfian words, about 30% duplicates.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use catprune_core::Watch;
use catprune_core::clean::{CleanRequest, clean};
use catprune_core::corpus::{Corpus, Input, MAX_LINE_BYTES};
use catprune_core::draft::digest_file;
use catprune_core::duplicates::{Form, Key};
use catprune_core::kept::KeptIn;
use catprune_core::lines::FileRead;
use catprune_core::rules::Rules;
use catprune_core::write::{Output, WriteRequest, write};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const PAIRS: u64 = 100_000;

/// A number of the seeded stream: the same on every machine.
fn draw(row: u64, place: u64) -> u64 {
    xxh3_64_with_seed(&row.to_le_bytes(), place)
}

fn line(row: u64, language: u64) -> String {
    let row = if draw(row, 0) % 10 < 3 { draw(row, 1) % (row + 1) } else { row };
    let words = 4 + draw(row, 2) % 24;
    let spelled = (0..words).map(|word| {
        // A rank that is one in about half of the draws, and large in few.
        let rank = 20_000 >> (draw(row, 10 + word).trailing_zeros() + (draw(row, 100 + word) % 8) as u32);
        format!("w{language}{rank}")
    });
    spelled.collect::<Vec<_>>().join(" ") + "\n"
}

fn corpus() -> (PathBuf, Corpus) {
    let folder = std::env::temp_dir().join(format!("catprune-bench-{}", std::process::id()));
    fs::create_dir_all(folder.join("clean")).unwrap();
    let paths: Vec<PathBuf> = ["source", "target"].iter().map(|name| folder.join(name)).collect();
    for (language, path) in paths.iter().enumerate() {
        fs::write(path, (0..PAIRS).map(|row| line(row, language as u64)).collect::<Vec<_>>().concat())
            .unwrap();
    }
    let inputs = vec![Input::Moses { source: paths[0].clone(), target: paths[1].clone() }];
    (folder, Corpus { inputs, tags: None, max_line_bytes: MAX_LINE_BYTES })
}

fn passes(criterion: &mut Criterion) {
    let (folder, corpus) = corpus();
    let mut group = criterion.benchmark_group("pairs");
    group.throughput(Throughput::Elements(PAIRS)).sample_size(10);
    for (name, duplicates_form) in [("clean, raw duplicates", Form::Raw), ("clean", Form::Normalised)] {
        let request = CleanRequest {
            corpus: corpus.clone(),
            rules: vec![Rules::default()],
            duplicates: Key::Pair,
            duplicates_form,
            out: folder.join("clean"),
            dry_run: false,
            plan: String::new(),
            threads: 1,
            memory: 1 << 30,
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| clean(black_box(&request), &Watch::default()).unwrap());
        });
    }
    let files = ["source", "target"].map(|name| {
        let path = folder.join(name);
        let digest = digest_file(&path, &Watch::default()).unwrap();
        FileRead { bytes: fs::metadata(&path).unwrap().len(), path, digest }
    });
    let request = WriteRequest {
        corpus,
        files: files.to_vec(),
        kept: KeptIn::All,
        expected: PAIRS,
        output: Output::Moses {
            source: folder.join("written.source"),
            target: folder.join("written.target"),
        },
        threads: 1,
    };
    group.bench_function("write", |bencher| {
        bencher.iter(|| write(black_box(&request), &Watch::default()).unwrap());
    });
    group.finish();
    fs::remove_dir_all(folder).unwrap();
}

criterion_group!(benches, passes);
criterion_main!(benches);
