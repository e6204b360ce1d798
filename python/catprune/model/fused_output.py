"""The output layer on GPUs, in one Triton kernel: running values of every token without logits in memory."""

# Triton does not accept annotations of other modules in a kernel.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.knobs
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

#: Vocabulary entries of a split. Every split of every block of tokens is a program of its own. The number does not
#: depend on the GPU, so the same sums are taken in the same order everywhere.
SPLIT = 8192
#: Tokens, vocabulary entries and depth of a tile, warps, and stages of the pipeline, for products of 16 and 32 bits.
#: The tiles of 16 bits take 96 KB of shared memory, which every GPU with bfloat16 has.
TILES = {2: (128, 128, 64, 8, 3), 4: (64, 64, 16, 4, 2)}


@triton.jit
def partial_values(
    hidden,
    matrix,
    bias,
    targets,
    out,
    tokens,
    entries,
    width: tl.constexpr,
    split: tl.constexpr,
    has_bias: tl.constexpr,
    widens: tl.constexpr,
    tile_tokens: tl.constexpr,
    tile_entries: tl.constexpr,
    depth: tl.constexpr,
):
    """Write, for a block of tokens and a split of the vocabulary, what `running_values` returns for that split.

    Args:
        hidden: pointer to [tokens, width], contiguous.
        matrix: pointer to [entries, width], contiguous, in the same dtype.
        bias: pointer to float32 [entries].
        targets: pointer to int64 [tokens].
        out: pointer to float32 [splits, 3, tokens]: largest logit, sum and sum of squares of exponentials.
        tokens, entries, width: sizes.
        split: vocabulary entries of a split.
        has_bias: whether there is a bias.
        widens: whether to multiply in float32, which gives the same products; Triton's interpreter has no others.
        tile_tokens, tile_entries, depth: the size of a tile.
    """
    rows = tl.program_id(0) * tile_tokens + tl.arange(0, tile_tokens)
    is_row = rows < tokens
    target = tl.load(targets + rows, mask=is_row, other=-1)
    most = tl.full((tile_tokens,), -3.0e38, tl.float32)
    rest = tl.zeros((tile_tokens,), tl.float32)
    squares = tl.zeros((tile_tokens,), tl.float32)
    first = tl.program_id(1) * split
    x_rows = hidden + rows.to(tl.int64)[:, None] * width
    for low in range(first, min(first + split, entries), tile_entries):
        columns = low + tl.arange(0, tile_entries)
        is_entry = columns < entries
        w_rows = matrix + columns.to(tl.int64)[None, :] * width
        logits = tl.zeros((tile_tokens, tile_entries), tl.float32)
        for start in range(0, width, depth):
            places = start + tl.arange(0, depth)
            x = tl.load(x_rows + places[None, :], mask=is_row[:, None] & (places < width)[None, :], other=0.0)
            w = tl.load(w_rows + places[:, None], mask=is_entry[None, :] & (places < width)[:, None], other=0.0)
            if widens:
                x, w = x.to(tl.float32), w.to(tl.float32)
            logits = tl.dot(x, w, logits, input_precision="ieee")
        if has_bias:
            logits += tl.load(bias + columns, mask=is_entry, other=0.0)[None, :]
        is_other = is_entry[None, :] & (columns[None, :] != target[:, None])
        logits = tl.where(is_other, logits, float("-inf"))
        larger = tl.maximum(most, tl.max(logits, axis=1))
        shrunk = tl.exp(most - larger)
        exponentials = tl.exp(logits - larger[:, None])
        rest = rest * shrunk + tl.sum(exponentials, axis=1)
        squares = squares * shrunk * shrunk + tl.sum(exponentials * exponentials, axis=1)
        most = larger
    place = out + tl.program_id(1).to(tl.int64) * 3 * tokens + rows
    tl.store(place, most, mask=is_row)
    tl.store(place + tokens, rest, mask=is_row)
    tl.store(place + 2 * tokens, squares, mask=is_row)


def running_values(
    hidden: Tensor, matrix: Tensor, targets: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest logit m of each token, and the sum and the norm of exp(z_v - m), all without the target.

    The splits of the vocabulary are added in their order, so the bits do not depend on scheduling.

    Args:
        hidden: [tokens, width], contiguous, float32, bfloat16 or float16.
        matrix: the output matrix, [vocabulary, width], contiguous, in the same dtype and on the same device.
        targets: int64 [tokens], each in the vocabulary.
        bias: float32 [vocabulary], added to the products.

    Returns:
        Three tensors, float32 [tokens].

    Raises:
        ValueError: shapes, dtypes, devices or strides are others.
    """
    (tokens, width), entries = hidden.shape, len(matrix)
    parts = [hidden, matrix, targets, *([] if bias is None else [bias])]
    is_valid = (
        matrix.shape[1:] == (width,)
        and hidden.dtype == matrix.dtype
        and hidden.dtype.itemsize in TILES
        and hidden.dtype.is_floating_point
        and (targets.shape, targets.dtype) == ((tokens,), torch.int64)
        and (bias is None or (bias.shape, bias.dtype) == ((entries,), torch.float32))
        and all(part.is_contiguous() and part.device == hidden.device for part in parts)
    )
    if not is_valid:
        described = ", ".join(f"{part.dtype} {tuple(part.shape)} on {part.device}" for part in parts)
        raise ValueError(f"the fused output layer cannot read {described}")
    tile_tokens, tile_entries, depth, warps, stages = TILES[hidden.dtype.itemsize]
    splits = triton.cdiv(entries, SPLIT)
    out = torch.empty(splits, 3, tokens, dtype=torch.float32, device=hidden.device)
    if tokens:
        # Triton launches on the current GPU, which need not be that of the tensors.
        with torch.cuda.device_of(hidden):
            launch: Any = partial_values[(triton.cdiv(tokens, tile_tokens), splits)]
            launch(
                hidden,
                matrix,
                hidden if bias is None else bias,
                targets,
                out,
                tokens,
                entries,
                width=width,
                split=SPLIT,
                has_bias=bias is not None,
                widens=triton.knobs.runtime.interpret,
                tile_tokens=tile_tokens,
                tile_entries=tile_entries,
                depth=depth,
                num_warps=warps,
                num_stages=stages,
                enable_fp_fusion=True,
            )
    most, rest, squares = out.unbind(1)
    largest = most.amax(0)
    shrunk = torch.exp(most - largest)
    return largest, (rest * shrunk).sum(0), (squares * shrunk.square()).sum(0).sqrt()
