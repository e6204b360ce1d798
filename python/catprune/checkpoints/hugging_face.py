"""External checkpoints of the transformers library: encoder-decoder and decoder-only models."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_bytes, digest_file
from catprune.checkpoints.plain_text import PlainText
from catprune.errors import CatpruneError, UsageError, require
from catprune.tokens.blocks import Tokenizer
from catprune.workspace.files import read_json, to_json

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from catprune.checkpoints.external_model import ExternalModel

#: Files of a tokenizer, of any kind; other files of a checkpoint do not change ids.
TOKENIZER_FILES = ("token*.json", "*.spm", "*.model", "vocab*", "merges.txt", "special_tokens_map.json", "added_*.json")
#: Settings in a tokenizer's files that do not change ids here: options of its last call, and its origin.
LAST_CALL = (
    *("max_length", "padding", "padding_side", "pad_to_multiple_of", "src_lang", "stride", "tgt_lang"),
    *("truncation", "truncation_side", "truncation_strategy"),
    *("is_local", "local_files_only", "model_max_length", "name_or_path"),
)
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
#: Most of the memory of a GPU that weights take, so that batches fit next to them.
_GPU_SHARE = 0.8
#: Stands for the source in a prompt.
SOURCE = "{source}"
LONGEST = 512


@dataclass(frozen=True)
class HuggingFace:
    """A checkpoint folder of the transformers library.

    Attributes:
        path: the folder.
        is_decoder_only: whether the model has no encoder; the source is then part of a prompt.
        longest: maximum tokens of a side, or of prompt and target together.
        prompt: text around `{source}`. For a decoder-only model it is everything before the target; for a model with an
            encoder it wraps the source (T5's task, the code of an opus-mt model). None for a decoder-only model that
            scores texts without a source.
        step, epoch: position in the training, from trainer_state.json or the folder's name (checkpoint-500); else None.
        described: all that determines the ids: digests of the tokenizer's files, languages, prompt, special ids, and
            how prompt and target are separated.
        tokenizer: vocabulary size, special ids (bos is the decoder's start symbol), and the digest of `described`.
    """

    path: Path
    is_decoder_only: bool
    longest: int
    prompt: str | None
    step: int | None
    epoch: float | None
    described: dict[str, Any]
    tokenizer: Tokenizer
    _encoder: Any = field(repr=False, compare=False)

    @cached_property
    def _texts(self) -> PlainText:
        return PlainText(self._encoder, str(self.path))

    @classmethod
    def open(
        cls, path: Path, *, languages: tuple[str | None, str | None], prompt: str | None, monolingual: bool = False
    ) -> HuggingFace:
        """Read the configuration and the tokenizer of a checkpoint; weights are not loaded.

        Raises:
            CatpruneError: the folder holds no model that can score, or the tokenizer cannot be read.
            UsageError: languages or a prompt are missing, or the model does not use them.
            MissingExtra: transformers is not installed.
        """
        require("transformers", "transformers", "sentencepiece")
        if (path / "adapter_config.json").is_file():
            raise CatpruneError(f"{path} is an adapter: merge it into its model (merge_and_unload), and save that")
        config = _configuration(path)
        is_decoder_only = not config.is_encoder_decoder
        _check(path, prompt, is_decoder_only=is_decoder_only, monolingual=monolingual)
        if is_decoder_only and any(languages):
            raise UsageError(f"{path} is a decoder-only model: name the languages in the prompt instead")
        encoder = _load_tokenizer(path, languages)
        codes: list[str] = getattr(encoder, "supported_language_codes", None) or []
        if codes and not any(code in (prompt or "") for code in codes):
            raise UsageError(f"{path} translates into several languages: give a prompt like '{codes[0]} {SOURCE}'")
        state = _read(path / "trainer_state.json") if (path / "trainer_state.json").is_file() else {}
        named = re.fullmatch(r"checkpoint-([0-9]+)", path.resolve().name)
        step = state.get("global_step", int(named[1]) if named else None)
        files = {file.name: _digest(file) for pattern in TOKENIZER_FILES for file in sorted(path.glob(pattern))}
        ids = _special_ids(path, config, encoder)
        kind: dict[str, Any] = {"model_type": config.model_type, "tokenizer_class": type(encoder).__name__}
        if is_decoder_only and not monolingual:
            kind["targets_begin_by"] = "offsets" if encoder.is_fast else "common prefix"
        versions = {name: version(name) for name in ("transformers", "tokenizers", "sentencepiece")}
        described = {"files": files, "languages": list(languages), "prompt": prompt, **kind, **versions, **ids}
        tokenizer = Tokenizer(digest_bytes(to_json(described)), **ids)
        longest = min([LONGEST, *_numbers(config, "max_position_embeddings", "n_positions")])
        return cls(path, is_decoder_only, longest, prompt, step, state.get("epoch"), described, tokenizer, encoder)

    def reads(self) -> dict[str, Any]:
        """Return the digests of the files that are read: config and weights, only safetensors if there are any.

        Raises:
            CatpruneError: there are no weights.
        """
        weights = {file.name: digest_file(str(file)) for file in self._weights()}
        return {"weights": weights, "config": digest_file(str(self.path / "config.json"))}

    def _weights(self) -> list[Path]:
        for pattern in WEIGHTS:
            if files := sorted(self.path.glob(pattern)):
                return files
        raise CatpruneError(f"{self.path} holds no weights: save the model there ({' or '.join(WEIGHTS)})")

    def recorded(self) -> dict[str, Any]:
        """Return the known facts about the training; its rows are unknown."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "target_tokens": None,
            "flops": None,
            "reverse": False,
            "seen": None,
        }

    def encode(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Encode pairs in the form that the model was trained on, end symbols and language codes included.

        Special tokens that stand in the text are encoded as text; those of the prompt are special.
        """
        with _quiet():  # the library warns about long texts, which get no tokens here
            if self.is_decoder_only and self.prompt is None:
                return self._encode_alone(targets)
            if self.is_decoder_only:
                return self._encode_prompted(sources, targets)
            return self._encode_sources(sources), self._texts.encode(targets, target=True)

    def _encode_sources(self, sources: Sequence[str]) -> list[list[int]]:
        if self.prompt is None:
            return self._texts.encode(sources)
        before, after = self.prompt.split(SOURCE)
        ids: list[list[int]] = self._encoder([f"{before}{source}{after}" for source in sources])["input_ids"]
        most = self._texts.count_special(self._encoder(f"{before}a{after}")["input_ids"])
        first, last = self._texts.ends()
        for place in self._texts.find_special(ids, most=most):
            ids[place] = [*first, *self._prompted(sources[place]), *last]
        return ids

    def _prompted(self, source: str) -> list[int]:
        """Encode the parts of a prompt one by one, because its source has a special token in the text."""
        before, after = (self.prompt or "").split(SOURCE)
        return [*self._texts.prompt(before), *self._texts.text(source), *self._texts.prompt(after)]

    def _encode_prompted(
        self, sources: Sequence[str], targets: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Encode each prompt and its target as one text, and split the ids where the target starts.

        Tokens are assigned by character offsets; a token that spans the boundary counts as target. Tokenizers without
        offsets split after the common prefix with the ids of the prompt alone.
        """
        before, after = (self.prompt or "").split(SOURCE)
        prompts = [f"{before}{source}{after}" for source in sources]
        texts = [f"{prompt}{target}" for prompt, target in zip(prompts, targets, strict=True)]
        begin, end = self.tokenizer.bos_id, self.tokenizer.eos_id
        if self._encoder.is_fast:
            encoded = self._encoder(texts, return_offsets_mapping=True)
            spans: list[list[tuple[int, int]]] = encoded["offset_mapping"]
            counts = [
                next((place for place, (_, last) in enumerate(tokens) if last > len(prompt)), len(tokens))
                for tokens, prompt in zip(spans, prompts, strict=True)
            ]
        else:
            encoded = self._encoder(texts)
            alone: list[list[int]] = self._encoder(list(prompts))["input_ids"]
            counts = [_count_equal(*pair) for pair in zip(alone, encoded["input_ids"], strict=True)]
        ids: list[list[int]] = encoded["input_ids"]
        first, last = self._texts.ends()
        most = self._texts.count_special(self._encoder(f"{before}a{after}a")["input_ids"])
        for place in self._texts.find_special(ids, most=most):
            prompt = [*first, *self._prompted(sources[place])]
            ids[place] = [*prompt, *self._texts.text(targets[place]), *last]
            counts[place] = len(prompt)
        # Some tokenizers append end-of-sentence themselves.
        sequences = [sequence if sequence[-1:] == [end] else [*sequence, end] for sequence in ids]
        # Without tokens before the target, its first token follows the start symbol.
        prefixes = [sequence[:count] or [begin] for sequence, count in zip(sequences, counts, strict=True)]
        return prefixes, [sequence[count:] for sequence, count in zip(sequences, counts, strict=True)]

    def _encode_alone(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Encode texts without a source: the first id of each, which is not predicted, and the other ids.

        The first id is the start symbol of the tokenizer, or the text's first token if it has none, as in the library's
        own loss. The last id is end-of-sentence.
        """
        end, (_, last) = self.tokenizer.eos_id, self._texts.ends()
        ids = self._texts.encode(texts)
        return [text[:1] for text in ids], [text[1:] if last[-1:] == [end] else [*text[1:], end] for text in ids]

    def load(self, *, device: str, own_dtype: bool = False) -> ExternalModel:
        """Load the model in eval mode; a model that does not fit into one GPU is spread over all.

        Args:
            device: `cpu` or `cuda`.
            own_dtype: load the weights in the dtype of the checkpoint instead of float32.

        Raises:
            CatpruneError: the weights cannot be read without running code from them, are incomplete, or do not fit into
                all GPUs, or the output layer is not a single matrix.
            MissingExtra: the model needs several GPUs, and accelerate is not installed.
        """
        import torch
        import transformers

        from catprune.checkpoints.external_model import ExternalModel

        is_spread = device == "cuda" and not self._fits_one_gpu(own_dtype=own_dtype)
        if is_spread:
            require("transformers", "accelerate")
        kind = transformers.AutoModelForCausalLM if self.is_decoder_only else transformers.AutoModelForSeq2SeqLM
        with _quiet():
            try:
                read: Any = kind.from_pretrained(  # pyright: ignore[reportUnknownMemberType]
                    self.path,
                    local_files_only=True,
                    trust_remote_code=False,
                    dtype="auto" if own_dtype else torch.float32,
                    device_map="auto" if is_spread else None,
                    weights_only=True,
                    output_loading_info=True,
                )
            except Exception as error:  # the library and pickle raise many kinds of errors
                message = (
                    f"{self.path}: the weights cannot be read ({_first_line(error)}): save them again as safetensors"
                )
                raise CatpruneError(message) from None
        model, report = read
        for names, problem in (("missing_keys", "are missing"), ("unexpected_keys", "are not in its config.json")):
            if weights := sorted(report[names]):
                listed = f"{', '.join(weights[:3])}{', …' if len(weights) > 3 else ''}"
                raise CatpruneError(
                    f"{self.path}: the weights {listed} {problem}: save the whole {type(model).__name__}"
                )
        places = getattr(model, "hf_device_map", {"": model.device})  # not set if all is in one place
        if is_spread and {"cpu", "disk"} & set(map(str, places.values())):
            raise CatpruneError(f"{self.path} does not fit into the memory of all GPUs: give a smaller model")
        # The model may be loaded first inside inference mode.
        with torch.inference_mode(mode=False), torch.no_grad():
            if not is_spread:
                model.to(device)
            return ExternalModel(model, name=str(self.path), is_decoder_only=self.is_decoder_only).eval()

    def _fits_one_gpu(self, *, own_dtype: bool) -> bool:
        import torch

        size = sum(file.stat().st_size for file in self._weights())
        dtype = getattr(_configuration(self.path), "dtype", None)
        if not own_dtype and isinstance(dtype, torch.dtype):
            size *= 4 / dtype.itemsize
        return size <= _GPU_SHARE * torch.cuda.mem_get_info()[1]


def is_hugging_face(path: Path) -> bool:
    """Whether a folder is a checkpoint of the transformers library, by its config.json."""
    if (path / "adapter_config.json").is_file():
        return True
    return (path / "config.json").is_file() and "model_type" in _read(path / "config.json")


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object that another program wrote."""
    return read_json(path, remedy="save the checkpoint again")


def _digest(path: Path) -> str:
    """Digest a file of a tokenizer; in files that every checkpoint writes again, only what determines ids."""
    if path.name not in ("tokenizer.json", "tokenizer_config.json"):
        return digest_file(str(path))
    return digest_bytes(to_json({name: value for name, value in _read(path).items() if name not in LAST_CALL}))


def _configuration(path: Path) -> Any:
    """Read the configuration, with the defaults of the library."""
    import transformers

    _read(path / "config.json")
    with _quiet():
        try:
            return transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the library raises many kinds of errors
            message = f"{path / 'config.json'} cannot be read ({_first_line(error)})"
            raise CatpruneError(f"{message}: give a model of the library; code in the folder is not run") from None


def _numbers(config: Any, *names: str) -> list[int]:
    """Return the numbers that a configuration, or its nested text configuration, has under some names."""
    configs = config, config.get_text_config(decoder=True)
    numbers = [getattr(part, name, None) for part in configs for name in names]
    return [int(number) for number in numbers if number]


def _first_line(error: Exception) -> str:
    return " ".join(str(error).strip().splitlines()[:1])


def _check(path: Path, prompt: str | None, *, is_decoder_only: bool, monolingual: bool) -> None:
    if monolingual:
        if not is_decoder_only:
            raise UsageError(f"{path} translates, and a monolingual corpus has no source: give a decoder-only model")
        if prompt is not None:
            raise UsageError(f"prompt {prompt!r}: a monolingual corpus has no source, so leave the prompt out")
        return
    if prompt is None and is_decoder_only:
        raise UsageError(
            f"{path} is a decoder-only model: give the prompt it was trained with, like 'English: {SOURCE}'"
        )
    if prompt is not None and prompt.count(SOURCE) != 1:
        raise UsageError(f"prompt {prompt!r}: give {SOURCE} in the prompt once")


def _count_equal(first: Sequence[int], second: Sequence[int]) -> int:
    """Count the ids of the common prefix of two sequences."""
    return next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def _load_tokenizer(path: Path, languages: tuple[str | None, str | None]) -> Any:
    import transformers

    with _quiet():
        try:
            tokenizer: Any = transformers.AutoTokenizer.from_pretrained(  # pyright: ignore[reportUnknownMemberType]
                path, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # the library raises many kinds of errors
            message = f"{path}: the tokenizer cannot be read ({_first_line(error)}): save it again (save_pretrained)"
            if not (path / "tokenizer.json").is_file():
                message = f"{message}; {_missing_files(path)} missing, and reading a tokenizer.model may need protobuf"
            raise CatpruneError(message) from None
    names: dict[str, str | None] = tokenizer.vocab_files_names
    # Without these files, some tokenizers of the library load without an error, but with an empty vocabulary.
    if names and not any((path / name).is_file() for name in (*names.values(), "tokenizer.json") if name):
        raise CatpruneError(f"{path} holds no tokenizer: save the tokenizer there too (tokenizer.save_pretrained)")
    codes = _codes(tokenizer)
    if not codes:
        if any(languages):
            raise UsageError(f"{path} has no language codes: leave source_lang and target_lang out")
        return tokenizer
    for language in languages:
        if language not in codes:
            examples = ", ".join(sorted(codes)[:8])
            raise UsageError(
                f"{path} needs the codes of both languages, and {language} is not a code: give codes like {examples}"
            )
    tokenizer.src_lang, tokenizer.tgt_lang = languages
    return tokenizer


def _missing_files(path: Path) -> str:
    """Name the tokenizer files that a folder lacks."""
    import transformers

    config = path / "tokenizer_config.json"
    kind: Any = getattr(transformers, str(_read(config).get("tokenizer_class")), None) if config.is_file() else None
    names = {"tokenizer.json", "tokenizer_config.json", *getattr(kind, "vocab_files_names", {}).values()} - {None}
    return f"{', '.join(sorted(name for name in names if not (path / name).is_file()))} are"


def _codes(tokenizer: Any) -> set[str]:
    """Return the language codes of a tokenizer."""
    if not hasattr(tokenizer, "tgt_lang"):
        return set()
    for name in ("lang_code_to_token", "lang_code_to_id", "fairseq_language_codes"):
        if codes := getattr(tokenizer, name, None):
            return set(codes)
    special: list[str] = [*getattr(tokenizer, "extra_special_tokens", ()), *tokenizer.all_special_tokens]
    return {token for token in special if re.fullmatch(r"[a-z]{2,3}_[A-Z][A-Za-z]{1,3}", token)}


def _special_ids(path: Path, config: Any, tokenizer: Any) -> dict[str, int]:
    begin = getattr(config, "decoder_start_token_id", None)
    generation = path / "generation_config.json"
    if begin is None and generation.is_file():
        begin = _read(generation).get("decoder_start_token_id")
    if begin is None:
        begin = tokenizer.bos_token_id
    if begin is None and not config.is_encoder_decoder:
        begin = tokenizer.eos_token_id
    if config.model_type == "mbart":
        # Its decoder starts with the last id of a target: the language code or end-of-sentence.
        begin = tokenizer(text_target=["a"])["input_ids"][0][-1]
    end = tokenizer.eos_token_id
    if begin is None or end is None:
        raise CatpruneError(
            f"{path}: neither config.json nor the tokenizer has start and end symbols: save the checkpoint with them"
        )
    vocabularies = (tokenizer, getattr(tokenizer, "target_encoder", ()))  # Marian may have one vocabulary per side
    vocab_size = max([*_numbers(config, "vocab_size", "decoder_vocab_size"), *map(len, vocabularies)])
    # Only targets are padded, after their ends, where any id will do; the model may lack the tokenizer's pad id.
    pad = begin if config.is_encoder_decoder else end
    return {"vocab_size": vocab_size, "bos_id": int(begin), "eos_id": int(end), "pad_id": int(pad)}


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Silence the library's progress bars and warnings."""
    import warnings

    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before[0])
        if before[1]:
            logging.enable_progress_bar()
