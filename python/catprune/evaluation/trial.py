"""A trial: one subset trained with one seed, its dev curve, the checkpoint that is tested, and its test scores."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from catprune._core import digest_bytes, digest_file
from catprune.checkpoints.native import average_checkpoints
from catprune.corpus.appended import replacing
from catprune.evaluation.after_full import FULL
from catprune.evaluation.cost import (
    choosing_flops,
    choosing_seconds,
    external_checkpoints,
    scorers_of,
    training_seconds,
)
from catprune.evaluation.metrics import measure
from catprune.training.recipe import choose_recipe
from catprune.workspace.device import own_state
from catprune.workspace.files import copy_whole, read_json, to_json, write_whole
from catprune.workspace.manifest import describe_folder, digest_manifest, read_manifest, verify_shards
from catprune.workspace.sealed import read_sealed, seal
from catprune.workspace.step_folder import StepFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from catprune.corpus.bitexts import Bitext
    from catprune.scoring.scorers.comet import CometMetric
    from catprune.training.held_out import HeldOut

#: Where the training of a trial is until its results are known; then the folder is removed.
_TRAINING = "training"


@dataclass(frozen=True, slots=True)
class Design:
    """What all trials of an evaluation have in common.

    Attributes:
        tokens: the tokens folder.
        steps: updates.
        training: other options of `train`.
        dev: the dev set; None: the last checkpoint is tested.
        every: updates between two evaluated checkpoints.
        translate_every: the dev set is translated at every Nth of these, counted from the last.
        average: how many of the last checkpoints are averaged; None: the checkpoint of lowest dev loss is tested.
        tests: the test sets.
        beam: beam size of test translations.
        bleu_tokenizer: sacrebleu's tokenizer.
        comet: the metric COMET; None: it is not measured.
        full_steps: updates after which trainings on all clean pairs are continued on parts of them; None: none are.
    """

    tokens: Path
    steps: int
    training: Mapping[str, Any]
    dev: HeldOut | None
    every: int
    translate_every: int
    average: int | None
    tests: Sequence[HeldOut]
    beam: int
    bleu_tokenizer: str
    comet: CometMetric | None = None
    full_steps: int | None = None

    @property
    def points(self) -> list[int]:
        """The updates after which checkpoints are written."""
        if self.dev is None and self.average is None:
            return [self.steps]
        return sorted({*range(self.every, self.steps, self.every), self.steps})


class _TrialFolder(StepFolder):
    """Its training is a step with a plan of its own."""

    keeps: ClassVar[frozenset[str]] = StepFolder.keeps | {_TRAINING}


@dataclass(frozen=True, slots=True)
class Trial:
    """One subset under one seed.

    Attributes:
        design: what all trials have in common.
        folder: holds model/ (the trained model with its dev curve), translations/ and result.json.
        subset: name of the subset.
        seed: training seed.
        selection: selection folder; None: all clean pairs.
        full: the trial on all clean pairs whose training this one continues; None: it starts from random weights.
    """

    design: Design
    folder: Path
    subset: str
    seed: int
    selection: Path | None
    full: Trial | None = None

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that is tested."""
        return self.folder / "model" / "checkpoint"

    def run(self, *, threads: int | None, quiet: bool, force: bool) -> dict[str, Any]:
        """Train, evaluate and translate what is not done yet; return the content of result.json, which has no times."""
        trained = self._train(threads=threads, quiet=quiet, force=force)
        with own_state(threads):
            tests = {test.bitext.name: self._test(test, threads=threads) for test in self.design.tests}
        warmup, scoring = choosing_flops(self.selection)
        choosing = warmup + scoring
        result = {
            "subset": self.subset,
            "seed": self.seed,
            "full_steps": 0 if self.full is None else self.design.full_steps,
            "counts": trained["counts"],
            "parameters": trained["parameters"],
            "flops": {"warmup": warmup, "scoring": scoring, "training": trained["flops"]},
            "scorers": [column.name for column in scorers_of(self.selection)],
            "external": external_checkpoints(self.selection),
            "curve": [{**point, "flops": choosing + point["flops"]} for point in trained["curve"]],
            "end": trained["end"],
            "tested": trained["tested"],
            "tests": tests,
        }
        write_whole(self.folder / "result.json", to_json(result))
        return result

    def seconds(self) -> dict[str, float] | None:
        """Return what choosing and training took; None where a log is missing."""
        measured = self.folder / "model" / "log" / "seconds.json"
        training = read_json(measured)["training"] if measured.is_file() else None
        chosen = choosing_seconds(self.selection)
        if training is None or chosen is None:
            return None
        return {"warmup": chosen[0], "scoring": chosen[1], "training": training}

    def translations(self, test: HeldOut) -> list[str]:
        """Return the translations of a test set, one line for each of its lines."""
        return _read_lines(self._translated(test))

    def _train(self, *, threads: int | None, quiet: bool, force: bool) -> dict[str, Any]:
        design, path = self.design, self.folder / "model"
        selection = None if self.selection is None else describe_folder(self.selection, relative_to=path)
        reads = {
            "tokens": describe_folder(design.tokens, relative_to=path),
            "selection": selection,
            "dev": None if design.dev is None else design.dev.bitext.digests,
        }
        recipe = asdict(choose_recipe(design.training["preset"], design.training))
        plan = {**self._options, "recipe": recipe, "points": design.points, "average": design.average}
        if self.full is not None:
            reads["full"] = describe_folder(self.full.folder / "model", relative_to=path)
            plan["full_steps"] = design.full_steps
        if design.dev is not None:
            plan["translate_every"] = design.translate_every
        plan.pop("save_every", None)
        plan.pop("accumulate", None)
        with _TrialFolder(path, step="trial", reads=reads, options=plan, force=force) as folder:
            if folder.manifest is None:
                done = self._run_training(path / _TRAINING, threads=threads, quiet=quiet, force=force)
                with own_state(threads):
                    folder.publish(**self._evaluate(done, path / _TRAINING, threads=threads))
            else:
                verify_shards(path, folder.manifest)
            # Only now: a killed trial continues from these files.
            shutil.rmtree(path / _TRAINING, ignore_errors=True)
            assert folder.manifest is not None
            return folder.manifest

    @property
    def _options(self) -> dict[str, Any]:
        return {"steps": self.design.steps, "seed": self.seed, **self.design.training}

    @property
    def _is_continued(self) -> bool:
        """Whether trainings on parts continue this one."""
        return self.design.full_steps is not None and self.subset == FULL

    @property
    def _continued(self) -> Path:
        """The checkpoint with moments that other trainings continue from, while these are not done."""
        return self.folder / "continued"

    @property
    def _repeated(self) -> Path:
        """The folder of a training that is repeated for the checkpoint to continue from."""
        return self.folder / "repeated"

    def _run_training(self, out: Path, *, threads: int | None, quiet: bool, force: bool) -> Mapping[str, Any]:
        """Train into a folder, and return the manifest of the training."""
        from catprune.training.train import train

        design, options = self.design, self._options
        points, branch = design.points, design.full_steps
        if self.full is not None:
            assert branch is not None
            options["resume_from"] = self.full.to_continue(threads=threads, quiet=quiet)
            points = [point for point in points if point > branch]
        elif self._is_continued:
            points, options["keep_moments"] = sorted({*points, branch or 0}), branch
            shutil.rmtree(self._continued, ignore_errors=True)
        # What the folder holds belongs to this trial; if the training is of another plan, it starts again.
        done = replacing(lambda _: True, train)(
            design.tokens,
            out=out,
            selection=self.selection,
            checkpoints=",".join(f"{point}steps" for point in points),
            threads=threads,
            quiet=quiet,
            force=force,
            **options,
        )
        if self._is_continued:
            copy = self._continued.with_suffix(".tmp")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(out / f"step-{branch}", copy)
            copy.rename(self._continued)
        return done.manifest

    def to_continue(self, *, threads: int | None, quiet: bool) -> Path:
        """Return the checkpoint that trainings on parts continue from; without it, train again."""
        if not self._continued.is_dir():
            # Not in model/, which is finished: a killed training continues from this folder.
            self._run_training(self._repeated, threads=threads, quiet=quiet, force=False)
            shutil.rmtree(self._repeated)
        return self._continued

    def forget(self) -> None:
        """Remove the checkpoint that trainings on parts continue from."""
        shutil.rmtree(self._continued, ignore_errors=True)
        shutil.rmtree(self._repeated, ignore_errors=True)

    def _evaluate(self, trained: Mapping[str, Any], training: Path, *, threads: int | None) -> dict[str, Any]:
        """Read the dev curve off the checkpoints, and keep the one that will be tested."""
        path, points = self.folder / "model", self.design.points
        listed = [entry for entry in trained["checkpoints"] if entry["step"] in points]
        names = ("step", "epoch", "target_tokens", "flops")
        curve = [{name: entry[name] for name in names} for entry in listed]
        for place, (point, entry) in enumerate(zip(curve, listed, strict=True)):
            if self.design.dev is not None:
                point["nll"] = self.design.dev.nll(training / entry["name"])
                if (len(listed) - 1 - place) % self.design.translate_every == 0:
                    point["chrF"] = self._dev_chrf(training / entry["name"], threads=threads)
        tested = listed[-(self.design.average or 1) :]
        if self.design.dev is not None and self.design.average is None:
            best = min(range(len(curve)), key=lambda place: curve[place]["nll"])
            tested = [listed[best]]
        average_checkpoints([training / entry["name"] for entry in tested], self.checkpoint)
        copy_whole(training / "metrics.jsonl", path / "metrics.jsonl")
        write_whole(path / "log" / "seconds.json", to_json({"training": training_seconds(training)}))
        return {
            **{name: trained[name] for name in ("counts", "flops", "parameters", "precision", "torch")},
            "curve": [*self._curve_before(), *curve] if self.design.dev is not None else [],
            "end": curve[-1],
            "tested": [entry["step"] for entry in tested],
        }

    def _curve_before(self) -> list[dict[str, Any]]:
        """Return the part of the dev curve that was trained on all clean pairs."""
        if self.full is None:
            return []
        curve = read_manifest(self.full.folder / "model", step="trial")["curve"]
        return [point for point in curve if point["step"] <= (self.design.full_steps or 0)]

    def _dev_chrf(self, checkpoint: Path, *, threads: int | None) -> float:
        from catprune.evaluation.translate import translate

        assert self.design.dev is not None
        bitext = self.design.dev.bitext
        translated = translate(checkpoint, bitext.source, beam=1, threads=threads)
        return round(measure(translated, bitext.target, tokenizer=self.design.bleu_tokenizer)["chrF"], 4)

    def _translated(self, test: HeldOut) -> Path:
        return self.folder / "translations" / f"{test.bitext.name}.txt"

    def _test(self, test: HeldOut, *, threads: int | None) -> dict[str, float]:
        """Translate a test set, unless the same model did, and return its scores."""
        from catprune.evaluation.translate import translate

        bitext, path = test.bitext, self._translated(test)
        made_by = {"model": digest_manifest(self.folder / "model"), "beam": self.design.beam, **bitext.digests}
        stamp = path.with_suffix(".digest")

        def digest() -> bytes:
            return digest_bytes(to_json({**made_by, "text": digest_file(str(path))})).encode()

        if not path.is_file() or not stamp.is_file() or stamp.read_bytes() != digest():
            path.parent.mkdir(parents=True, exist_ok=True)
            translations = translate(self.checkpoint, bitext.source, beam=self.design.beam, threads=threads)
            write_whole(path, "".join(line.replace("\n", " ") + "\n" for line in translations).encode())
            write_whole(stamp, digest())
        translated = _read_lines(path)
        scores = measure(translated, bitext.target, tokenizer=self.design.bleu_tokenizer)
        scores = {name: round(score, 4) for name, score in scores.items()} | {"nll": test.nll(self.checkpoint)}
        if self.design.comet is not None:
            scores["COMET"] = self._comet(bitext, translated, digest=stamp.read_text())
        return scores

    def _comet(self, bitext: Bitext, translated: Sequence[str], *, digest: str) -> float:
        """Return the COMET score of translations, unless the same model scored them."""
        assert self.design.comet is not None
        path = self.folder / "translations" / f"{bitext.name}.comet.json"
        stamp = {"model": self.design.comet.described, "translations": digest}
        old: dict[str, Any] = read_sealed(path, remedy="remove the file and evaluate again") if path.is_file() else {}
        if {name: old.get(name) for name in stamp} != stamp:
            score = round(self.design.comet.measure(bitext.source, translated, bitext.target), 6)
            write_whole(path, seal({**stamp, "score": score}))
            return score
        return float(old["score"])


def _read_lines(path: Path) -> list[str]:
    """Return the translations that `_translated` wrote."""
    return path.read_bytes().decode().removesuffix("\n").split("\n")
