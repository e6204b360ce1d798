"""Scores pairs with fairseq itself: `score_with_fairseq.py CHECKPOINT…`, and pairs as JSON on standard input.

It prints the negative log-likelihoods of the pairs as JSON, a list for each checkpoint. The dictionaries are next to
the checkpoint.
"""
# /// script
# requires-python = "==3.11.*"
# dependencies = ["fairseq-fixed==0.12.3.1", "torch==2.15.0", "setuptools<81"]
#
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# override-dependencies = ["fairseq ; sys_platform == 'never'", "torchaudio ; sys_platform == 'never'"]
# ///

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel


def score(path, pairs):
    """Return one number for each pair."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        saved = torch.load(path, weights_only=True)
    source, target = (Dictionary.load(str(path.parent / f"dict.{language}.txt")) for language in ("en", "de"))
    task = SimpleNamespace(source_dictionary=source, target_dictionary=target)
    model = TransformerModel.build_model(saved["cfg"]["model"], task).eval()
    model.load_state_dict(saved["model"])
    scores = []
    for pair in pairs:
        sides = (source, pair[0]), (target, pair[1])
        first, second = (words.encode_line(text, add_if_not_exist=False).long() for words, text in sides)
        inputs = torch.cat([second[-1:], second[:-1]])
        # With gradients, as in a training: without them, fairseq's fast path ignores the option of pre-norm layers.
        logits = model(first[None], torch.tensor([len(first)]), inputs[None])[0][0].detach()
        scores.append(-logits.double().log_softmax(-1).gather(1, second[:, None]).sum().item())
    return scores


if __name__ == "__main__":
    read = json.load(sys.stdin)
    print(json.dumps([score(Path(path), read) for path in sys.argv[1:]]))
