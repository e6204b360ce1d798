"""What the rules know of languages: the scripts that they are written in, and which can be identified."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import langcodes
from langcodes.data_dicts import LIKELY_SUBTAGS
from langcodes.tag_parser import LanguageTagError

from catprune.corpus.names import COMPRESSED
from catprune.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Languages (ISO 639) by the scripts (ISO 15924) that they are written in.
_WRITTEN: dict[tuple[str, ...], str] = {
    ("Latn",): (
        "af ast br ca ceb co cs cy da de en eo es et eu fi fil fo fr fy ga gd gl gn ha haw hr ht hu id ig ilo is it "
        "jv kea lb lg ln lt luo lv mg mi ms mt nb nl nn no nso ny om pap pl pt qu rn ro rw sc sk sl sm sn so sq ss st "
        "su sv sw tl tn to tr ts ve vi war wo xh yo zu"
    ),
    ("Cyrl",): "ba be bg ce cv mk os ru tt uk",
    ("Latn", "Cyrl"): "az bs crh sh sr tk uz",
    ("Cyrl", "Arab", "Latn"): "kk ky tg",
    ("Cyrl", "Mong"): "mn",
    ("Arab",): "ar arz ckb fa prs ps ug ur",
    ("Latn", "Arab"): "ku",
    ("Arab", "Deva"): "ks sd",
    ("Deva",): "bho hi mai mr ne sa",
    ("Guru", "Arab"): "pa",
    ("Beng",): "as bn",
    ("Beng", "Mtei"): "mni",
    ("Gujr",): "gu",
    ("Orya",): "or",
    ("Taml",): "ta",
    ("Telu",): "te",
    ("Knda",): "kn",
    ("Mlym",): "ml",
    ("Sinh",): "si",
    ("Thaa",): "dv",
    ("Thai",): "th",
    ("Laoo",): "lo",
    ("Khmr",): "km",
    ("Mymr",): "my shn",
    ("Tibt",): "bo dz",
    ("Ethi",): "am ti",
    ("Grek",): "el",
    ("Hebr",): "he yi",
    ("Armn",): "hy",
    ("Geor",): "ka",
    ("Hang", "Hani"): "ko",
    ("Hani", "Hira", "Kana"): "ja",
    ("Hani", "Bopo"): "zh yue wuu lzh",
}
_SCRIPTS = {code: scripts for scripts, codes in _WRITTEN.items() for code in codes.split()}
#: Scripts of language codes that are several to Unicode.
_SEVERAL = {
    "Hans": ("Hani", "Bopo"),
    "Hant": ("Hani", "Bopo"),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
}
#: Languages that can be identified, and the codes of ISO 639-3 that the core has for them.
IDENTIFIED = {
    "ar": "ara",
    "de": "deu",
    "en": "eng",
    "es": "spa",
    "fr": "fra",
    "hi": "hin",
    "it": "ita",
    "ja": "jpn",
    "ko": "kor",
    "nl": "nld",
    "pt": "por",
    "ru": "rus",
    "sv": "swe",
    "tr": "tur",
    "vi": "vie",
    "zh": "cmn",
}


def base_language(code: str) -> str:
    """The language of a code in any spelling: `eng`, `en-GB` and `eng_Latn` are `en`; `iw` is `he`, `cmn` is `zh`.

    Raises:
        UsageError: this is no language code.
    """
    return _parsed(code).language or code


def scripts_of(code: str | None) -> tuple[str, ...]:
    """The scripts of a language.

    Args:
        code: a language code in any spelling, like `sw`, `por`, `pt-BR` or `sr-Cyrl`; a script in it is the answer.

    Returns:
        Codes of ISO 15924; where the table has none, the likely script of the Unicode CLDR; none for unknown languages.

    Raises:
        UsageError: this is no language code.
    """
    if code is None:
        return ()
    parsed = _parsed(code)
    # `sh` is `sr-Latn` to CLDR, so the code itself is looked up first; a script that the user names counts before both.
    named = langcodes.Language.get(code, normalize=False).script
    if named:
        return _SEVERAL.get(named, (named,))
    for language in (code.lower(), parsed.language or ""):
        if language in _SCRIPTS:
            return _SCRIPTS[language]
    script = parsed.maximize().script if parsed.language in LIKELY_SUBTAGS else None
    return _SEVERAL.get(script, (script,)) if script else ()


def describe_sides(inputs: Sequence[Mapping[str, Any]], languages: tuple[str | None, str | None]) -> list[str]:
    """Compare the languages of the sides with each other, and with the suffixes of two files of lines.

    Args:
        inputs: the inputs as `parse_inputs` returns them.
        languages: codes of source and target.

    Returns:
        A warning: both sides have the same language, or the suffixes of two files say that the sides are swapped.
    """
    source, target = languages
    if source and target and _standard(source) == _standard(target):
        return [f"warning: source_lang and target_lang are both {source}: give the language of each side"]
    pairs = [(entry["source"], entry["target"]) for entry in inputs if entry["format"] == "moses"]
    swapped = (text for pair in pairs if (text := describe_swapped(*pair, languages)))
    return [f"warning: {text}" for text in itertools.islice(swapped, 1)]


def describe_swapped(source: str, target: str, languages: tuple[str | None, str | None]) -> str:
    """Say that two files end in the languages of the other side; empty if they do not, or a language is unknown."""
    if not all(languages):
        return ""
    codes = [base_language(code) for code in languages if code]
    if codes[0] == codes[1] or [_suffix_language(target), _suffix_language(source)] != codes:
        return ""
    return (
        f"{source} and {target} end in the languages of the other side (source_lang = {languages[0]}, target_lang = "
        f"{languages[1]}): swap the files or the languages"
    )


def _standard(code: str) -> str:
    return langcodes.standardize_tag(code, macro=True)


def _suffix_language(name: str) -> str | None:
    """The language that a file of lines has as its suffix, like `de` in `wmt.de.gz`."""
    path = Path(name)
    suffix = (path.with_suffix("") if path.suffix.lower() in COMPRESSED else path).suffix[1:]
    try:
        return base_language(suffix) if suffix else None
    except UsageError:
        return None


def _parsed(code: str) -> langcodes.Language:
    """A code as CLDR standardises it, with the macro-language instead of its main member."""
    try:
        return langcodes.Language.get(langcodes.standardize_tag(code, macro=True))
    except LanguageTagError:
        raise UsageError(f"language {code}: give a code, like en, sw or zh-Hans") from None
