"""The contenders of the model benchmark: scoring by catprune and others, training, matrix products, memory."""

from __future__ import annotations

import contextlib
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from job import Job, Skipped, Timed

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where scoring writes below a job's `out`.
SCORES = "scores"


def _scoring(job: Job, shard: str | None) -> Callable[[], dict[str, Any]]:
    """Prepare the scoring pass of one process with its model loaded; timed from the first block to the last column.

    It is what `score` does for the blocks of its shard, without starting Python, importing and reading weights.
    """
    import torch
    from catprune.checkpoints.native import read_checkpoint
    from catprune.scoring.block_scoring import Scoring
    from catprune.scoring.score import _plan
    from catprune.tokens.blocks import Tokens
    from catprune.workspace.device import Device
    from catprune.workspace.shards import Shard

    torch.set_num_threads(job["threads"])
    share, limit = Shard.parse(shard), job["batch_tokens"]
    device, tokens = Device.choose(job["precision"]), Tokens.open(job["tokens"])
    checkpoint = job.get("model") or read_checkpoint(job["checkpoint"])
    path = Path(job["out"]) / SCORES
    stack = contextlib.ExitStack()
    planned = _plan(
        path, tokens, checkpoint, device, batch_tokens=limit, force=False, shard=share, threads=job["threads"]
    )
    scoring = Scoring(stack.enter_context(planned), tokens, checkpoint, device)
    assert scoring.model.vocab_sizes  # loads the model

    def run() -> dict[str, Any]:
        scoring.run("bench", share, quiet=True)
        stack.close()
        return {"tokens": sum(entry.target_tokens for entry in tokens.blocks[share.number :: share.count])}

    return run


def scoring(job: Job) -> Timed:
    """Score with catprune in one process."""
    return _scoring(job, None)


def shards(job: Job) -> Timed:
    """Score with several processes, each on its own blocks; timed from when all are ready until all have ended."""
    context, count = get_context("spawn"), job["processes"]
    barrier = context.Barrier(count + 1)
    children = [context.Process(target=_shard, args=(job, f"{i + 1}/{count}", barrier)) for i in range(count)]
    for child in children:
        child.start()
    barrier.wait(timeout=300)

    def run() -> dict[str, Any]:
        barrier.wait()
        for child in children:
            child.join()
        if any(child.exitcode for child in children):
            raise RuntimeError("a shard failed")
        return {"tokens": job["target_tokens"]}

    return run


def _shard(job: Job, shard: str, barrier: Any) -> None:
    run = _scoring(job, shard)
    barrier.wait()
    barrier.wait()
    run()


def whole_score(job: Job) -> Timed:
    """Run whole calls of `score` with `count` checkpoints, including digests, weights, plans and manifests."""
    from catprune.scoring.score import score

    names = [f"{i}={job['checkpoint']}" for i in range(job["count"])]
    options = {"precision": job["precision"], "batch_tokens": job["batch_tokens"], "threads": job["threads"]}

    def run() -> dict[str, Any]:
        score(job["tokens"], checkpoints=names, out=Path(job["out"]) / SCORES, quiet=True, **options)
        return {"tokens": job["target_tokens"] * job["count"]}

    return run


def transformers_scores(job: Job) -> Timed:
    """Score with transformers in a plain loop over batches of `batch` pairs, in file order or sorted by length."""
    import numpy as np
    import torch
    from catprune.checkpoints.native import read_checkpoint
    from catprune.tokens.blocks import Tokens
    from catprune.workspace.device import Device
    from model_data import as_transformers, read_pairs
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(job["threads"])
    device, special = Device.choose(job.get("precision", "float32")), Tokens.open(job["tokens"]).tokenizer
    given = job.get("model")
    model = as_transformers(read_checkpoint(job["checkpoint"])) if given is None else given.build(device.name)
    model, pairs = model.to(device.name, device.dtype), read_pairs(Path(job["tokens"]), limit=job["limit"])

    def padded(sequences: list[list[int]], value: int) -> torch.Tensor:
        rows = [torch.tensor(ids) for ids in sequences]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value).to(device.name)

    @torch.inference_mode()
    def run() -> dict[str, Any]:
        order = list(range(len(pairs)))
        if job["sorted"]:
            order.sort(key=lambda i: (len(pairs[i][1]), len(pairs[i][0])), reverse=True)
        nll = np.zeros(len(pairs))
        for first in range(0, len(order), job["batch"]):
            chosen = order[first : first + job["batch"]]
            sources, targets = zip(*(pairs[i] for i in chosen), strict=True)
            source, labels = padded(sources, special.pad_id), padded(targets, -100)
            inputs = padded([[special.bos_id, *target[:-1]] for target in targets], special.pad_id)
            logits = model(source, attention_mask=source != special.pad_id, decoder_input_ids=inputs).logits
            loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
            nll[chosen] = loss.view_as(labels).sum(1).cpu().numpy()
        np.save(f"{job['out']}/nll.npy", nll)
        return {"tokens": sum(len(target) for _, target in pairs)}

    return run


def ctranslate2_scores(job: Job) -> Timed:
    """Score with CTranslate2's `score_batch` over all pairs at once; ids are mapped to tokens before."""
    import ctranslate2
    import numpy as np
    from model_data import names_of, read_pairs

    threads, device = {"inter_threads": 1, "intra_threads": job["threads"]}, job.get("device", "cpu")
    if device == "cuda" and not ctranslate2.get_cuda_device_count():
        raise Skipped("CTranslate2 finds no GPU")
    translator = ctranslate2.Translator(job["model"], device=device, compute_type=job["type"], **threads)
    names, pairs = names_of(Path(job["tokens"])), read_pairs(Path(job["tokens"]), limit=job["limit"])
    sources = [[names[i] for i in source] for source, _ in pairs]
    targets = [[names[i] for i in target[:-1]] for _, target in pairs]  # it adds end-of-sentence itself

    def run() -> dict[str, Any]:
        results = translator.score_batch(sources, targets, max_batch_size=job["batch_tokens"], batch_type="tokens")
        nll = np.array([-sum(result.log_probs) for result in results])
        np.save(f"{job['out']}/nll.npy", nll)
        tokens = sum(len(result.log_probs) for result in results)
        if tokens != sum(len(target) for _, target in pairs):
            raise RuntimeError("CTranslate2 scored other tokens")
        return {"tokens": tokens, "type": translator.compute_type}

    return run


def matrix_products(job: Job) -> Timed:
    """Measure the rate of torch's matrix products: a large square, and the model's shapes for a batch of tokens.

    The best of each within `seconds`; the rate of the model's shapes is that of doing each as often as the model does.
    """
    import torch

    torch.set_num_threads(job["threads"])
    dtype, tokens, (d, ffn, vocabulary) = getattr(torch, job["dtype"]), job["batch_tokens"], job["shape"]
    # How often each product occurs in a pair of layers, encoder and decoder.
    shapes = {
        "tokens × d × 3d": ((tokens, d, 3 * d), 2 * job["layers"]),
        "tokens × d × d": ((tokens, d, d), 4 * job["layers"]),
        "tokens × d × 2d": ((tokens, d, 2 * d), job["layers"]),
        "tokens × d × ffn": ((tokens, d, ffn), 2 * job["layers"]),
        "tokens × ffn × d": ((tokens, ffn, d), 2 * job["layers"]),
        "tokens × d × vocabulary": ((tokens, d, vocabulary), 1),
        "2048 × 2048 × 2048": ((2048, 2048, 2048), 0),
    }

    def best(shape: tuple[int, int, int]) -> float:
        rows, inner, columns = shape
        x, matrix = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
        torch.nn.functional.linear(x, matrix)
        started, least = perf_counter(), float("inf")
        while perf_counter() - started < job["seconds"]:
            before = perf_counter()
            torch.nn.functional.linear(x, matrix)
            least = min(least, perf_counter() - before)
        return least

    @torch.inference_mode()
    def run() -> dict[str, Any]:
        times = {name: best(shape) for name, (shape, _) in shapes.items()}
        work = {name: 2.0 * shape[0] * shape[1] * shape[2] for name, (shape, _) in shapes.items()}
        rates = {name: work[name] / times[name] for name in shapes}
        flops = sum(work[name] * often for name, (_, often) in shapes.items())
        weighted = flops / sum(times[name] * often for name, (_, often) in shapes.items())
        return {"rates": rates, "best": max(rates.values()), "of_the_model": weighted}

    return run


def output_layer(job: Job) -> Timed:
    """Compute the statistics of `tokens` tokens from given vectors and output matrix."""
    import torch
    from catprune.model.output_layer import token_statistics

    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    hidden, matrix = torch.randn(job["count"], job["width"]), torch.randn(job["types"], job["width"])
    targets = torch.randint(job["types"], (job["count"],))
    token_statistics(hidden[:2], matrix, targets[:2])

    @torch.inference_mode()
    def run() -> dict[str, Any]:
        token_statistics(hidden, matrix, targets)
        return {"tokens": job["count"]}

    return run


def training(job: Job) -> Timed:
    """Run `train` for some steps; its log gives the time from the first update to the last checkpoint."""
    import json

    from catprune.training.train import train

    names = ("preset", "steps", "batch_tokens", "precision", "threads")
    out = Path(job["out"]) / "training"

    def run() -> dict[str, Any]:
        train(job["tokens"], out=out, quiet=True, **{name: job[name] for name in names})
        events = [json.loads(line) for line in (out / "log" / "events.jsonl").read_text().splitlines()]
        done = next(event for event in events if event.get("tokens_per_second"))
        return {"tokens": done["target_tokens"], "tokens_per_second": done["tokens_per_second"]}

    return run


def bare_training(job: Job) -> Timed:
    """Run a loop of the same updates over prepared tensors, without metrics, states and checkpoints.

    The loss is catprune's own, or (`plain`) torch's over all logits at once.
    """
    import numpy as np
    import torch
    from catprune.model.attention import Padded
    from catprune.model.output_layer import smoothed_loss
    from catprune.model.sizes import find_size
    from catprune.model.transformer import UNMASKED, Transformer
    from catprune.tokens.blocks import Tokens
    from catprune.training.data_order import Order
    from catprune.workspace.device import Device

    torch.set_num_threads(job["threads"])
    device, tokens = Device.choose(job["precision"]), Tokens.open(job["tokens"])
    order = Order(tokens, seed=1, batch_tokens=job["batch_tokens"])
    pairs, plan = order.batches(0, 0, order.windows(0)[0])
    batches = [pairs.batch(chosen, tokens.tokenizer) for chosen in plan[: job["steps"]]]
    if len(batches) < job["steps"]:
        raise RuntimeError(f"the text gives {len(batches)} batches, {job['steps']} are asked for")
    size = find_size(job["preset"])
    model = Transformer(size, vocab_size=tokens.tokenizer.vocab_size, dropout=0.1).to(device.name).train()
    rates = {"lr": 0.0, "betas": (0.9, 0.98), "eps": 1e-9, "weight_decay": 0.01}
    optimizer = torch.optim.AdamW(model.parameters(), fused=True, **rates)

    def on_device(array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(device.name)

    def prepare(batch: Any) -> tuple[Any, ...]:
        form = UNMASKED
        if batch.source_lengths.min() < batch.source.shape[1]:
            form = Padded(on_device(np.arange(batch.source.shape[1]) < batch.source_lengths[:, None]))
        places = np.flatnonzero(np.arange(batch.targets.shape[1]) < batch.target_lengths[:, None])
        parts = (batch.source, batch.inputs, batch.targets.ravel()[places], places)
        return *map(on_device, parts), form

    def loss_of(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        matrix = model.embedding.weight
        if not job["plain"]:
            return smoothed_loss(hidden, matrix, targets, smoothing=0.1, dtype=device.dtype)[0] / len(targets)
        with device.autocast():
            logits = torch.nn.functional.linear(hidden, matrix)
        return torch.nn.functional.cross_entropy(logits.float(), targets, label_smoothing=0.1)

    prepared = [prepare(batch) for batch in batches]

    def run() -> dict[str, Any]:
        for step, (source, inputs, targets, places, form) in enumerate(prepared):
            with device.autocast():
                hidden = model(source, inputs, form)
            loss_of(hidden.flatten(0, 1).index_select(0, places), targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = 0.64 / size.d_model * (step + 1) / 200
            optimizer.step()
            optimizer.zero_grad()
        return {"tokens": sum(len(targets) for _, _, targets, _, _ in prepared)}

    return run
