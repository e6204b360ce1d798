"""What the rules know of languages: the scripts that they are written in, and which can be identified."""

from __future__ import annotations

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


def check_sides(inputs: Sequence[Mapping[str, Any]], languages: tuple[str | None, str | None]) -> list[str]:
    """Compare the languages of the sides with each other, and with the suffixes of two files of lines.

    Args:
        inputs: the inputs as `parse_inputs` returns them.
        languages: codes of source and target.

    Returns:
        A warning if both sides have the same language.

    Raises:
        UsageError: the suffixes of two files say that the sides are swapped.
    """
    source, target = languages
    if source is None or target is None:
        return []
    if langcodes.standardize_tag(source, macro=True) == langcodes.standardize_tag(target, macro=True):
        return [f"warning: source_lang and target_lang are both {source}: give the language of each side"]
    for entry in inputs:
        if entry["format"] == "moses" and [_suffix_language(entry[side]) for side in ("source", "target")] == [
            base_language(target),
            base_language(source),
        ]:
            raise UsageError(
                f"{entry['source']} and {entry['target']} end in the languages of the other side (source_lang = "
                f"{source}, target_lang = {target}): give the files in the other order, or swap the languages"
            )
    return []


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
