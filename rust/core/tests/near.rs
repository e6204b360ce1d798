//! Tests of the parts of near duplicates: signatures (equal to those of the Python oracle), components (equal to a
//! plain search), rows that are left out.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use catprune_core::Progress;
use catprune_core::duplicates::fingerprints::Key;
use catprune_core::duplicates::near::buckets::NearDuplicates;
use catprune_core::duplicates::near::components::Components;
use catprune_core::duplicates::near::signature::{NearOptions, Signatures, Unit};
use catprune_core::text::normal_form::{Form, Normaliser};
use xxhash_rust::xxh3::xxh3_64_with_seed;

fn options(key: Key, permutations: usize, bands: usize, shingles: Unit, shingle_size: usize) -> NearOptions {
    NearOptions { key, threshold: 0.8, permutations, bands, shingles, shingle_size }
}

#[test]
fn signatures_equal_the_recorded_ones() {
    let mut bands = Vec::new();
    let normaliser = Normaliser::new(Form::NORMALISED);
    let pair = options(Key::Pair, 40, 3, Unit::Characters, 5);
    let sketch = Signatures::new(&pair, &normaliser).of("Ein Haus am See.", "a House", &mut bands);
    assert_eq!(bands, [0xe580_44b6_2f70_adbb, 0xabea_150d_25d2_f55e, 0xf65a_144d_4014_8bab]);
    assert_eq!(sketch, Some(0x9c_6434_5f39));
    bands.clear();
    let source = options(Key::Source, 200, 2, Unit::Words, 2);
    let sketch = Signatures::new(&source, &normaliser).of("Ein Haus am See.", "a House", &mut bands);
    assert_eq!(bands, [0x7f49_1943_5a85_5063, 0xa159_dd77_33e0_1ecd]);
    assert_eq!(sketch, Some(0x6494_a747_ff18_7c7c_ef43_46c5_d06e_1aad));
    assert_eq!(Signatures::new(&source, &normaliser).of(" ", "a House", &mut bands), None);
}

#[test]
fn a_threshold_is_rounded_to_whole_bits() {
    let with = |threshold, permutations| {
        NearOptions { threshold, permutations, ..options(Key::Pair, 0, 1, Unit::Words, 1) }.most_differing()
    };
    assert_eq!([with(0.8, 20), with(0.8, 128), with(0.5, 4096), with(0.999, 128)], [2, 12, 32, 0]);
}

/// A seeded random number below `below`.
fn draw(index: u64, seed: u64, below: u64) -> u64 {
    xxh3_64_with_seed(&index.to_le_bytes(), seed) % below
}

#[test]
fn components_equal_a_plain_search() {
    let folder = std::env::temp_dir();
    for seed in 0..60 {
        let rows = 1 + draw(0, seed, 120);
        let count = draw(1, seed, 2 * rows);
        let links: Vec<(u64, u64)> = (0..count)
            .map(|link| (draw(2 + link, seed, rows), draw(1000 + link, seed, rows)))
            .filter(|(a, b)| a != b)
            .map(|(a, b)| (a.max(b), a.min(b)))
            .collect();
        let mut labels: Vec<u64> = (0..rows).collect();
        for &(a, b) in &links {
            let (a, b) = (labels[a as usize], labels[b as usize]);
            labels.iter_mut().filter(|label| **label == a.max(b)).for_each(|label| *label = a.min(b));
        }
        let expected: Vec<(u64, u64)> = (0..rows).zip(labels).filter(|(row, label)| row != label).collect();
        // Ranges of 1, 5 and all rows.
        for memory in [1, 60, 1 << 20] {
            let mut components = Components::new(rows, &folder, memory).unwrap();
            for &(row, earlier) in &links {
                components.link(row, earlier).unwrap();
            }
            let labels: Vec<_> =
                components.finish(&Progress::default()).unwrap().map(|label| label.unwrap()).collect();
            assert_eq!(labels, expected, "seed {seed}, memory {memory}");
        }
    }
}

#[test]
fn rows_that_are_left_out_link_no_others() {
    let pair = options(Key::Pair, 128, 16, Unit::Characters, 5);
    let texts =
        ["a house by the lake, in the woods", "a house by the lake in the woods", "another text altogether"];
    let find = |left_out: &[u64], threads: usize| {
        let mut near = NearDuplicates::new(&pair, &std::env::temp_dir(), 1 << 20).unwrap();
        let normaliser = Normaliser::new(Form::NORMALISED);
        let mut signatures = Signatures::new(&pair, &normaliser);
        for (row, text) in texts.iter().cycle().take(7).enumerate() {
            let mut bands = Vec::new();
            let sketch = signatures.of(text, "a target", &mut bands).unwrap();
            near.add(10 * row as u64, &bands, sketch, 0.5).unwrap();
        }
        for &row in left_out {
            near.leave_out(row);
        }
        near.resolve(threads, &Progress::default()).unwrap().collect::<Result<BTreeMap<_, _>, _>>().unwrap()
    };
    for threads in [1, 2, 8] {
        assert_eq!(find(&[], threads), BTreeMap::from([(10, 0), (30, 0), (40, 0), (60, 0), (50, 20)]));
        assert_eq!(find(&[0, 20, 40], threads), BTreeMap::from([(30, 10), (60, 10)]));
    }
}

#[test]
fn rows_whose_bits_do_not_fit_into_memory_are_refused() {
    let pair = options(Key::Pair, 128, 16, Unit::Characters, 5);
    let mut near = NearDuplicates::new(&pair, &std::env::temp_dir(), 1 << 20).unwrap();
    // A quarter of the memory has the bits of 2^21 rows.
    near.add((1 << 21) + 7, &[0; 16], 0, 0.5).unwrap();
    let error = near.add((1 << 21) + 8, &[0; 16], 0, 0.5).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("row 2097160 (rows count from 0): near duplicates of more rows do not fit into memory")
    );
}
