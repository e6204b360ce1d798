"""External models of the transformers library, run without their output layer like native models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from catprune.errors import CatpruneError
from catprune.model.attention import Padded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from catprune.model.attention import Form

#: Largest accepted difference in log-probability from the complete model, in float32.
TOLERANCE = 1e-4
#: The same for weights of 16 bits, as a share of the largest logit: two units in the last place of bfloat16.
NARROW_TOLERANCE = 2.0**-7


class ExternalModel(nn.Module):
    """A model without its output layer, so that tokens x vocabulary is never in memory.

    Attributes:
        output_matrix: float [vocabulary, d_model].
        output_bias: float [vocabulary], or None.
        vocab_sizes: vocabulary sizes of sources and targets.
    """

    output_bias: Tensor | None
    vocab_sizes: tuple[int, int]

    def __init__(self, model: Any, *, name: str, is_decoder_only: bool) -> None:
        super().__init__()
        self.is_decoder_only = is_decoder_only
        model.requires_grad_(requires_grad=False)
        head: Any = model.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise CatpruneError(
                f"{name}: the output layer is {type(head).__name__}, not one matrix: give another model"
            )
        decoder = model if is_decoder_only else model.get_decoder()
        inputs = [part.get_input_embeddings().weight for part in (model, decoder)]
        self.vocab_sizes = (len(inputs[0]), min(len(inputs[1]), len(head.weight)))
        self._require_causal(model, name)
        expected = self._probe(model)
        bias: Tensor | None = getattr(head, "bias", None)
        if isinstance(model_bias := getattr(model, "final_logits_bias", None), Tensor):
            bias = model_bias.flatten() if bias is None else bias + model_bias.flatten()
            model.final_logits_bias = torch.zeros_like(model_bias[:, :1])
        self.output_matrix = head.weight
        self.register_buffer("output_bias", None if bias is None else bias.detach().float(), persistent=False)
        # Not set_output_embeddings: it would also replace embeddings tied to the matrix.
        head.forward = _unchanged
        self.model = model
        logits = (self._probe(model).to(self.output_matrix.device) @ self.output_matrix.T).float().to(expected.device)
        if self.output_bias is not None:
            logits = logits + self.output_bias.to(expected.device)
        if logits.shape != expected.shape or not _are_close(logits, expected, head.weight.dtype):
            raise CatpruneError(f"{name}: the logits are not the last vectors times one matrix: give another model")
        self._count_weights(model, {weight.data_ptr() for weight in (*inputs, head.weight)})

    def _count_weights(self, model: Any, embedded: set[int]) -> None:
        """Count the weights that each source and each target position is multiplied with, without embeddings."""
        # Image encoders are not run.
        run = model.get_decoder() if self.is_decoder_only else model
        layers = {parameter.data_ptr(): parameter.numel() for parameter in run.parameters()}
        encoder = None if self.is_decoder_only else model.get_encoder()
        inside = {} if encoder is None else {weight.data_ptr(): weight.numel() for weight in encoder.parameters()}
        self.source_weights = sum(count for place, count in inside.items() if place not in embedded)
        self.target_weights = sum(n for place, n in layers.items() if place not in embedded and place not in inside)
        if self.is_decoder_only:
            self.source_weights = self.target_weights

    @torch.no_grad()
    def _probe(self, model: Any, last: int = 0) -> Tensor:
        """Run the model on a few ids; return logits, or vectors once the output layer is removed."""
        model.eval()
        ids = torch.arange(3, min(9, *self.vocab_sizes), device=model.device)[None]
        return self._run(model, ids, torch.cat([ids, torch.full_like(ids[:, :1], last)], dim=1))

    def _require_causal(self, model: Any, name: str) -> None:
        """Refuse a model that attends to later tokens, such as BERT."""
        first, second = (self._probe(model, last)[:, :-1] for last in (0, 1))
        if not _are_close(first, second, model.dtype):
            raise CatpruneError(f"{name} attends to later tokens, so it is not a language model: give another model")

    def _run(self, model: Any, source: Tensor, inputs: Tensor) -> Tensor:
        if self.is_decoder_only:
            ids = torch.cat([source, inputs[:, 1:]], dim=1)
            # Explicit, so that the library does not look for padding among the ids and warn.
            mask = torch.ones_like(ids)
            return model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, source.shape[1] - 1 :]
        mask = torch.ones_like(source)
        return model(input_ids=source, attention_mask=mask, decoder_input_ids=inputs, use_cache=False).logits

    def forward(self, source: Tensor, inputs: Tensor, form: Form) -> Tensor:
        """Return the vectors for the output matrix, [pairs, target length, d_model].

        Args:
            source: ids of equal length, int64 [pairs, source length]; prompts for a decoder-only model.
            inputs: the start symbol, then the target without its last token, int64 [pairs, target length].
            form: `transformer.UNMASKED`; other layouts are not supported.
        """
        assert isinstance(form, Padded) and form.mask is None
        return self._run(self.model, source, inputs)

    def flops(self, *, source: NDArray[np.int64], target: NDArray[np.int64], outputs: int) -> float:
        """Count the FLOPs of one forward pass without attention: two per weight and position."""
        layers = float(source.sum()) * self.source_weights + float(target.sum()) * self.target_weights
        return 2.0 * (layers + float(self.output_matrix.numel()) * outputs)


def _are_close(logits: Tensor, others: Tensor, dtype: torch.dtype) -> bool:
    first, second = logits.float().log_softmax(-1), others.float().log_softmax(-1)
    most = TOLERANCE if dtype.itemsize >= 4 else NARROW_TOLERANCE * float(others.abs().max())
    return bool((first - second).abs().max() <= most)


def _unchanged(input: Tensor) -> Tensor:
    return input
