#!/usr/bin/env bash
# Makes the text of the small evaluation of multi30k. Usage: prepare.sh SOURCES TARGET
# SOURCES holds multi30k.<part>.en-de.<language>.zst; TARGET gets the text and a copy of the run file.
set -euo pipefail
sources=$1 target=$2
mkdir -p "$target"
for side in en de; do
    # Not a pipe into head: zstd would end with an error when head closes it.
    head -n 4000 <(zstd -dcq "$sources/multi30k.train.en-de.$side.zst") >"$target/train.$side"
    head -n 100 <(zstd -dcq "$sources/multi30k.val.en-de.$side.zst") >"$target/dev.$side"
    head -n 100 <(zstd -dcq "$sources/multi30k.test_2016_flickr.en-de.$side.zst") >"$target/test.$side"
done
cp "$(dirname "$0")/run.toml" "$target"
