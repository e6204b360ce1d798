"""Statistics equal the oracle's on hostile bytes, for any threads and memory; estimates are marked."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import catprune
import pytest
import xxhash
from catprune import CatpruneError, UsageError
from catprune.cleaning.languages import IDENTIFIED
from catprune.cleaning.stats import summary
from hypothesis import example, given
from hypothesis import strategies as st
from support import oracles_stats as oracles

SIDE = st.one_of(
    st.lists(
        st.sampled_from(["a", "A.", "ein", "Haus", "\r", "\u2028", "\x00", "ß", "…", "한국", "дом", "\u00a0"]),
        max_size=8,
    )
    .map(" ".join)
    .map(str.encode),
    st.text(max_size=12).map(str.encode),
    st.binary(max_size=12),
    st.just(b"x" * 41),
).map(lambda data: data.replace(b"\n", b""))
PAIRS = st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=30)


def text(pairs: list[tuple[bytes, bytes]], side: int) -> bytes:
    return b"".join(pair[side] + b"\n" for pair in pairs)


def check(statistics: Any, expected: dict[str, Any]) -> None:
    """Compare the figures that the oracle has; the letters of the scripts add up."""
    for name in ("rows", "malformed_record", "line_too_long", "invalid_utf8", "empty", "character_ratio", "word_ratio"):
        assert statistics[name] == expected[name], name
    for side in ("source", "target"):
        counted, other = statistics[side], expected[side]
        assert all(counted[name] == other[name] for name in ("characters", "words", "bytes", "tokens")), side
        assert abs(counted["types"]["count"] - other["types"]) <= 0.03 * other["types"]
        assert sum(counted["scripts"].values()) == other["letters"]
    assert {name: counted["count"] for name, counted in statistics["duplicates"].items()} == expected["duplicates"]
    assert all(counted["exact"] for counted in statistics["duplicates"].values())


@given(pairs=PAIRS, form=st.sampled_from(["raw", "normalised"]), cut=st.integers(0, 30))
@example(pairs=[(b"A b.", b"a  b"), (b"a b", b"A B!"), (b"", b"")], form="normalised", cut=1)
def test_figures_are_the_oracles(
    tmp_path: Path, pair: Any, pairs: list[tuple[bytes, bytes]], form: str, cut: int
) -> None:
    parts = [part for part in (pairs[:cut], pairs[cut:]) if part]
    names = [pair(text(part, 0), text(part, 1), name=f"part{number}") for number, part in enumerate(parts)]
    tags = tmp_path / "tags"
    tags.write_text("".join(f"t{row % 3}\n" for row in range(len(pairs))))
    lines = [(source.removesuffix(b"\r"), other.removesuffix(b"\r")) for source, other in pairs]
    templates = [str(tmp_path / f"part{number}.{{en,de}}") for number in range(len(names))]
    statistics = [
        catprune.stats(templates, tags=tags, duplicates_form=form, max_line_bytes=40, threads=threads)
        for threads in (1, 4)
    ]
    assert asdict(statistics[0]) == asdict(statistics[1])
    expected = oracles.figures(lines, form=form, max_line_bytes=40)
    check(statistics[0].total["all"], expected)
    assert statistics[0].total["kept"] is None
    assert sum(group["all"]["rows"] for group in statistics[0].inputs) == len(pairs)
    for key, count in expected["duplicates"].items():
        assert sum(group["all"]["duplicates"][key]["count"] for group in statistics[0].inputs) == count
        assert sum(group["all"]["duplicates"][key]["count"] for group in statistics[0].tags.values()) == count
    for number, tag in enumerate(sorted(statistics[0].tags)):
        oracle = oracles.figures(lines[number::3], form=form, max_line_bytes=40)
        of_tag = statistics[0].tags[tag]["all"]
        assert (of_tag["rows"], of_tag["source"]["words"]) == (oracle["rows"], oracle["source"]["words"])
    assert summary(statistics[0])


def words(count: int, *, seed: int) -> bytes:
    chosen = random.Random(seed)
    return b"".join(
        " ".join(f"wort{int(chosen.paretovariate(0.15)) % 50_000}" for _ in range(chosen.randint(1, 30))).encode()
        + b"\n"
        for _ in range(count)
    )


def test_a_clean_folder_shows_clean_pairs_and_all_pairs(tmp_path: Path, pair: Any) -> None:
    source = words(9_000, seed=1)
    paths = pair(source + source, words(9_000, seed=2) * 2)
    tags = tmp_path / "tags"
    tags.write_text("a\nb\n" * 9_000)
    catprune.clean(paths, out=tmp_path / "clean", tags=tags)
    statistics = [catprune.stats(tmp_path / "clean", threads=threads) for threads in (1, 3)]
    assert asdict(statistics[0]) == asdict(statistics[1])
    raw = catprune.stats(paths, tags=tags)
    assert raw.total["all"] == statistics[0].total["all"] and set(statistics[0].tags) == {"a", "b"}
    catprune.write(tmp_path / "clean", [tmp_path / "kept.en", tmp_path / "kept.de"])
    kept = catprune.stats([tmp_path / "kept.en", tmp_path / "kept.de"]).total["all"]
    shown = statistics[0].total["kept"]
    assert shown["duplicates"]["pair"] == {"count": 0, "exact": True} and 0 < shown["rows"] < 18_000
    lines = "\n".join(summary(statistics[0]))
    assert "kept" in lines and "tag" in lines
    for side in ("source", "target"):  # the same lines in other chunks compress a little differently
        all_pairs, other = shown[side].pop("zstd"), kept[side].pop("zstd")
        assert all_pairs["bytes"] == other["bytes"] and all_pairs["compressed"] == pytest.approx(
            other["compressed"], rel=0.02
        )
    assert shown == kept


def test_the_sketch_is_the_oracles_and_beyond_memory_duplicates_are_estimated(pair: Any) -> None:
    paths = pair(words(6_000, seed=3), words(6_000, seed=4))
    exact, estimated = (catprune.stats(paths, memory=memory).total["all"] for memory in (10**9, 1))
    types = {word for line in words(6_000, seed=3).split(b"\n") for word in line.split()}
    hashes = [xxhash.xxh3_64_intdigest(word) for word in types]
    assert exact["source"]["types"] == {"count": oracles.sketch(hashes), "exact": False}
    assert len(types) > 10_000 and oracles.sketch(hashes) == pytest.approx(len(types), rel=0.03)
    for key in ("pair", "source", "target"):
        assert exact["duplicates"][key]["exact"] and not estimated["duplicates"][key]["exact"]
        assert abs(exact["duplicates"][key]["count"] - estimated["duplicates"][key]["count"]) < 0.03 * 6_000
    assert "≈" in "\n".join(summary(catprune.stats(paths, memory=1)))


def test_scripts_and_compression(pair: Any) -> None:
    import pyarrow

    source = ("Haus дом 家 خانه ひらがな ア ß 12\n" * 5_000).encode()
    statistics = catprune.stats(pair(source, b"a b\n" * 5_000)).total["all"]["source"]
    letters = {"Latin": 5, "Cyrillic": 3, "Han": 1, "Arabic": 4, "Hiragana": 4, "Katakana": 1}
    assert statistics["scripts"] == {script: 5_000 * count for script, count in letters.items()}
    line = len(source) // 5_000
    codec = pyarrow.Codec("zstd", compression_level=3)
    expected = sum(codec.compress(source[: line * rows]).size for rows in (4096, 904))
    assert statistics["zstd"]["bytes"] == len(source) and statistics["zstd"]["compressed"] == pytest.approx(
        expected, rel=0.05
    )


SPOKEN = {
    "ar": "تقع المدينة القديمة على ضفة النهر ويزورها كثير من الناس في كل صيف",
    "de": "Die alte Stadt liegt am Ufer des Flusses und wird jeden Sommer von vielen Menschen besucht",
    "en": "The old town lies on the bank of the river and is visited by many people every summer",
    "es": "La ciudad antigua se encuentra a la orilla del río y cada verano la visitan muchas personas",
    "fr": "La vieille ville se trouve au bord de la rivière et beaucoup de gens la visitent chaque été",
    "hi": "पुराना शहर नदी के किनारे बसा है और हर गर्मियों में बहुत से लोग उसे देखने के लिए यहाँ आते हैं",
    "it": "La città vecchia si trova sulla riva del fiume e ogni estate viene visitata da molte persone",
    "ja": "古い町は川の岸辺にあり、毎年の夏にはとても多くの人々がその町を訪れて美しい景色を楽しんでいます",
    "ko": "오래된 도시는 강가에 자리 잡고 있으며 해마다 여름이면 아주 많은 사람들이 그곳을 찾아옵니다",
    "nl": "De oude stad ligt aan de oever van de rivier en wordt elke zomer door veel mensen bezocht",
    "pt": "A cidade velha fica na margem do rio e todos os verões é visitada por muitas pessoas",
    "ru": "Старый город стоит на берегу реки, и каждое лето туда приезжает очень много людей",
    "sv": "Den gamla staden ligger vid flodens strand och besöks av många människor varje sommar",
    "tr": "Eski şehir nehrin kıyısında bulunuyor ve her yaz çok sayıda insan tarafından ziyaret ediliyor",
    "vi": "Thành phố cổ nằm bên bờ sông và mỗi mùa hè có rất nhiều người đến thăm nơi này",
    "zh": "这座古老的城市位于河岸边，每年夏天都有许多人从很远的地方来到这里参观，大家都很喜欢这里的风景和可口的食物",
}
SHORT = ["", "a b", "Haus " * 9 + "ab1", "дом " * 13]  # with 0, 2, 38 and 39 letters


@given(data=st.data(), rows=st.integers(1, 40))
def test_languages_are_counted(tmp_path: Path, pair: Any, data: st.DataObject, rows: int) -> None:
    drawn = st.sampled_from([*SPOKEN.values(), *SHORT, "x" * 400])
    pairs = [(data.draw(drawn), data.draw(drawn)) for _ in range(rows)]
    paths = pair(*("".join(f"{pair[side]}\n" for pair in pairs).encode() for side in (0, 1)))
    tags = tmp_path / "tags"
    tags.write_text("".join(f"t{row % 3}\n" for row in range(rows)))
    statistics = catprune.stats(paths, tags=tags, max_line_bytes=399, identify_language=True)
    for part, expected in (
        (statistics.total, pairs),
        *((statistics.tags[tag], pairs[int(tag[1]) :: 3]) for tag in statistics.tags),
    ):
        texts = [pair for pair in expected if "x" * 400 not in pair]
        for side, name in enumerate(("source", "target")):
            assert part["all"][name]["languages"] == oracles.languages([text[side] for text in texts], SPOKEN)
    assert catprune.stats(paths).total["all"]["source"]["languages"] is None
    assert summary(statistics)


def test_languages_add_up_over_threads_inputs_and_clean_pairs(tmp_path: Path, pair: Any) -> None:
    chosen = random.Random(5)
    lines = [chosen.choice([*SPOKEN.values(), *SHORT]) for _ in range(9_000)]
    sides = [[f"{row} {line}\n" for row, line in enumerate(lines)], [f"{line}\n" for line in lines]]
    for part, rows in enumerate((slice(0, 5_000), slice(5_000, None))):
        pair(*("".join(side[rows]).encode() for side in sides), name=f"part{part}")
    templates = [str(tmp_path / "part*.{en,de}")]
    catprune.clean(templates, out=tmp_path / "clean")
    statistics = [catprune.stats(tmp_path / "clean", identify_language=True, threads=threads) for threads in (1, 4)]
    assert asdict(statistics[0]) == asdict(statistics[1])
    assert statistics[0].total["all"]["target"]["languages"] == oracles.languages(lines, SPOKEN)
    assert statistics[0].inputs[1]["all"]["target"]["languages"] == oracles.languages(lines[5_000:], SPOKEN)
    catprune.write(tmp_path / "clean", [tmp_path / "kept.tsv"])
    kept = [line.split("\t")[1] for line in (tmp_path / "kept.tsv").read_text().splitlines()]
    assert statistics[0].total["kept"]["target"]["languages"] == oracles.languages(kept, SPOKEN)
    assert 0 < len(kept) < 9_000
    shown = "\n".join(summary(statistics[0]))
    assert (
        shown.count("identified as others") == 2
        and shown.count("identified as ") == 12
        and "too short to identify" in shown
    )


def test_the_languages_are_those_that_cleaning_knows() -> None:
    assert set(SPOKEN) == set(IDENTIFIED)


def test_the_command(pair: Any) -> None:
    paths = [str(path) for path in pair(b"a b\n\xff\n", b"c\nd\n")]
    run = [sys.executable, "-m", "catprune", "stats", *paths, "--identify-language"]
    shown = subprocess.run(run, capture_output=True, check=True, text=True).stdout
    assert "invalid_utf8" in shown and "signature" not in shown
    values = json.loads(subprocess.run([*run, "--json"], capture_output=True, check=True, text=True).stdout)
    assert values["total"]["all"]["rows"] == 2 and values["total"]["all"]["target"]["tokens"] == 1
    assert values["total"]["all"]["target"]["languages"] == {"too_short": 1, "identified": []}


def test_errors(tmp_path: Path, pair: Any) -> None:
    paths = pair(b"a\nb\n", b"c\n")
    with pytest.raises(CatpruneError, match="ends after line 1"):
        catprune.stats(paths)
    with pytest.raises(UsageError, match="duplicates_form"):
        catprune.stats(paths, duplicates_form="near")
    with pytest.raises(FileNotFoundError):
        catprune.stats([tmp_path / "no.en", tmp_path / "no.de"])
    many = pair(b"a\n" * 1001, b"c\n" * 1001, name="many")
    (tmp_path / "tags").write_text("".join(f"{row}\n" for row in range(1001)))
    with pytest.raises(CatpruneError, match="more than 1000 different tags"):
        catprune.stats(many, tags=tmp_path / "tags")


def test_little_memory_counts_the_same_tags_or_refuses(tmp_path: Path, pair: Any) -> None:
    paths, tags = pair(words(2_000, seed=1), words(2_000, seed=2)), tmp_path / "tags"
    tags.write_text("".join(f"{row * row % 61}\n" for row in range(2_000)))
    little, enough = (catprune.stats(paths, tags=tags, memory=memory, threads=2) for memory in (10**6, 10**9))
    assert len(little.tags) == 31 and asdict(little) == asdict(enough)
    tags.write_text("".join(f"{row % 65}\n" for row in range(2_000)))
    with pytest.raises(CatpruneError, match="tags of every input do not fit into memory: give memory of"):
        catprune.stats(paths, tags=tags, memory=10**6)


def test_of_many_tags_a_clean_folder_counts_the_most_frequent_apart(pair: Any, tmp_path: Path) -> None:
    paths = pair(*(b"".join(b"%s %d\n" % (word, row) for row in range(1041)) for word in (b"Haus", b"house")))
    (tmp_path / "tags").write_text("often\n" * 40 + "".join(f"rare {row:04}\n" for row in range(1001)))
    catprune.clean(paths, out=tmp_path / "clean", tags=tmp_path / "tags")
    statistics = catprune.stats(tmp_path / "clean")
    assert statistics.total["all"] == catprune.stats(paths).total["all"]
    assert set(statistics.tags) == {"often", *(f"rare {row:04}" for row in range(999))}
    assert (statistics.tags["often"]["all"]["rows"], statistics.tags_left_out) == (40, 2)
    lines = summary(statistics)
    assert sum(line.startswith("rare ") for line in lines) == 19
    assert "and 982 rarer tags (--json has the first 1,000)" in lines
