"""Held-out loss: the negative log-likelihood per target token of a dev or test set, by forced decoding."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from catprune._core import encode
from catprune.workspace.device import Device

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from catprune.evaluation.bitexts import Bitext
    from catprune.model.batches import Pairs, Sequences
    from catprune.tokens.blocks import Tokens

_BATCH_TOKENS = {"cpu": 1024, "cuda": 16_384}


class HeldOut:
    """A held-out set under the tokenizer of a tokens folder; every line counts whole, however long."""

    def __init__(self, bitext: Bitext, tokens: Tokens) -> None:
        self.bitext, self.tokens = bitext, tokens

    @cached_property
    def _pairs(self) -> Pairs:
        from catprune.model.batches import Pairs

        def sequences(lines: Sequence[str]) -> Sequences:
            from catprune.model.batches import Sequences

            ids = [np.array(line, np.int64) for line in encode(self.tokens.tokenizer_file, list(lines))]
            lengths = np.array([len(line) for line in ids], np.int64)
            return Sequences(np.concatenate(ids), np.cumsum(lengths) - lengths, lengths)

        rows = np.arange(len(self.bitext.source), dtype=np.int64)
        return Pairs(rows, sequences(self.bitext.source), sequences(self.bitext.target))

    def nll(self, checkpoint: Path) -> float:
        """Return the mean negative log-likelihood of a native checkpoint, in nats per target token, float32."""
        import torch

        from catprune.checkpoints.native import read_checkpoint
        from catprune.model.batches import plan_scoring, token_places
        from catprune.model.output_layer import token_statistics

        device = Device.choose("float32").name
        model, pairs, total = read_checkpoint(checkpoint).load(device=device), self._pairs, 0.0
        with torch.inference_mode():
            for chosen in plan_scoring(pairs, batch_tokens=_BATCH_TOKENS[device]):
                batch = pairs.batch(chosen, self.tokens.tokenizer)
                parts = (batch.source, batch.inputs, batch.targets, token_places(batch))
                source, inputs, targets, places = (torch.from_numpy(part).to(device) for part in parts)
                hidden = model(source, inputs).flatten(0, 1)[places]
                statistics = token_statistics(hidden, model.output_matrix, targets.flatten()[places])
                total += float(statistics.nll.double().sum())
        return round(total / int(pairs.target.lengths.sum()), 6)
