//! Runs one pass over the generated corpus in its own process, so that `instructions.py` can count its instructions
//! under valgrind: those inside `measured_pass`, on all threads.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::env;
use std::hint::black_box;
use std::path::Path;

use serde_json::{Value, json};

use crate::generated::{Bench, PASSES};

mod generated;

const PAIRS: u64 = 20_000;
/// The number of runs of a cheap pass, to average out the alignment of its buffers, which changes the cost of copies.
const TIMES: u64 = 8;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["describe"] => println!("{}", describe()),
        ["prepare", folder] => {
            let bench = Bench::open(Path::new(folder), PAIRS);
            bench.prepare();
            let records: Value = PASSES
                .iter()
                .map(|&pass| (pass.to_owned(), json!(bench.records(pass) * times(pass))))
                .collect();
            println!("{records}");
        }
        ["run", folder, pass] => measured_pass(&Bench::open(Path::new(folder), PAIRS), pass),
        _ => panic!("give describe, prepare FOLDER, or run FOLDER PASS"),
    }
}

/// The counter finds this function by its name, so it must not be inlined.
#[inline(never)]
fn measured_pass(bench: &Bench, pass: &str) {
    for _ in 0..times(pass) {
        bench.run(black_box(pass));
    }
}

fn times(pass: &str) -> u64 {
    if pass.starts_with("read_") || pass == "write_plain" { TIMES } else { 1 }
}

/// The features that the compiler could use, and those of the processor (under valgrind, those that valgrind emulates):
/// libraries choose their code by them.
fn describe() -> Value {
    let compiled = [
        ("sse4.2", cfg!(target_feature = "sse4.2")),
        ("avx2", cfg!(target_feature = "avx2")),
        ("bmi2", cfg!(target_feature = "bmi2")),
        ("avx512f", cfg!(target_feature = "avx512f")),
        ("neon", cfg!(target_feature = "neon")),
        ("crt-static", cfg!(target_feature = "crt-static")),
    ];
    let names = |features: &[(&'static str, bool)]| -> Vec<&'static str> {
        features.iter().filter(|(_, present)| *present).map(|(name, _)| *name).collect()
    };
    json!({
        "target": format!("{}-{}", env::consts::ARCH, env::consts::OS),
        "compiled_features": names(&compiled),
        "detected_features": names(&detected()),
    })
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Vec<(&'static str, bool)> {
    vec![
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("popcnt", is_x86_feature_detected!("popcnt")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("lzcnt", is_x86_feature_detected!("lzcnt")),
        ("vpclmulqdq", is_x86_feature_detected!("vpclmulqdq")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Vec<(&'static str, bool)> {
    Vec::new()
}
