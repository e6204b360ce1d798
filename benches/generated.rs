//! The generated corpus and every pass over it, for the criterion benches and the instruction counts.

use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, Int64Array, UInt32Array};
use catprune_core::cleaning::clean::clean;
use catprune_core::columns::shards::write_shard;
use catprune_core::corpus::pipeline::stream;
use catprune_core::corpus::request::Corpus;
use catprune_core::corpus::row_filter::WantedRows;
use catprune_core::selection::select::select;
use catprune_core::stats::stats::stats;
use catprune_core::tokens::tokenize::tokenize;
use catprune_core::writing::write::write;
use catprune_core::{Progress, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, TokenizerBuilder};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The passes by name; each is measured per record of its own input.
pub const PASSES: [&str; 14] = [
    "read_plain",
    "read_gzip",
    "read_zstd",
    "read_xz",
    "read_bzip2",
    "clean_raw",
    "clean_normalised",
    "near_duplicates",
    "stats",
    "write_plain",
    "write_zstd",
    "tokenize",
    "select",
    "write_shard",
];

/// Per record, `tokenize` costs a hundred times as much as the other passes, and `select` a hundredth.
const TOKENIZE_SHARE: u64 = 10;
const SELECT_TIMES: u64 = 20;
const SELECT_SHARDS: u64 = 4;
const NAMES: [&str; 2] = ["source", "target"];
const CODECS: [&str; 5] = ["plain", "gzip", "zstd", "xz", "bzip2"];

/// Letters from common to rare; the target has some outside ASCII.
const LETTERS: [&str; 2] = ["etaoinshrdlucmfwypvbgkjqxz", "enisratdhulcgmobwfkzpväüöß"];

/// A seeded random number, the same on every machine.
fn draw(row: u64, place: u64) -> u64 {
    xxh3_64_with_seed(&row.to_le_bytes(), place)
}

/// A line of Zipfian words; about 30% of the rows repeat an earlier one.
fn line(row: u64, side: usize) -> String {
    let row = if draw(row, 0) % 10 < 3 { draw(row, 1) % (row + 1) } else { row };
    let words = 4 + draw(row, 2) % 24;
    let spelled = (0..words).map(|word| {
        // About half of the ranks are small, few are large.
        spell(20_000 >> (draw(row, 10 + word).trailing_zeros() + (draw(row, 100 + word) % 8) as u32), side)
    });
    spelled.collect::<Vec<_>>().join(" ") + "\n"
}

fn spell(rank: u64, side: usize) -> String {
    let letters: Vec<char> = LETTERS[side].chars().collect();
    let length = 2 + u64::from(rank.max(1).ilog2()) / 2 + draw(rank, side as u64) % 4;
    let letter = |place| {
        let number = draw(rank, 1000 + 2 * place + side as u64);
        letters[(number % 26 * (number / 26 % 26) / 26) as usize]
    };
    (0..length).map(letter).collect()
}

/// A request from a dictionary like those of Python.
fn request<R: DeserializeOwned>(value: Value) -> R {
    from_value(value).unwrap()
}

/// A folder with the corpus and the other inputs of the passes.
pub struct Bench {
    folder: PathBuf,
    pairs: u64,
}

impl Bench {
    pub fn open(folder: &Path, pairs: u64) -> Self {
        Self { folder: folder.to_owned(), pairs }
    }

    /// Writes the inputs of the passes: text, plain and compressed; a clean folder, a tokenizer, scores.
    pub fn prepare(&self) {
        for folder in [
            "clean",
            "few",
            "few/clean",
            "few/near_duplicates",
            "clean_raw",
            "clean_normalised",
            "selection",
            "scores",
        ] {
            fs::create_dir_all(self.folder.join(folder)).unwrap();
        }
        for (side, name) in NAMES.into_iter().enumerate() {
            let lines: Vec<String> = (0..self.pairs).map(|row| line(row, side)).collect();
            let text = lines.concat();
            let few = &lines[..(self.pairs / TOKENIZE_SHARE) as usize];
            fs::write(self.text("few", name, "plain"), few.concat()).unwrap();
            for codec in CODECS {
                fs::write(self.text("", name, codec), compress(text.as_bytes(), codec)).unwrap();
            }
        }
        self.train_tokenizer();
        self.write_scores();
        for folder in ["", "few"] {
            let cleaned = self.clean(folder, "normalised", "clean");
            fs::write(self.folder.join(folder).join("cleaned.json"), cleaned.to_string()).unwrap();
        }
    }

    /// The number of records that a pass processes.
    pub fn records(&self, pass: &str) -> u64 {
        match pass {
            "tokenize" | "near_duplicates" => self.pairs / TOKENIZE_SHARE,
            "select" | "write_shard" => self.pairs * SELECT_TIMES,
            _ => self.pairs,
        }
    }

    pub fn run(&self, pass: &str) {
        match pass {
            // Each into its own folder, because several passes may run at once.
            "clean_raw" => drop(black_box(self.clean("", "raw", pass))),
            "clean_normalised" => drop(black_box(self.clean("", "normalised", pass))),
            "near_duplicates" => drop(black_box(self.clean("few", "normalised", pass))),
            "stats" => self.stats(),
            "write_plain" => self.write(""),
            "write_zstd" => self.write(".zst"),
            "tokenize" => self.tokenize(),
            "select" => self.select(),
            "write_shard" => drop(black_box(self.write_shard())),
            _ => self.read(pass.strip_prefix("read_").unwrap()),
        }
    }

    /// A side of the corpus; in the folder `few`, only its first part.
    fn text(&self, folder: &str, name: &str, codec: &str) -> PathBuf {
        let ending = if codec == "plain" { String::new() } else { format!(".{codec}") };
        self.folder.join(folder).join(format!("{name}{ending}"))
    }

    fn corpus(&self, folder: &str, codec: &str) -> Value {
        let [source, target] = NAMES.map(|name| self.text(folder, name, codec));
        json!({"inputs": [{"format": "moses", "source": source, "target": target}]})
    }

    fn read(&self, codec: &str) {
        let corpus: Corpus = request(self.corpus("", codec));
        let mut rows = 0;
        let count = |count| {
            rows += count;
            Ok(true)
        };
        stream(&corpus, &WantedRows::All, 1, &Progress::default(), |chunk| Ok(chunk.len()), count).unwrap();
        assert_eq!(rows as u64, self.pairs);
    }

    /// Runs `clean` and returns its result.
    fn clean(&self, folder: &str, form: &str, out: &str) -> Value {
        let normalised = form == "normalised";
        let near = (out == "near_duplicates").then(|| {
            json!({
                "key": "pair", "threshold": 0.8, "permutations": 128, "bands": 16,
                "shingles": "characters", "shingle_size": 5,
            })
        });
        let cleaned = clean(
            &request(json!({
                "corpus": self.corpus(folder, "plain"),
                "rules": [catprune_core::cleaning::rules::Rules::default()],
                "duplicates": "pair",
                "duplicates_form": {
                    "nfkc": normalised, "case": normalised, "white_space": normalised, "punctuation": normalised,
                    "digits": false,
                },
                "verify": false,
                "near_duplicates": near,
                "prefer": "first",
                "against": [],
                "tmp": self.folder.join(folder).join(out),
                "out": self.folder.join(folder).join(out),
                "plan": "",
                "threads": 1,
                "memory": 1_u64 << 30,
            })),
            &Progress::default(),
        );
        serde_json::to_value(cleaned.unwrap()).unwrap()
    }

    fn stats(&self) {
        let form = json!({
            "nfkc": true, "case": true, "white_space": true, "punctuation": true, "digits": false,
        });
        let value = json!({
            "corpus": self.corpus("", "plain"), "files": null, "kept": "all", "duplicates_form": form,
            "identify_language": false, "memory": 1_u64 << 30, "threads": 1,
        });
        black_box(stats(&request(value), &Progress::default()).unwrap());
    }

    /// The part of a request that describes the cleaned corpus, and the number of kept pairs.
    fn cleaned(&self, folder: &str) -> (Value, Value) {
        let bytes = fs::read(self.folder.join(folder).join("cleaned.json")).unwrap();
        let cleaned: Value = serde_json::from_slice(&bytes).unwrap();
        let shards = cleaned["shards"].as_array().unwrap().iter();
        let shards: Vec<PathBuf> = shards
            .map(|shard| self.folder.join(folder).join("clean").join(shard["file"].as_str().unwrap()))
            .collect();
        let common = json!({
            "corpus": self.corpus(folder, "plain"),
            "files": cleaned["read"]["inputs"][0]["files"],
            "kept": {"clean": shards},
            "threads": 1,
        });
        (common, cleaned["total"]["kept"].clone())
    }

    fn write(&self, ending: &str) {
        let (mut value, kept) = self.cleaned("");
        let [source, target] = NAMES.map(|name| self.folder.join(format!("written.{name}{ending}")));
        value["output"] = json!({"format": "moses", "source": source, "target": target});
        value["expected"] = kept;
        black_box(write(&request(value), &Progress::default()).unwrap());
    }

    fn tokenize(&self) {
        let (mut value, _) = self.cleaned("few");
        let out = self.folder.join("tokens");
        let _ = fs::remove_dir_all(&out); // existing blocks would be reused
        fs::create_dir(&out).unwrap();
        value["tokenizer"] = json!(self.folder.join("tokenizer.json"));
        value["max_tokens"] = json!(512);
        value["frozen"] = json!(false);
        value["out"] = json!(out);
        value["plan"] = json!("");
        black_box(tokenize(&request(value), &Progress::default()).unwrap());
    }

    fn select(&self) {
        let rows = self.records("select") / SELECT_SHARDS;
        let set = |number: u64| {
            let shard = |part: u64| {
                let (first, end) = (part * rows, (part + 1) * rows);
                json!({"path": self.scores(number, part), "first": first, "end": end})
            };
            (0..SELECT_SHARDS).map(shard).collect::<Vec<_>>()
        };
        let value = json!({
            "source": {"kind": "scores", "sets": [set(0), set(1)]},
            "computed": [{"method": "cat-diff", "sets": [0, 1]}], "external": [],
            "on": "nll", "sign": "signed", "threshold": 0.5, "seed": 1, "score": 0, "merge": null,
            "guards": [], "draw": false, "clean": null, "within": null, "length": null, "own": [], "clusters": null, "exposures": [], "inputs": [], "threads": 1,
            "direction": "top", "ties": "row", "bins": 50, "keep": {"fraction": [1, 2]}, "rows": false,
            "out": self.folder.join("selection"), "tmp": self.folder.join("selection-tmp"), "plan": "",
        });
        black_box(select(&request(value), &Progress::default()).unwrap());
    }

    fn write_shard(&self) -> Result<String> {
        let rows = self.records("write_shard");
        let path = self.folder.join("shard.parquet");
        write_shard(&path, columns(0, 0..rows), &std::collections::BTreeMap::new())
    }

    fn scores(&self, set: u64, part: u64) -> PathBuf {
        self.folder.join("scores").join(format!("{set}-{part}.parquet"))
    }

    fn write_scores(&self) {
        let rows = self.records("select") / SELECT_SHARDS;
        for (set, part) in (0..2).flat_map(|set| (0..SELECT_SHARDS).map(move |part| (set, part))) {
            let columns = columns(set, part * rows..(part + 1) * rows);
            write_shard(&self.scores(set, part), columns, &std::collections::BTreeMap::new()).unwrap();
        }
    }

    /// Trains a byte-level BPE on both sides, as `catprune tokenize` does.
    fn train_tokenizer(&self) {
        let special = ["<pad>", "<s>", "</s>"].map(|token| AddedToken::from(token, true));
        let mut trainer = BpeTrainer::builder()
            .vocab_size(4000)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(special.to_vec())
            .build();
        let mut tokenizer =
            TokenizerBuilder::<BPE, NormalizerWrapper, ByteLevel, PostProcessorWrapper, DecoderWrapper>::new(
            )
            .with_model(BPE::default())
            .with_pre_tokenizer(Some(ByteLevel::default()))
            .with_normalizer(None)
            .with_post_processor(None)
            .with_decoder(None)
            .build()
            .unwrap();
        let files = NAMES.map(|name| self.text("few", name, "plain").display().to_string()).to_vec();
        tokenizer.train_from_files(&mut trainer, files).unwrap();
        tokenizer.save(self.folder.join("tokenizer.json"), false).unwrap();
    }
}

/// The score columns of a checkpoint for a range of rows.
fn columns(set: u64, rows: std::ops::Range<u64>) -> Vec<(String, ArrayRef)> {
    let tokens = |row| 5 + draw(row, 3) % 40;
    let nll = |row: u64| (tokens(row) * (1 + draw(row, 4 + set) % 4096)) as f32 / 1024.0;
    vec![
        ("row".to_owned(), Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row as i64)))),
        (
            "tokens".to_owned(),
            Arc::new(UInt32Array::from_iter_values(rows.clone().map(|row| tokens(row) as u32))),
        ),
        ("nll_sum".to_owned(), Arc::new(Float32Array::from_iter_values(rows.map(nll)))),
    ]
}

fn compress(text: &[u8], codec: &str) -> Vec<u8> {
    match codec {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::bulk::compress(text, 3).unwrap(),
        "xz" => liblzma::encode_all(text, 1).unwrap(),
        "bzip2" => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        _ => text.to_vec(),
    }
}
