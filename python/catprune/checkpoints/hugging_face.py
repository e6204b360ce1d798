"""Checkpoints of the transformers library: models that translate (encoder-decoder) and decoder-only ones."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catprune._core import digest_bytes, digest_file
from catprune.errors import CatpruneError, UsageError, require
from catprune.tokens.blocks import Tokenizer
from catprune.workspace.files import read_json, to_json

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from catprune.checkpoints.external_model import ForeignModel

#: Files of a tokenizer, whatever its kind; what else lies in a checkpoint's folder does not change ids.
TOKENIZER_FILES = ("token*.json", "*.spm", "*.model", "vocab*", "merges.txt", "special_tokens_map.json", "added_*.json")
#: What a tokenizer's files also hold and ids do not follow from here: how it was last called, and where it came from.
LAST_CALL = (
    *("max_length", "padding", "padding_side", "pad_to_multiple_of", "src_lang", "stride", "tgt_lang"),
    *("truncation", "truncation_side", "truncation_strategy"),
    *("is_local", "local_files_only", "model_max_length", "name_or_path"),
)
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
#: Where a prompt has the source.
SOURCE = "{source}"
LONGEST = 512


@dataclass(frozen=True)
class HuggingFace:
    """A checkpoint folder of the transformers library.

    Attributes:
        path: the folder.
        is_decoder_only: whether it has no encoder: the source is then part of a prompt.
        longest: tokens that a side, or prompt and target together, may have.
        prompt: what stands around the source, `{source}`: of a decoder-only model all that it reads before the target,
            of one with an encoder what the source begins with (T5's task, the code of an opus-mt model). None of a
            decoder-only model that scores texts without a source.
        step, epoch: of the training, where trainer_state.json or the folder's name (checkpoint-500) says them.
        described: what ids follow from: digests of the tokenizer's files, languages, prompt, special ids, and how a
            target is told from its prompt.
        tokenizer: types, special ids (begin is what the decoder starts with), and as its digest that of `described`.
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

    @classmethod
    def open(
        cls, path: Path, *, languages: tuple[str | None, str | None], prompt: str | None, monolingual: bool = False
    ) -> HuggingFace:
        """Read a checkpoint's configuration and tokenizer; the weights stay where they are.

        Raises:
            CatpruneError: the folder holds no model that can score, or a tokenizer that cannot be read.
            UsageError: languages or a prompt that the model needs, or has no use for.
            MissingExtra: transformers is not installed.
        """
        require("transformers", "transformers", "sentencepiece")
        if (path / "adapter_config.json").is_file():
            raise CatpruneError(f"{path} is an adapter: merge it into its model (merge_and_unload), and save that")
        config = _configuration(path)
        is_decoder_only = not config.is_encoder_decoder
        _check(path, prompt, is_decoder_only=is_decoder_only, monolingual=monolingual)
        if is_decoder_only and any(languages):
            raise UsageError(f"{path} is a decoder-only model: say the languages in the prompt")
        encoder = _load_tokenizer(path, languages)
        codes: list[str] = getattr(encoder, "supported_language_codes", None) or []
        if codes and not any(code in (prompt or "") for code in codes):
            raise UsageError(
                f"{path} translates into several languages: give the prompt '{codes[0]} {SOURCE}' or the like"
            )
        state = _read(path / "trainer_state.json") if (path / "trainer_state.json").is_file() else {}
        named = re.fullmatch(r"checkpoint-([0-9]+)", path.resolve().name)
        step = state.get("global_step", int(named[1]) if named else None)
        files = {one.name: _digest(one) for pattern in TOKENIZER_FILES for one in sorted(path.glob(pattern))}
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
        """Digests of what is read: of the weights' files by name, safetensors alone where there are any."""
        for pattern in WEIGHTS:
            if found := sorted(self.path.glob(pattern)):
                weights = {one.name: digest_file(str(one)) for one in found}
                return {"weights": weights, "config": digest_file(str(self.path / "config.json"))}
        raise CatpruneError(f"{self.path} holds no weights: none of {', '.join(WEIGHTS)} is there")

    def recorded(self) -> dict[str, Any]:
        """What is known of its training; on which rows is not."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "target_tokens": None,
            "flops": None,
            "reverse": False,
            "seen": None,
        }

    def encode(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """The ids of some pairs as the model was trained on them, ends and language codes included."""
        with _quiet():  # the library warns of long texts, which carry no tokens here
            if self.is_decoder_only and self.prompt is None:
                return self._encode_alone(targets)
            if self.prompt is not None:
                before, after = self.prompt.split(SOURCE)
                sources = [f"{before}{one}{after}" for one in sources]
            if self.is_decoder_only:
                return self._part(sources, targets)
            return self._encoder(list(sources))["input_ids"], self._encoder(text_target=list(targets))["input_ids"]

    def _part(self, prompts: Sequence[str], targets: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """The ids of each prompt and its target as one text, parted where the target begins.

        A token that has characters of both is the target's, so that all of the target is counted. Tokenizers that do
        not say of which characters a token is made part where the prompt alone would have gone on differently.
        """
        texts = [f"{prompt}{target}" for prompt, target in zip(prompts, targets, strict=True)]
        begin, end = self.tokenizer.bos_id, self.tokenizer.eos_id
        if self._encoder.is_fast:
            encoded = self._encoder(texts, return_offsets_mapping=True)
            spans: list[list[tuple[int, int]]] = encoded["offset_mapping"]
            counts = [
                next((place for place, (_, last) in enumerate(one) if last > len(prompt)), len(one))
                for one, prompt in zip(spans, prompts, strict=True)
            ]
        else:
            encoded = self._encoder(texts)
            alone: list[list[int]] = self._encoder(list(prompts))["input_ids"]
            counts = [_count_equal(*pair) for pair in zip(alone, encoded["input_ids"], strict=True)]
        ids: list[list[int]] = encoded["input_ids"]
        # Some tokenizers end whatever they are given.
        whole = [one if one[-1:] == [end] else [*one, end] for one in ids]
        # Where nothing precedes the target its first token follows the start symbol.
        sources = [one[:count] or [begin] for one, count in zip(whole, counts, strict=True)]
        return sources, [one[count:] for one, count in zip(whole, counts, strict=True)]

    def _encode_alone(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """The ids of texts without a source: the first of each, which is given and not predicted, and the others.

        The first is what the tokenizer begins a sequence with, or the text's own where it has nothing of the kind: as
        the library's own loss has it. The last is the end of the sentence.
        """
        end = self.tokenizer.eos_id
        is_ended = self._encoder("a")["input_ids"][-1] == end
        ids: list[list[int]] = self._encoder(list(texts))["input_ids"]
        return [one[:1] for one in ids], [one[1:] if is_ended else [*one[1:], end] for one in ids]

    def load(self, *, device: str) -> ForeignModel:
        """The model in eval mode, float32.

        Raises:
            CatpruneError: weights that cannot be read without running code from them, or are not all there, or a model
                that gives its probabilities in another way than by one matrix.
        """
        import torch
        import transformers

        from catprune.checkpoints.external_model import ForeignModel

        kind = transformers.AutoModelForCausalLM if self.is_decoder_only else transformers.AutoModelForSeq2SeqLM
        with _quiet():
            try:
                read: Any = kind.from_pretrained(  # pyright: ignore[reportUnknownMemberType]
                    self.path,
                    local_files_only=True,
                    trust_remote_code=False,
                    dtype=torch.float32,
                    weights_only=True,
                    output_loading_info=True,
                )
            except Exception as error:  # the library and pickle raise whatever they like
                told = f"{self.path}: the weights cannot be read ({_first_line(error)}): save them anew"
                raise CatpruneError(f"{told}, as safetensors") from None
        model, report = read
        for names, told in (("missing_keys", "are missing"), ("unexpected_keys", "are not in its config.json")):
            if found := sorted(report[names]):
                listed = f"{', '.join(found[:3])}{', …' if len(found) > 3 else ''}"
                raise CatpruneError(f"{self.path}: the weights {listed} {told}: save the whole {type(model).__name__}")
        # Also where it is first asked for inside of inference mode.
        with torch.inference_mode(mode=False), torch.no_grad():
            loaded = ForeignModel(model, name=str(self.path), is_decoder_only=self.is_decoder_only)
        return loaded.to(device).eval()


def is_hugging_face(path: Path) -> bool:
    """Whether a folder is one of the transformers library's, as its config.json tells."""
    if (path / "adapter_config.json").is_file():
        return True
    return (path / "config.json").is_file() and "model_type" in _read(path / "config.json")


def _read(path: Path) -> dict[str, Any]:
    """A JSON object of somebody else's."""
    return read_json(path, remedy="save the checkpoint again")


def _digest(path: Path) -> str:
    """Of a file of a tokenizer; of those that are written anew with every checkpoint only of what ids follow from."""
    if path.name not in ("tokenizer.json", "tokenizer_config.json"):
        return digest_file(str(path))
    return digest_bytes(to_json({name: value for name, value in _read(path).items() if name not in LAST_CALL}))


def _configuration(path: Path) -> Any:
    """The configuration, with what config.json leaves to the library."""
    import transformers

    _read(path / "config.json")
    with _quiet():
        try:
            return transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the library raises whatever it likes
            told = f"{path / 'config.json'} cannot be read ({_first_line(error)})"
            raise CatpruneError(f"{told}: it must be of a model in the library, code beside it is not run") from None


def _numbers(config: Any, *names: str) -> list[int]:
    """What a configuration, and the one of its text where that is nested in it, say under some names."""
    told = [getattr(one, name, None) for one in (config, config.get_text_config(decoder=True)) for name in names]
    return [int(number) for number in told if number]


def _first_line(error: Exception) -> str:
    return " ".join(str(error).strip().splitlines()[:1])


def _check(path: Path, prompt: str | None, *, is_decoder_only: bool, monolingual: bool) -> None:
    if monolingual:
        if not is_decoder_only:
            raise UsageError(f"{path} translates, and a monolingual corpus has no source: give a decoder-only model")
        if prompt is not None:
            raise UsageError(f"prompt {prompt!r}: a monolingual corpus has no source: leave the prompt out")
        return
    if prompt is None and is_decoder_only:
        raise UsageError(
            f"{path} is a decoder-only model: give the prompt it was trained with, like 'English: {SOURCE}'"
        )
    if prompt is not None and prompt.count(SOURCE) != 1:
        raise UsageError(f"prompt {prompt!r}: {SOURCE} must stand in it once")


def _count_equal(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _load_tokenizer(path: Path, languages: tuple[str | None, str | None]) -> Any:
    import transformers

    with _quiet():
        try:
            tokenizer: Any = transformers.AutoTokenizer.from_pretrained(  # pyright: ignore[reportUnknownMemberType]
                path, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # the library raises whatever it likes
            told = f"{path}: the tokenizer cannot be read ({_first_line(error)}): save it anew (save_pretrained)"
            if not (path / "tokenizer.json").is_file():
                told = f"{told}; {_without(path)} missing, and from a tokenizer.model alone protobuf may be needed"
            raise CatpruneError(told) from None
    names: dict[str, str | None] = tokenizer.vocab_files_names
    # Where there are none, some of the library's tokenizers are made without a word, with no vocabulary at all.
    if names and not any((path / name).is_file() for name in (*names.values(), "tokenizer.json") if name):
        raise CatpruneError(f"{path} holds no tokenizer: save it there, too (tokenizer.save_pretrained)")
    codes = _codes(tokenizer)
    if not codes:
        if any(languages):
            raise UsageError(f"{path} has no language codes: leave them out")
        return tokenizer
    for language in languages:
        if language not in codes:
            some = ", ".join(sorted(codes)[:8])
            raise UsageError(f"{path} needs the codes of both languages, {language} is none: it has {some}, …")
    tokenizer.src_lang, tokenizer.tgt_lang = languages
    return tokenizer


def _without(path: Path) -> str:
    """Which of its tokenizer's files a folder lacks."""
    import transformers

    config = path / "tokenizer_config.json"
    kind: Any = getattr(transformers, str(_read(config).get("tokenizer_class")), None) if config.is_file() else None
    names = {"tokenizer.json", "tokenizer_config.json", *getattr(kind, "vocab_files_names", {}).values()} - {None}
    return f"{', '.join(sorted(name for name in names if not (path / name).is_file()))} are"


def _codes(tokenizer: Any) -> set[str]:
    """The language codes that a tokenizer puts before or after its text."""
    if not hasattr(tokenizer, "tgt_lang"):
        return set()
    for name in ("lang_code_to_token", "lang_code_to_id", "fairseq_language_codes"):
        if found := getattr(tokenizer, name, None):
            return set(found)
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
        # Its decoder begins with what its targets end with, the language code or the end of the sentence.
        begin = tokenizer(text_target=["a"])["input_ids"][0][-1]
    end = tokenizer.eos_token_id
    if begin is None or end is None:
        raise CatpruneError(f"{path}: neither config.json nor the tokenizer says how targets begin and end")
    vocabularies = (tokenizer, getattr(tokenizer, "target_encoder", ()))  # Marian can have one for each side
    types = max([*_numbers(config, "vocab_size", "decoder_vocab_size"), *map(len, vocabularies)])
    # Targets alone are padded, behind their ends, where nothing sees it; the tokenizer's own id the model may not have.
    pad = begin if config.is_encoder_decoder else end
    return {"vocab_size": types, "bos_id": int(begin), "eos_id": int(end), "pad_id": int(pad)}


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Without the library's progress bars and advice."""
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
