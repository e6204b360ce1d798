"""The parts of the GPU benchmark: agreement, scoring, kernels, training, resuming, sizes of batches.

    python benches/gpu_parts.py SCRATCH quick|whole PART…      # called by gpu.py

Each part prints lines of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import catprune
import numpy as np
import scorers
import torch
from catprune.model.fused_loss import take_gradients
from catprune.model.output_layer import fused_statistics, smoothed_loss, token_statistics
from catprune.model.sizes import PRESETS, Size
from catprune.workspace.device import require_torch
from gpu_bench import Bench, attempt
from job import Skipped
from model_checks import spearman, turnover
from model_rows import flops_of, nll_of

#: The shape of NLLB with 600M parameters.
LARGE = Size(1024, 16, 4096, 12, 12)


def agreement(bench: Bench) -> None:
    """Compare scores of the GPU with those of the processor in float32: random weights, then a short training."""
    pairs, steps = (60, 6) if bench.quick else (2000, 200)
    tokens = bench.data.corpus(pairs)

    def nll(checkpoint: Path, precision: str, *, on_processor: bool) -> np.ndarray:
        out = bench.scratch / "out" / f"{checkpoint.name}-{precision}"
        shutil.rmtree(out, ignore_errors=True)
        arguments = [str(tokens), "--checkpoints", f"scored={checkpoint}", "--out", str(out), "--precision", precision]
        if not on_processor:
            catprune.score(tokens, checkpoints=f"scored={checkpoint}", out=out, precision=precision, quiet=True)
        else:  # in a process that sees no GPU
            command = [sys.executable, "-m", "catprune", "score", *arguments, "--quiet"]
            subprocess.run(command, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, stdout=sys.stderr)
        return nll_of(out / "scored", per_token=True)

    def compare(early: Path | None, late: Path) -> dict[str, Any]:
        exact, coarse = (
            {path: nll(path, precision, on_processor=wide) for path in (early, late) if path is not None}
            for precision, wide in (("float32", not bench.quick), ("bfloat16", False))
        )
        error = np.abs(coarse[late] - exact[late]) / exact[late]
        result = {
            "pairs": len(error),
            "mean_nll": float(exact[late].mean()),
            "worst_relative_error": float(error.max()),
        }
        scores = {"nll": [-values[late] for values in (exact, coarse)]}
        if early is not None:
            scores["progress"] = [values[early] - values[late] for values in (exact, coarse)]
        for name, two in scores.items():
            result |= {f"spearman_{name}": spearman(*two), f"turnover_{name}": turnover(*two)}
        return result

    random = bench.data.checkpoint(bench.preset)
    attempt(f"{bench.preset}, random weights, bfloat16 and float32", lambda: compare(None, random))
    attempt(
        f"{bench.preset}, {steps} updates, bfloat16 and float32",
        lambda: compare(*bench.data.trained(bench.preset, steps, precision="bfloat16")),
    )


class Large:
    """A model of NLLB's shape with random weights, in the place of a checkpoint."""

    path = Path("nllb-600M-shape")

    def __init__(self, *, quick: bool) -> None:
        self.size = PRESETS["tiny"] if quick else LARGE
        self.entries = 600 if quick else 256_206

    def recorded(self) -> dict[str, Any]:
        """Return nothing known."""
        return {"reverse": False}

    def reads(self) -> dict[str, Any]:
        """Return nothing read."""
        return {}

    def build(self, device: str) -> Any:
        """Return a model of transformers."""
        from transformers import M2M100Config, M2M100ForConditionalGeneration

        sides = ("encoder", "decoder")
        shape = {f"{side}_layers": getattr(self.size, f"{side}_layers") for side in sides}
        shape |= {f"{side}_attention_heads": self.size.heads for side in sides}
        shape |= {f"{side}_ffn_dim": self.size.ffn for side in sides}
        torch.manual_seed(1)
        config = M2M100Config(vocab_size=self.entries, d_model=self.size.d_model, dropout=0.0, **shape)
        with torch.device(device):
            return M2M100ForConditionalGeneration(config).eval()

    def load(self, *, device: str) -> Any:
        """Return the model for scoring, in bfloat16 on a GPU."""
        from catprune.checkpoints.external_model import ExternalModel

        with torch.inference_mode(mode=False), torch.no_grad():
            model = self.build(device)
            return ExternalModel(
                model.bfloat16() if device == "cuda" else model, name=str(self.path), is_decoder_only=False
            ).eval()


def scoring(bench: Bench) -> None:
    """Compare the speed of scoring with that of transformers and CTranslate2."""
    job = {"precision": "bfloat16", "threads": torch.get_num_threads(), "batch_tokens": None, "limit": None}
    job |= {"device": bench.device, "sorted": True, "batch": 128}

    def run(
        function: Callable[[Any], Any], tokens: Path, size: Size, entries: int | None = None, **more: Any
    ) -> dict[str, Any]:
        """Time a contender after a run over few pairs."""
        for path, is_warm in ((bench.some, False), (tokens, True)):
            out = bench.scratch / "out" / "speed"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            timed = function({**job, "tokens": str(path), "out": str(out), **more})
            if is_warm or not bench.quick:
                result, numbers = bench.time(timed)
        flops, _ = flops_of(tokens, size, vocab_size=entries)
        return {**numbers, **bench.speed(numbers["seconds"], result["tokens"], flops)}

    for preset in bench.presets:
        checkpoint, size = str(bench.data.checkpoint(preset)), PRESETS[preset]
        attempt(f"{preset}, catprune", lambda c=checkpoint, s=size: run(scorers.scoring, bench.whole, s, checkpoint=c))
        attempt(
            f"{preset}, transformers",
            lambda c=checkpoint, s=size: run(scorers.transformers_scores, bench.some, s, checkpoint=c),
        )
        attempt(
            f"{preset}, CTranslate2",
            lambda p=preset, s=size: run(
                scorers.ctranslate2_scores,
                bench.some,
                s,
                model=str(bench.data.ctranslate2(p)),
                type="default" if bench.quick else "bfloat16",
                batch_tokens=16_384,
            ),
        )
    large = Large(quick=bench.quick)
    for label, function in (("catprune", scorers.scoring), ("transformers", scorers.transformers_scores)):
        attempt(
            f"seq2seq of 600M, {label}",
            lambda f=function: run(f, bench.some, large.size, large.entries, model=large, batch=32),
        )


def kernels(bench: Bench) -> None:
    """Check the fused output layer against float64, and compare its speed with other ways."""
    for shape in [(40, 32, 700)] if bench.quick else [(16_384, 512, 32_000), (8192, 1024, 256_000)]:
        _kernels(bench, *shape)


def _kernels(bench: Bench, tokens: int, width: int, entries: int) -> None:
    torch.manual_seed(1)
    hidden = torch.randn(tokens, width, device=bench.device)
    matrix = torch.randn(entries, width, device=bench.device) * width**-0.5
    targets = torch.randint(entries, (tokens,), device=bench.device)
    narrow, shape = matrix.bfloat16(), f"{tokens} tokens, width {width}, {entries} entries"
    _check_kernel(hidden, narrow, targets, shape)
    for kind in (torch.float32, torch.bfloat16):
        _check_loss(hidden[:256], narrow, targets[:256], kind, shape)
    plain = SimpleNamespace(
        dtype=torch.bfloat16, entries=8192, multiply=lambda x, low, m=narrow: x @ m[low : low + 8192].T
    )

    def whole(x: torch.Tensor, m: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        log_p = (x.bfloat16() @ m.T).float().log_softmax(1)
        return torch.stack([log_p.gather(1, y[:, None])[:, 0], log_p.exp().square().sum(1)])

    def losses(loss: Callable[..., Any], x: torch.Tensor = hidden, m: torch.Tensor = matrix) -> Callable[[], Any]:
        def run() -> None:
            leaves = [part.detach().requires_grad_() for part in (x, m)]
            loss(*leaves).backward()

        return run

    ways: dict[str, Callable[[], Callable[[], Any]]] = {
        "scoring, fused": lambda: lambda: fused_statistics(hidden, matrix, targets, products=narrow),
        "scoring, in tiles": lambda: lambda: token_statistics(hidden, matrix, targets, products=plain),
        "scoring, all logits": lambda: lambda: whole(hidden, narrow, targets),
        "scoring, torch.compile": lambda: _compiled(bench, whole, hidden, narrow, targets),
        "training, catprune": lambda: losses(
            lambda x, m: smoothed_loss(x, m, targets, smoothing=0.1, dtype=torch.bfloat16)[0] / tokens
        ),
        "training, all logits": lambda: losses(
            lambda x, m: torch.nn.functional.cross_entropy(
                (x.bfloat16() @ m.bfloat16().T).float(), targets, label_smoothing=0.1
            )
        ),
        "training, Liger": lambda: _liger(losses, targets),
    }
    for label, prepare in ways.items():
        products = 6 if label.startswith("training") else 2
        attempt(f"{label}, {shape}", lambda p=prepare, n=products: _rate(bench, p(), n * tokens * width * entries))


def _check_kernel(hidden: torch.Tensor, matrix: torch.Tensor, targets: torch.Tensor, shape: str) -> None:
    def compare() -> dict[str, Any]:
        some = slice(0, 256)
        x, y = hidden[some].bfloat16().float(), targets[some]
        statistics = fused_statistics(x, matrix.float(), y, products=matrix)
        log_p = (x.double() @ matrix.double().T).log_softmax(1)
        nll = -log_p.gather(1, y[:, None])[:, 0]
        error = log_p.exp().scatter_add_(1, y[:, None], -torch.ones_like(nll)[:, None]).norm(dim=1)
        worst = [
            float((ours.double() - exact).abs().max())
            for ours, exact in ((statistics.nll, nll), (statistics.el2n, error))
        ]
        again = fused_statistics(x, matrix.float(), y, products=matrix)
        result = {"worst_error_of_nll": worst[0], "worst_error_of_el2n": worst[1]}
        result["same_bits_twice"] = all(map(torch.equal, statistics, again))
        if max(worst) > 1e-3 or not result["same_bits_twice"]:
            raise RuntimeError(f"the fused kernel is wrong: {result}")
        return result

    attempt(f"fused kernel against float64, {shape}", compare)


def _check_loss(
    hidden: torch.Tensor, matrix: torch.Tensor, targets: torch.Tensor, kind: torch.dtype, shape: str
) -> None:
    """Compare the loss kernel, which replaces logits by their gradients, with torch in float64."""

    def compare() -> dict[str, Any]:
        logits = (hidden @ matrix.float().T).to(kind)
        exact = logits.double().requires_grad_()
        loss = torch.nn.functional.cross_entropy(exact, targets, label_smoothing=0.1, reduction="none")
        loss.sum().backward()
        again = logits.clone()
        smoothed, _ = take_gradients(logits, targets, None, smoothing=0.1)
        repeated, _ = take_gradients(again, targets, None, smoothing=0.1)
        worst = float((smoothed.double() - loss).abs().max())
        gradients = float((logits.double() - exact.grad).norm() / exact.grad.norm())
        result = {"worst_error_of_loss": worst, "relative_error_of_gradients": gradients}
        result["same_bits_twice"] = torch.equal(smoothed, repeated) and torch.equal(logits, again)
        if worst > 1e-3 or gradients > (1e-4 if kind == torch.float32 else 1e-2) or not result["same_bits_twice"]:
            raise RuntimeError(f"the loss kernel is wrong: {result}")
        return result

    attempt(f"loss kernel against float64, {kind}, {shape}".replace("torch.", ""), compare)


def _rate(bench: Bench, run: Callable[[], Any], flops: float) -> dict[str, Any]:
    run()  # compiles
    times = [bench.time(run)[1] for _ in range(1 if bench.quick else 5)]
    best = min(times, key=lambda numbers: numbers["seconds"])
    rate = flops / max(best["seconds"], 1e-9)
    return {**best, "tflops": round(rate / 1e12, 3), "mfu": None if bench.peak is None else round(rate / bench.peak, 4)}


def _compiled(bench: Bench, function: Any, *arguments: torch.Tensor) -> Callable[[], Any]:
    if bench.quick:
        raise Skipped("compiling for a processor takes long, and shows nothing")
    compiled = torch.compile(function)
    return lambda: compiled(*arguments)


def _liger(losses: Any, targets: torch.Tensor) -> Callable[[], Any]:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(label_smoothing=0.1)
    return losses(lambda x, m: loss(m.bfloat16(), x.bfloat16(), targets))


def training(bench: Bench) -> None:
    """Compare `train` with a bare loop of the same updates."""
    job = {"tokens": str(bench.data.tokens), "preset": bench.preset, "precision": "bfloat16", "plain": False}
    job |= {"threads": torch.get_num_threads(), "out": str(bench.scratch / "out" / "training")}
    job |= {"batch_tokens": 512, "steps": 3} if bench.quick else {"batch_tokens": 25_000, "steps": 120}
    flops, tokens = flops_of(bench.data.tokens, PRESETS[bench.preset])

    def run(function: Callable[[Any], Any]) -> dict[str, Any]:
        shutil.rmtree(job["out"], ignore_errors=True)
        result, numbers = bench.time(function(job))
        seconds = (
            result["tokens"] / result["tokens_per_second"] if "tokens_per_second" in result else numbers["seconds"]
        )
        return {**numbers, **bench.speed(seconds, result["tokens"], 3 * flops / tokens * result["tokens"])}

    attempt("warm-up", lambda: bench.time(scorers.bare_training({**job, "steps": 3}))[1])
    for label, function in (("catprune", scorers.training), ("a bare loop", scorers.bare_training)):
        attempt(f"{bench.preset}, {label}", lambda f=function: run(f))


def resume(bench: Bench) -> None:
    """Compare the bytes of runs that were killed and continued with those of undisturbed runs."""
    out = bench.scratch / "out" / "resume"
    shutil.rmtree(out, ignore_errors=True)
    tokens = bench.data.corpus(60 if bench.quick else 10_000, parts=2)
    checkpoint = f"scored={bench.data.checkpoint(bench.preset)}"

    def scores() -> dict[str, Any]:
        options = {"checkpoints": checkpoint, "precision": "bfloat16", "quiet": True}
        catprune.score(tokens, out=out / "a/scores", **options)
        catprune.score(tokens, out=out / "b/scores", shard="2/2", **options)  # ends with one block left
        catprune.score(tokens, out=out / "b/scores", **options)
        return {"same_bytes": _contents(out / "a") == _contents(out / "b")}

    def states() -> dict[str, Any]:
        steps = 6 if bench.quick else 60
        options = {"preset": "tiny", "steps": steps, "save_every": steps // 3, "batch_tokens": 256, "quiet": True}
        catprune.train(tokens, out=out / "c/model", **options)
        given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if name != "quiet"]
        command = [sys.executable, "-m", "catprune", "train", str(tokens), "--out", str(out / "d/model"), *given]
        process = subprocess.Popen([*command, "--quiet"], stdout=sys.stderr)
        while process.poll() is None and not (out / "d/model/state.safetensors").exists():
            time.sleep(0.002)
        was_killed = process.poll() is None
        process.kill()
        process.wait()
        catprune.train(tokens, out=out / "d/model", **options)
        weights = [next((out / part).rglob("model.safetensors")).read_bytes() for part in "cd"]
        return {"was_killed": was_killed, "same_bytes": weights[0] == weights[1]}

    attempt("scoring", scores)
    attempt("training", states)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("part-*"))}


def batches(bench: Bench) -> None:
    """Measure the speed of scoring by the size of a batch."""
    for preset in bench.presets[:2]:
        for size in (512,) if bench.quick else (4096, 16_384, 65_536):

            def run(preset: str = preset, size: int = size) -> dict[str, Any]:
                out = bench.scratch / "out" / "batches"
                shutil.rmtree(out, ignore_errors=True)
                job = {"tokens": str(bench.some), "checkpoint": str(bench.data.checkpoint(preset)), "out": str(out)}
                job |= {"precision": "bfloat16", "threads": torch.get_num_threads(), "batch_tokens": size}
                result, numbers = bench.time(scorers.scoring(job))
                flops, _ = flops_of(bench.some, PRESETS[preset])
                return {**numbers, **bench.speed(numbers["seconds"], result["tokens"], flops)}

            attempt(f"{preset}, {size} tokens", run)


def main() -> None:
    """Measure the parts."""
    bench = Bench(Path(sys.argv[1]), quick=sys.argv[2] == "quick")
    if bench.quick:
        torch.set_num_threads(min(2, torch.get_num_threads()))
    for name in sys.argv[3:]:
        print(json.dumps({"begins": name}), flush=True)
        globals()[name](bench)


require_torch()
if __name__ == "__main__":
    main()
