"""External checkpoints of fairseq: the .pt of an encoder-decoder transformer, and its dictionaries."""

from __future__ import annotations

import argparse
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_bytes, digest_file
from catprune.checkpoints.marian_vocabulary import SPECIAL_OF_FAIRSEQ, Words, read_dictionary
from catprune.errors import CatpruneError, UsageError, require
from catprune.tokens.blocks import Tokenizer
from catprune.workspace.files import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from catprune.checkpoints.marian_model import MarianModel

#: Tokens of a side at most, as for Marian; learned positions may allow fewer.
LONGEST = 512
SIDES = ("source", "target")
_NAMES = {"source": "encoder", "target": "decoder"}
#: Ids of padding and of the end of a sentence, with which the decoder starts; positions follow the id of padding.
PADDING, END, FIRST_POSITION = 1, 2, 2
#: Models of an earlier version (`encoder.version`) do not normalize after the last layer, whatever their weights.
_NORMALISED_AT_THE_END = 3
#: Options that change the model, with the only value that is supported.
_ONLY = {
    "adaptive_softmax_cutoff": None,
    "adaptive_input": False,
    "cross_self_attention": False,
    "no_cross_attention": False,
    "no_scale_embedding": False,
    "no_token_positional_embeddings": False,
    "no_decoder_final_norm": False,
    "char_inputs": False,
}
#: Activations that are supported; "swish" does not work in fairseq.
_ACTIVATIONS = ("relu", "gelu")


@dataclass(frozen=True)
class Fairseq:
    """A checkpoint of fairseq's task `translation`.

    Attributes:
        path: the .pt file.
        options: the options of the model, by fairseq's names.
        step: updates, if the file says how many; else None.
        described: all that determines the ids: digests of the dictionaries, special ids.
        tokenizer: vocabulary size, special ids (the decoder starts with the end of a sentence) and the digest of
            `described`.
        vocabularies: of sources and targets.
    """

    path: Path
    options: dict[str, Any]
    step: int | None
    described: dict[str, Any]
    tokenizer: Tokenizer
    vocabularies: tuple[Words, Words] = field(repr=False, compare=False)

    is_decoder_only = False

    @property
    def longest(self) -> int:
        """The most tokens of a side: learned positions may be fewer."""
        learned = [side for side in SIDES if self.options.get(f"{_NAMES[side]}_learned_pos")]
        return min([LONGEST, *(int(self.options.get(f"max_{side}_positions") or LONGEST) for side in learned)])

    @classmethod
    def open(cls, path: Path, *, languages: tuple[str | None, str | None]) -> Fairseq:
        """Read the options and the dictionaries of a model; weights stay on disk.

        Raises:
            UsageError: the languages of the dictionaries are not known.
            CatpruneError: the file is not a checkpoint of fairseq, or the model has unsupported parts.
            MissingExtra: torch is not installed.
        """
        require("torch", "torch")
        saved = _load(path)
        options, task = _options(saved, path)
        _check(options, task, saved["model"], path)
        names = _dictionaries(path, task, languages)
        source, target = (_words(name) for name in names)
        for words, name, side in zip((source, target), names, ("encoder", "decoder"), strict=True):
            rows = len(saved["model"][f"{side}.embed_tokens.weight"])
            if rows != words.size:
                raise CatpruneError(
                    f"{path} has {rows} embeddings on the {side} side, but {name} has {words.size} entries: give the "
                    "model its own dictionaries"
                )
        ids = {"vocab_size": max(source.size, target.size), "bos_id": END, "eos_id": END, "pad_id": PADDING}
        files = {f"{side} {name.name}": digest_file(str(name)) for side, name in zip(SIDES, names, strict=True)}
        described = {"files": files, "libraries": [source.version], **ids}
        history: Any = saved.get("optimizer_history") or [{}]
        step = history[-1].get("num_updates")
        tokenizer = Tokenizer(digest_bytes(to_json(described)), **ids)
        return cls(path, options, step, described, tokenizer, (source, target))

    def reads(self) -> dict[str, Any]:
        """Return the digest of the file that is read."""
        return {"weights": {self.path.name: digest_file(str(self.path))}}

    def recorded(self) -> dict[str, Any]:
        """Return the known facts about the training; its rows are unknown."""
        return {"step": self.step, **dict.fromkeys(("epoch", "target_tokens", "flops", "seen")), "reverse": False}

    def encode(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Encode pairs, end-of-sentence included.

        Raises:
            CatpruneError: the text is not segmented as the dictionaries need it.
        """
        source, target = self.vocabularies
        return source.encode(sources), target.encode(targets)

    def load(self, *, device: str) -> MarianModel:
        """Load the model in eval mode, float32.

        Raises:
            CatpruneError: weights are missing, or belong to unsupported parts.
        """
        import torch

        from catprune.checkpoints.marian_model import Conventions, MarianModel
        from catprune.model.transformer import sinusoids

        given = {name: tensor.float() for name, tensor in _load(self.path)["model"].items()}
        version = float(given.get("encoder.version", torch.tensor([0.0]))[0])
        ends = version >= _NORMALISED_AT_THE_END and bool(self.options.get("encoder_normalize_before"))
        if not ends:
            given = {name: tensor for name, tensor in given.items() if ".".join(name.split(".")[1:-1]) != "layer_norm"}
        positions: list[torch.Tensor] = []
        for side in ("encoder", "decoder"):
            learned = given.pop(f"{side}.embed_positions.weight", None)
            table = sinusoids(LONGEST + FIRST_POSITION, self.options["encoder_embed_dim"])
            positions.append((table if learned is None else learned)[FIRST_POSITION:])
        conventions = Conventions(
            epsilon=1e-5, activations={"gelu": torch.nn.functional.gelu}, positions=(positions[0], positions[1])
        )
        weights = {name: tensor.numpy() for name, tensor in _rename(given, self.options).items()}
        try:
            model = MarianModel(weights, _as_marian(self.options, ends=ends), start=END, conventions=conventions)
        except KeyError as error:
            raise CatpruneError(f"{self.path}: the weights {error} are missing") from None
        except ValueError as error:
            raise CatpruneError(f"{self.path}: {error}") from None
        return model.to(device).eval()


def is_fairseq(path: Path) -> bool:
    """Whether a path is a checkpoint of fairseq, by its suffix."""
    return path.suffix == ".pt" and path.is_file()


def _load(path: Path) -> dict[str, Any]:
    """Read a checkpoint: tensors, numbers, text, and containers of them; nothing else is unpickled."""
    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            saved: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CatpruneError(
            f"{path} cannot be read ({reason}): give a checkpoint that fairseq wrote, without objects of other code"
        ) from None
    if not isinstance(saved, dict) or not isinstance(saved.get("model"), dict):  # pyright: ignore[reportUnknownMemberType]
        raise CatpruneError(f"{path} is not a checkpoint of fairseq: it has no model")
    return saved  # pyright: ignore[reportUnknownVariableType]


def _options(saved: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the model and of the task; old checkpoints have both in `args`."""
    configuration: Any = saved.get("cfg")
    if isinstance(configuration, dict):
        parts = [configuration.get(name) for name in ("model", "task")]
        parts = [vars(part) if isinstance(part, argparse.Namespace) else part for part in parts]
        if all(isinstance(part, dict) for part in parts):
            return parts[0], parts[1]  # pyright: ignore[reportReturnType]
    if isinstance(saved.get("args"), argparse.Namespace):
        values = vars(saved["args"])
        return values, {**values, "_name": values.get("task")}
    raise CatpruneError(f"{path} is not a checkpoint of fairseq: it has no options (cfg or args)")


def _check(options: Mapping[str, Any], task: Mapping[str, Any], weights: Mapping[str, Any], path: Path) -> None:
    """Check that the model is supported.

    Raises:
        CatpruneError: it is not.
    """
    fault = None
    if task.get("_name") != "translation":
        fault = f"the task {task.get('_name')}: only translation of one language pair is supported"
    elif not all(f"{side}.embed_tokens.weight" in weights for side in ("encoder", "decoder")):
        fault = "no encoder-decoder transformer"
    elif wrong := [name for name, value in _ONLY.items() if (options.get(name) or value) != value]:
        fault = f"{wrong[0]} = {options[wrong[0]]}: not supported"
    elif options.get("activation_fn", "relu") not in _ACTIVATIONS:
        fault = f"activation_fn = {options.get('activation_fn')}: not supported"
    else:
        for name in ("embed_dim", "attention_heads", "normalize_before"):
            values = [options.get(f"{side}_{name}") for side in ("encoder", "decoder")]
            if values[0] != values[1]:
                fault = f"{name} differs between encoder and decoder ({values[0]}, {values[1]}): not supported"
    if fault:
        raise CatpruneError(f"{path} has {fault}")


def _dictionaries(path: Path, task: Mapping[str, Any], languages: tuple[str | None, str | None]) -> tuple[Path, Path]:
    """Find the dictionaries of both sides: next to the checkpoint, above it, or in the folder of the training data.

    Raises:
        UsageError: the languages are not known.
        CatpruneError: there is no dictionary.
    """
    data = Path(str(task.get("data") or "").split(":")[0])
    folders = [path.parent, path.parent.parent, data]
    source, target = (given or task.get(f"{side}_lang") for given, side in zip(languages, SIDES, strict=True))
    if not source or not target:
        # As fairseq does: from the names of its binary files, like train.en-de.en.idx.
        pairs = {file.name.split(".")[1] for folder in folders for file in folder.glob("train.*-*.*.idx")}
        if len(pairs) != 1 or next(iter(pairs)).count("-") != 1:
            raise UsageError(f"{path} does not name its languages: give source_lang and target_lang")
        source, target = next(iter(pairs)).split("-")
    found: list[Path] = []
    for language in (source, target):
        places = [folder / f"dict.{language}.txt" for folder in folders]
        place = next((file for file in places if file.is_file()), None)
        if place is None:
            raise CatpruneError(f"{path}: dict.{language}.txt is missing: copy it next to the checkpoint")
        found.append(place)
    return found[0], found[1]


def _words(path: Path) -> Words:
    return Words(read_dictionary(path), path, special=SPECIAL_OF_FAIRSEQ[:-1], any_space=True)


def _as_marian(options: Mapping[str, Any], *, ends: bool) -> dict[str, Any]:
    """Return the options by Marian's names; `ends` says whether the last layer is followed by a normalization."""
    is_pre = bool(options.get("encoder_normalize_before"))
    return {
        "transformer-heads": options["encoder_attention_heads"],
        "enc-depth": options["encoder_layers"],
        "dec-depth": options["decoder_layers"],
        "transformer-preprocess": "n" if is_pre else "",
        "transformer-postprocess": "da" if is_pre else "dan",
        "transformer-postprocess-emb": "n" if options.get("layernorm_embedding") else "",
        "transformer-postprocess-top": "n" if ends else "",
        "transformer-ffn-activation": options.get("activation_fn", "relu"),
        "tied-embeddings": False,  # the output matrix has a name of its own
    }


_PARTS = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "o"}


def _rename(given: dict[str, torch.Tensor], options: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights by Marian's names; its matrices are transposed."""
    import torch

    end = "_pre" if options.get("encoder_normalize_before") else ""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in given.items():
        side, *path = name.split(".")
        is_bias = path[-1] == "bias"
        match path:
            case ["version"] | ["embed_positions", "_float_tensor"]:
                continue
            case ["embed_tokens", "weight"]:
                renamed[f"{side}_Wemb"] = tensor
            case ["output_projection", "weight"]:
                renamed["decoder_ff_logit_out_Wt"] = tensor
            case ["layernorm_embedding", _]:
                renamed[f"{side}_emb_ln_{'bias' if is_bias else 'scale'}_pre"] = tensor
            case ["layer_norm", _]:
                renamed[f"{side}_top_ln_{'bias' if is_bias else 'scale'}"] = tensor
            case ["layers", layer, ("self_attn" | "encoder_attn") as block, part, _] if part in _PARTS:
                kind = "self" if block == "self_attn" else "context"
                place = f"{side}_l{int(layer) + 1}_{kind}_{'b' if is_bias else 'W'}{_PARTS[part]}"
                renamed[place] = tensor if is_bias else tensor.T
            case ["layers", layer, ("self_attn_layer_norm" | "encoder_attn_layer_norm") as norm, _]:
                kind = "self" if norm.startswith("self") else "context"
                renamed[f"{side}_l{int(layer) + 1}_{kind}_Wo_ln_{'bias' if is_bias else 'scale'}{end}"] = tensor
            case ["layers", layer, ("fc1" | "fc2") as part, _]:
                place = f"{side}_l{int(layer) + 1}_ffn_{'b' if is_bias else 'W'}{part[-1]}"
                renamed[place] = tensor if is_bias else tensor.T
            case ["layers", layer, "final_layer_norm", _]:
                renamed[f"{side}_l{int(layer) + 1}_ffn_ffn_ln_{'bias' if is_bias else 'scale'}{end}"] = tensor
            case _:
                renamed[name] = tensor  # which the model refuses
    output = renamed.setdefault("decoder_ff_logit_out_Wt", renamed["decoder_Wemb"])
    renamed["decoder_ff_logit_out_b"] = torch.zeros(len(output))
    return {name: tensor.contiguous() for name, tensor in renamed.items()}
