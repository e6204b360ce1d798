#!/usr/bin/env bash
# Makes the text of the experiments. Usage: prepare.sh SOURCES TARGET
# SOURCES holds <corpus>.<pair>.<language>.zst; TARGET gets the text and a copy of the run files.
set -euo pipefail
sources=$1 target=$2
mkdir -p "$target"
unpack() { # unpack CORPUS PAIR: both sides, as CORPUS.PAIR.LANGUAGE
    for side in "${2%-*}" "${2#*-}"; do
        zstd -dcq "$sources/$1.$2.$side.zst" >"$target/$1.$2.$side"
    done
}
for pair in en-de en-fr; do
    for corpus in multi30k.train multi30k.val multi30k.test_2016_flickr multi30k.test_2017_flickr; do
        unpack "$corpus" "$pair"
    done
done
for corpus in lafand.train lafand.dev tico19.dev; do
    unpack "$corpus" en-sw
done
# The first half of lafand.dev is the dev set, the second half the test set: no article is in both.
for side in en sw; do
    head -n 895 "$target/lafand.dev.en-sw.$side" >"$target/lafand.first.en-sw.$side"
    tail -n +896 "$target/lafand.dev.en-sw.$side" >"$target/lafand.second.en-sw.$side"
done
cp "$(dirname "$0")"/*.toml "$target"
