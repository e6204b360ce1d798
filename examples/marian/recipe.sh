#!/usr/bin/env bash
# Prunes bitext by early checkpoints of Marian-NMT, then trains Marian on the kept half:
#   ./recipe.sh train.en train.de en de
# The learning rate of both trainings is Marian's recipe for a base transformer; give your own options in OPTIONS.
set -euo pipefail
source=$1 target=$2 source_lang=$3 target_lang=$4
early=${EARLY:-2000} late=${LATE:-10000}
read -r -a options <<< "${OPTIONS:---type transformer --mini-batch-fit --workspace 9000 --learn-rate 0.0003 \
    --lr-warmup 16000 --lr-decay-inv-sqrt 16000 --optimizer-params 0.9 0.98 1e-09 --label-smoothing 0.1}"

catprune clean "$source" "$target" --source-lang "$source_lang" --target-lang "$target_lang" --out run/clean
catprune write run/clean run/clean."$source_lang" run/clean."$target_lang"

# The warm-up: without smoothing, so that each checkpoint holds the weights of its own update.
mkdir -p run/warmup
if [ ! -e run/warmup/model.iter"$late".npz ]; then
    marian --model run/warmup/model.npz --train-sets run/clean."$source_lang" run/clean."$target_lang" \
        --vocabs run/warmup/vocab.spm run/warmup/vocab.spm --tied-embeddings-all --dim-vocabs 32000 32000 \
        --after "$late"u --save-freq "$early"u --overwrite false "${options[@]}"
fi
catprune score run/clean --out run/scores \
    --checkpoints run/warmup/model.iter"$early".npz --checkpoints run/warmup/model.iter"$late".npz
catprune select run/scores --method progress --keep 50% --out run/selection
catprune write run/clean pruned."$source_lang" pruned."$target_lang" --selection run/selection

mkdir -p run/model
marian --model run/model/model.npz --train-sets pruned."$source_lang" pruned."$target_lang" \
    --vocabs run/warmup/vocab.spm run/warmup/vocab.spm --tied-embeddings-all "${options[@]}"
