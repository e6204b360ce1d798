#!/usr/bin/env bash
# Pools multi30k with a seeded sample of 29,000 dirty pairs of 3-40 words. Usage: prepare.sh SOURCES TARGET
# SOURCES holds <corpus>.<pair>.<language>.zst; TARGET gets pool.en, pool.de, pool.tag and the test sets.
set -euo pipefail
sources=$1 target=$2
mkdir -p "$target"
for side in en de; do
    for corpus in multi30k.train multi30k.test_2016_flickr multi30k.test_2017_flickr; do
        zstd -dcq "$sources/$corpus.en-de.$side.zst" >"$target/$corpus.$side"
    done
done
# The component is what stands before the colon; a line with a tab of its own is passed over.
paste <(zstd -dcq "$sources/noisy.en-de.en.zst") <(zstd -dcq "$sources/noisy.en-de.de.zst") \
    <(zstd -dcq "$sources/noisy.en-de.tag.zst") |
    awk -F'\t' -v OFS='\t' 'NF == 3 {
        a = split($1, _, " "); b = split($2, _, " "); sub(/:.*/, "", $3)
        if (a >= 3 && a <= 40 && b >= 3 && b <= 40) print
    }' | shuf -n 29000 --random-source=<(yes 1) >"$target/noisy.tsv"
cat "$target/multi30k.train.en" <(cut -f1 "$target/noisy.tsv") >"$target/pool.en"
cat "$target/multi30k.train.de" <(cut -f2 "$target/noisy.tsv") >"$target/pool.de"
cat <(sed 's/.*/multi30k/' "$target/multi30k.train.en") <(cut -f3 "$target/noisy.tsv") >"$target/pool.tag"
wc -l "$target"/pool.*
