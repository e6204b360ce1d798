"""Texts under a tokenizer of the transformers library: a special token that stands in a text is encoded as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from catprune.errors import CatpruneError

if TYPE_CHECKING:
    from collections.abc import Sequence


class PlainText:
    """A tokenizer whose special tokens never come from text, only from itself or from a prompt.

    Args:
        tokenizer: a tokenizer of the transformers library.
        name: of the checkpoint, for messages.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.tokenizer, self._name = tokenizer, name
        unknown = {tokenizer.unk_token} - {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token}
        added = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)) | added
        # Marian may have a vocabulary for each side.
        of_targets: dict[str, int] = getattr(tokenizer, "target_encoder", None) or special
        sides = {False: special, True: {token: of_targets[token] for token in special if token in of_targets}}
        self._special = {
            target: np.array(sorted(id for token, id in ids.items() if token not in unknown), np.int64)
            for target, ids in sides.items()
        }

    def encode(self, texts: Sequence[str], *, target: bool = False) -> list[list[int]]:
        """Return the ids of texts, with what the tokenizer puts around a text.

        Args:
            texts: the texts.
            target: whether they are targets, which some tokenizers encode otherwise.
        """
        ids = self._call(list(texts), target=target, split_special_tokens=True)["input_ids"]
        before, after = self.ends(target=target)
        most = int(self._count([[*before, *after]], target=target)[0])
        for place in np.flatnonzero(self._count(ids, target=target) > most).tolist():
            ids[place] = [*before, *self.text(texts[place], target=target), *after]
        return ids

    def find_special(self, ids: Sequence[Sequence[int]], *, most: int) -> list[int]:
        """Return the places of sequences with more special ids than `most`."""
        return np.flatnonzero(self._count(ids) > most).tolist()

    def count_special(self, ids: Sequence[int]) -> int:
        """Return the number of special ids of a sequence."""
        return int(self._count([ids])[0])

    def ends(self, *, target: bool = False) -> tuple[list[int], list[int]]:
        """Return the ids that the tokenizer puts before and after a text."""
        plain = self._call("a", target=target, add_special_tokens=False)["input_ids"]
        whole = self._call("a", target=target)["input_ids"]
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return whole[:start], whole[start + len(plain) :]
        raise CatpruneError(f"{self._name}: its tokenizer changes a text that it puts special tokens around")

    def text(self, text: str, *, target: bool = False) -> list[int]:
        """Return the ids of a text alone, none of them special.

        Where the model itself has a token of that spelling, the text is cut inside it.

        Raises:
            CatpruneError: a single character is a special token.
        """
        offsets = {"return_offsets_mapping": True} if self.tokenizer.is_fast else {}
        encoded = self._call(text, target=target, add_special_tokens=False, split_special_tokens=True, **offsets)
        ids: list[int] = encoded["input_ids"]
        places = np.flatnonzero(np.isin(ids, self._special[target]))
        if not len(places):
            return ids
        place = int(places[0])
        if offsets:
            start, end = encoded["offset_mapping"][place]
        else:
            token: str = self.tokenizer.convert_ids_to_tokens(ids[place])
            start = text.find(token)
            end = start + len(token)
        if not 0 <= start < end - 1:
            named = self.tokenizer.convert_ids_to_tokens(ids[place])
            raise CatpruneError(f"{self._name}: {text[:80]!r} becomes the special token {named}: drop that pair")
        return self.text(text[: start + 1], target=target) + self.text(text[start + 1 :], target=target)

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a part of a prompt, which may hold special tokens."""
        return self._call(text, target=False, add_special_tokens=False)["input_ids"] if text else []

    def _call(self, texts: str | list[str], *, target: bool, **options: Any) -> Any:
        return self.tokenizer(**{"text_target" if target else "text": texts}, **options)

    def _count(self, ids: Sequence[Sequence[int]], *, target: bool = False) -> Any:
        """Return the number of special ids of each sequence."""
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        together = np.fromiter((id for line in ids for id in line), np.int64, int(lengths.sum()))
        sums = np.concatenate([[0], np.cumsum(np.isin(together, self._special[target]))])
        ends = np.cumsum(lengths)
        return sums[ends] - sums[ends - lengths]
