//! Criterion benches of every pass, on one thread, over the generated corpus.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use crate::generated::{Bench, PASSES};

mod generated;

const PAIRS: u64 = 100_000;

fn passes(criterion: &mut Criterion) {
    let folder = std::env::temp_dir().join(format!("catprune-bench-{}", std::process::id()));
    let bench = Bench::open(&folder, PAIRS);
    bench.prepare();
    let mut group = criterion.benchmark_group("passes");
    group.sample_size(10);
    for pass in PASSES {
        group.throughput(Throughput::Elements(bench.records(pass)));
        group.bench_function(pass, |bencher| bencher.iter(|| bench.run(black_box(pass))));
    }
    group.finish();
    fs::remove_dir_all(folder).unwrap();
}

criterion_group!(benches, passes);
criterion_main!(benches);
