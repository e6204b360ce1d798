//! Tests of parts that the Python tests cannot reach: edges of buffers, growth of the fingerprint table, pipelines that
//! end early.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use catprune_core::corpus::pipeline::stream;
use catprune_core::corpus::readers::lines::{CHUNK_LINES, LineReader};
use catprune_core::corpus::record::Record;
use catprune_core::corpus::request::{Corpus, Input};
use catprune_core::corpus::row_filter::WantedRows;
use catprune_core::duplicates::candidates::{Candidate, Layout};
use catprune_core::duplicates::first_rows::{FirstRows, slot};
use catprune_core::duplicates::late::LateCollector;
use catprune_core::duplicates::partitions::Partitions;
use catprune_core::io::atomic_files::Draft;
use catprune_core::io::digests::{digest_bytes, digest_file};
use catprune_core::io::threads::on_threads;
use catprune_core::{Error, Progress};

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("catprune-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn read_lines(path: &Path, max_line_bytes: usize) -> Vec<Option<Vec<u8>>> {
    let progress = Progress::default();
    let mut reader = LineReader::open(path, max_line_bytes, usize::MAX, &progress).unwrap();
    let mut lines = Vec::new();
    loop {
        let chunk = reader.chunk().unwrap();
        if chunk.is_empty() {
            assert_eq!(reader.finish().unwrap().digest, digest_bytes(&fs::read(path).unwrap()));
            return lines;
        }
        for index in 0..chunk.len() {
            lines.push((!chunk.is_too_long(index)).then(|| chunk.line(index).to_vec()));
        }
    }
}

#[test]
fn lines_cross_the_edges_of_the_buffer() {
    let path = folder("edges").join("text");
    // Line ends and `\r\n` fall before, on and after the edges of reads (1 MiB).
    for shift in 0..4 {
        let first = vec![b'a'; (1 << 20) - 2 + shift];
        let mut text = first.clone();
        text.extend_from_slice(b"\r\nnext\n\nlast");
        fs::write(&path, &text).unwrap();
        let lines = read_lines(&path, usize::MAX >> 1);
        let expected = vec![Some(first), Some(b"next".to_vec()), Some(Vec::new()), Some(b"last".to_vec())];
        assert_eq!(lines, expected);
    }
}

#[test]
fn long_lines_are_dropped_and_later_lines_are_kept() {
    let path = folder("long").join("text");
    let mut text = vec![b'x'; 3 << 20];
    text.extend_from_slice(b"\nok\r\n");
    text.extend_from_slice(&[b'y'; 10]);
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&[b'z'; 11]);
    fs::write(&path, &text).unwrap();
    assert_eq!(read_lines(&path, 10), vec![None, Some(b"ok".to_vec()), Some(vec![b'y'; 10]), None]);
}

/// A fingerprint with few different leading bits, so that many keys share a run of slots and a partition.
fn crowded(key: u64) -> u128 {
    (u128::from(key % 7) << 100) | (u128::from(key) << 44)
}

#[test]
fn the_first_row_stays_while_the_table_grows() {
    let mut rows = FirstRows::new(1 << 24, 0);
    for (again, last) in [(false, 20_000), (true, 20_000)] {
        let slots: Vec<_> =
            (1..last).map(|key| slot(crowded(key), if again { 99_999 } else { key })).collect();
        assert!(rows.reserve(slots.len()));
        rows.insert(&slots, |index, held| assert_eq!(held, again.then_some(index as u64 + 1)));
    }
    assert_eq!(rows.held().count(), 19_999);
    let mut small = FirstRows::new(1 << 18, 0);
    assert!(small.reserve(6000));
    assert!(!small.reserve(7000));
}

fn spread(key: u64) -> u128 {
    u128::from(key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// The duplicates of all shards; `ends` are the last rows of the shards, exclusive.
fn resolve(
    partitions: Partitions,
    folder: &Path,
    ends: &[u64],
    threads: usize,
    memory: usize,
) -> Vec<(u64, u64)> {
    let collector = Mutex::new(LateCollector::new(ends.to_vec(), folder, 0).unwrap());
    partitions.resolve(&collector, threads, memory, &Progress::default()).unwrap();
    let collected = collector.into_inner().unwrap().finish().unwrap();
    let mut rows = std::collections::BTreeSet::new();
    collected
        .see(&Progress::default(), |row| {
            rows.insert(row);
        })
        .unwrap();
    let of_shards: Vec<_> = (0..ends.len()).map(|shard| collected.of_shard(shard).unwrap()).collect();
    for (&end, duplicates) in ends.iter().zip(&of_shards) {
        assert!(duplicates.iter().all(|&(row, _)| row < end));
    }
    let all = of_shards.concat();
    assert!(all.iter().map(|&(row, _)| row).eq(rows));
    all
}

#[test]
fn partitions_that_are_too_large_are_split_again() {
    let keys: Vec<u64> = (0..30_000).map(|row| row * row % 9001).collect();
    let mut first = std::collections::HashMap::new();
    let mut expected = Vec::new();
    for (row, &key) in keys.iter().enumerate() {
        let row = row as u64;
        let first_row = *first.entry(key).or_insert(row);
        expected.extend((first_row != row).then_some((row, first_row)));
    }
    for (memory, layout) in [
        (0, Layout::default()),
        (1 << 24, Layout::default()),
        (200_000, Layout { priority: true, text: false }),
        (300_000, Layout { priority: false, text: true }),
    ] {
        let folder = folder("partitions");
        // All keys in one partition, and keys spread over all partitions.
        for fingerprint in [crowded, spread] {
            for threads in [1, 3, 16] {
                let mut partitions = Partitions::create(&folder, layout, 0).unwrap();
                for (row, &key) in keys.iter().enumerate() {
                    let slot = slot(fingerprint(key), row as u64);
                    partitions.add(Candidate { slot, priority: 1, text: &key.to_le_bytes() }).unwrap();
                }
                assert_eq!(resolve(partitions, &folder, &[9_000, 9_001, 30_000], threads, memory), expected);
            }
        }
    }
}

#[test]
fn keys_with_equal_fingerprints_are_compared_by_their_bytes() {
    let folder = folder("collisions");
    let layout = Layout { priority: false, text: true };
    let mut partitions = Partitions::create(&folder, layout, 0).unwrap();
    for (row, text) in ["a", "b", "a", "c", "b"].into_iter().enumerate() {
        let slot = slot(1 << 60, row as u64);
        partitions.add(Candidate { slot, priority: 0, text: text.as_bytes() }).unwrap();
    }
    assert_eq!(resolve(partitions, &folder, &[5], 2, 1 << 20), [(2, 0), (4, 1)]);
}

#[test]
fn work_on_threads_ends_at_the_first_error() {
    for threads in [1, 3, 9] {
        let doubled = on_threads(threads, 5, || 2, |factor, number| Ok(number * *factor)).unwrap();
        assert_eq!(doubled, [0, 2, 4, 6, 8]);
        for panics in [false, true] {
            let started = AtomicU64::new(0);
            let work = |(): &mut (), number: usize| {
                started.fetch_add(1, Ordering::Relaxed);
                assert!(number != 3 || !panics, "on purpose");
                if number == 3 { Err::<(), _>(Error::input("third")) } else { Ok(()) }
            };
            let message = on_threads(threads, 1_000_000, || (), work).unwrap_err().to_string();
            assert!(message.contains(if panics { "a worker panicked" } else { "third" }), "{message}");
            assert!(started.load(Ordering::Relaxed) < 1_000_000);
        }
    }
}

fn numbered(before: &str, lines: usize) -> String {
    let lines: Vec<String> = (0..lines).map(|line| format!("{before}{line}\n")).collect();
    lines.concat()
}

fn corpus(name: &str, lines: usize) -> Corpus {
    let folder = folder(name);
    let (source, target) = (folder.join("source"), folder.join("target"));
    fs::write(&source, numbered("", lines)).unwrap();
    fs::write(&target, numbered("-", lines)).unwrap();
    let inputs = vec![Input::Moses { source, target }];
    Corpus { inputs, max_line_bytes: 100, memory: usize::MAX, ..Corpus::default() }
}

#[test]
fn chunks_stay_in_order_with_any_number_of_threads() {
    let lines = 20 * CHUNK_LINES + 5;
    let corpus = corpus("order", lines);
    for threads in [1, 3, 16] {
        let mut next = 0;
        let read = stream(
            &corpus,
            &WantedRows::Rows((0..lines as u64).filter(|row| row % 3 == 0).collect()),
            threads,
            &Progress::default(),
            |chunk| {
                for index in chunk.wanted() {
                    let row = chunk.first as usize + index;
                    assert_eq!(row % 3, 0);
                    let (source, target) = (format!("{row}"), format!("-{row}"));
                    assert_eq!(
                        chunk.record(index),
                        Record::Pair { source: source.as_bytes(), target: target.as_bytes() }
                    );
                }
                Ok((chunk.first, chunk.end()))
            },
            |(first, end)| {
                assert_eq!(first, next);
                next = end;
                Ok(true)
            },
        )
        .unwrap();
        assert_eq!((next, read.inputs[0].end), (lines as u64, lines as u64));
    }
}

#[test]
fn a_pipeline_ends_on_errors_panics_stops_and_early_exits() {
    let corpus = corpus("ends", 50 * CHUNK_LINES);
    let run = |progress: &Progress, fail_at: u64, panic_at: u64, stop_at: u64, leave_at: u64| {
        let chunks = AtomicU64::new(0);
        stream(
            &corpus,
            &WantedRows::All,
            3,
            progress,
            |chunk| {
                assert!(chunk.first < panic_at, "as it should");
                if chunk.first >= fail_at { Err(Error::input("failed")) } else { Ok(chunk.first) }
            },
            |first| {
                if first >= stop_at {
                    progress.stop();
                }
                chunks.fetch_add(1, Ordering::Relaxed);
                Ok(first < leave_at)
            },
        )
        .map(|_| chunks.load(Ordering::Relaxed))
    };
    let never = u64::MAX;
    let later = 10 * CHUNK_LINES as u64;
    assert!(matches!(run(&Progress::default(), later, never, never, never), Err(Error::Input(_))));
    assert!(
        matches!(run(&Progress::default(), never, later, never, never), Err(Error::Input(m)) if m.contains("panicked"))
    );
    assert!(matches!(run(&Progress::default(), never, never, later, never), Err(Error::Interrupted)));
    assert_eq!(run(&Progress::default(), never, never, never, later).unwrap(), 11);
    assert_eq!(run(&Progress::default(), never, never, never, never).unwrap(), 50);
}

#[test]
fn a_draft_is_published_complete_or_removed() {
    use std::io::Write;
    let folder = folder("draft");
    let path = folder.join("file");
    let mut draft = Draft::create(&path).unwrap();
    draft.write_all(b"half").unwrap();
    drop(draft);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let mut draft = Draft::create(&path).unwrap();
    draft.write_all(b"whole").unwrap();
    assert!(!path.exists());
    let digest = draft.publish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(digest, digest_file(&path, &Progress::default()).unwrap());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}
