"""Vocabularies of Marian-NMT and fairseq: SentencePiece models, and lists of words for a corpus that is segmented."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from catprune.errors import CatpruneError, UsageError, require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: The file names of vocabularies that are lists of words.
_LISTS = (".yml", ".yaml", ".json", ".txt")
_END, _UNKNOWN = "</s>", "<unk>"
#: The first entries of every dictionary of fairseq.
SPECIAL_OF_FAIRSEQ = ("<s>", "<pad>", _END, _UNKNOWN)
#: A larger share of unknown words means that the text is not segmented like that of the training.
_MOST_UNKNOWN = 0.5


class Vocabulary(ABC):
    """A vocabulary of one side.

    Attributes:
        size: number of entries.
        end: the id of the end of a sentence.
        version: the library that encodes, and its version.
    """

    size: int
    end: int
    version: str

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts, end-of-sentence included."""


def open_vocabulary(path: Path) -> Vocabulary:
    """Open a vocabulary by its suffix.

    Raises:
        UsageError: a kind that is not supported.
        CatpruneError: the file is not such a vocabulary.
    """
    if path.suffix == ".spm":
        return SentencePieces(path)
    if path.suffix in _LISTS:
        return Words(_read_text(path) if path.suffix == ".txt" else _read_yaml(path), path)
    raise UsageError(
        f"{path}: only SentencePiece models (.spm) and lists of words ({', '.join(_LISTS)}) are supported, no factored "
        "vocabularies"
    )


class SentencePieces(Vocabulary):
    """A SentencePiece model, which segments text itself."""

    def __init__(self, path: Path) -> None:
        import sentencepiece

        self._model: Any = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.size, self.end = self._model.get_piece_size(), self._model.eos_id()
        self.version = f"sentencepiece {sentencepiece.__version__}"
        if self.end < 0:
            raise CatpruneError(f"{path} has no end-of-sentence symbol: give the vocabulary of the model")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts, end-of-sentence included."""
        return self._model.encode(list(texts), add_eos=True)


class Words(Vocabulary):
    """A list of words: text is split at spaces; unknown words are `<unk>`.

    The corpus must be segmented as it was for the training, by BPE for example. Special words in a text are unknown
    words.

    Args:
        ids: the words.
        path: their file, for messages.
        special: words that text never has; the end of a sentence is `</s>`.
        any_space: whether text is split at any white space, as fairseq does, and not only at U+0020, as Marian does.
    """

    def __init__(
        self, ids: dict[str, int], path: Path, *, special: Sequence[str] = (_END,), any_space: bool = False
    ) -> None:
        import tokenizers
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        if missing := [name for name in (_END, _UNKNOWN) if name not in ids]:
            raise CatpruneError(f"{path} has no {' and no '.join(missing)}: give the vocabulary of the model")
        self.size, self.end, self._path = max(ids.values()) + 1, ids[_END], path
        self._unknown = ids[_UNKNOWN]
        self.version = f"tokenizers {tokenizers.__version__}"
        self._words = Tokenizer(
            models.WordLevel({word: id for word, id in ids.items() if word not in special}, _UNKNOWN)
        )
        split = pre_tokenizers.WhitespaceSplit() if any_space else pre_tokenizers.Split(" ", "removed")
        self._words.pre_tokenizer = split
        self._words.post_processor = processors.TemplateProcessing(
            single=f"$A {_END}", special_tokens=[(_END, self.end)]
        )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts, end-of-sentence included.

        Raises:
            CatpruneError: more than half of the words are unknown.
        """
        encoded = [encoding.ids for encoding in self._words.encode_batch_fast(list(texts))]
        unknown = sum(ids.count(self._unknown) for ids in encoded)
        words = sum(map(len, encoded)) - len(encoded)
        if unknown > _MOST_UNKNOWN * words:
            raise CatpruneError(
                f"{unknown:,} of {words:,} words of a block are not in {self._path}: segment the corpus as it was for "
                "the training (with BPE, for example), then clean and score it"
            )
        return encoded


def _read_text(path: Path) -> dict[str, int]:
    """Read one word in each line; its number from 0 is its id."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CatpruneError(f"{path} is not UTF-8 ({error}): give the vocabulary of the model") from None
    return {word.removesuffix("\r"): id for id, word in enumerate(lines if lines[-1] else lines[:-1])}


def _read_yaml(path: Path) -> dict[str, int]:
    """Read a mapping from words to ids in YAML or JSON."""
    require("marian", "yaml")
    import yaml

    # Words like `yes` and `1.0` are text here; libyaml reads 50,000 words in seconds, Python takes ten times as long.
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        with path.open("rb") as stream:
            values: Any = yaml.load(stream, loader)
        ids = {str(word): int(id) for word, id in values.items()}
    except (ValueError, TypeError, AttributeError, yaml.YAMLError):
        raise CatpruneError(f"{path} does not map words to ids: give the vocabulary of the model") from None
    if min(ids.values(), default=-1) < 0 or len(set(ids.values())) < len(ids):
        raise CatpruneError(f"{path} has ids that are negative or of two words: give the vocabulary of the model")
    return ids


def read_dictionary(path: Path) -> dict[str, int]:
    """Read a dictionary of fairseq: one word and its count in each line, whose ids follow those of special words."""
    ids = {word: id for id, word in enumerate(SPECIAL_OF_FAIRSEQ)}
    fault = ""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        lines, fault = [], str(error)
    for number, line in enumerate(lines, 1):
        word, space, count = line.rstrip().removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not space or not count.isdigit():
            fault = f"line {number} is not a word and its count"
        elif word in ids and not line.rstrip().endswith(" #fairseq:overwrite"):
            fault = f"line {number} has a word that an earlier line has"
        if fault:
            break
        ids[word] = len(SPECIAL_OF_FAIRSEQ) + number - 1
    if fault or not lines:
        raise CatpruneError(f"{path} is not a dictionary of fairseq ({fault or 'it is empty'}): copy it again")
    return ids
