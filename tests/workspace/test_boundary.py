"""The typed requests and results equal the Rust structures in the sources, and the behaviour of the compiled passes."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

import catprune
import numpy as np
import pytest
from catprune import _core, boundary
from support.serde_structures import Field, Fields, read_items, struct_shape, tuple_shape, variant

RUST = read_items()

#: Our names for the structures that have another name in Rust.
RUST_NAMES = {
    "CleanResult": "Cleaned",
    "ColumnGuard": "Guard",
    "GroupCounts": "Group",
    "OwnShare": "Own",
    "SelectCounts": "Counts",
    "SelectResult": "Selection",
    "ShardFile": "Shard",
    "StatsResult": "Stats",
    "TokenizeResult": "Tokenized",
    "WriteResult": "Written",
}
#: Parts of requests that only exist in Python.
PARTS = {"CheckedCorpus", "GroupsRequest", "KeptCorpus", "OutputsRequest", "RankRequest", "SourceRequest"}
#: Unions and literals, by the Rust enum.
ENUMS: dict[Any, str] = {
    boundary.Added: "Added",
    boundary.Direction: "Direction",
    boundary.Repair: "Repair",
    boundary.Input: "Input",
    boundary.Keep: "Keep",
    boundary.Key: "Key",
    boundary.MergeBy: "By",
    boundary.MethodName: "Method",
    boundary.Of: "Of",
    boundary.On: "On",
    boundary.Operator: "Op",
    boundary.Output: "Output",
    boundary.Prefer: "Prefer",
    boundary.SelectSource: "Source",
    boundary.Sign: "Sign",
    boundary.TestFormat: "TestFormat",
    boundary.Text: "Text",
    boundary.Ties: "Ties",
    boundary.Unit: "Unit",
    boundary.WantedRows: "WantedRows",
    boundary.Within: "Within",
}
VARIANTS = {variant for union in ENUMS for variant in get_args(union) if is_typeddict(variant)}
#: Contents of enum variants without a name in Rust.
NAMELESS = {boundary.SelectionShards, boundary.ValueColumn}
TYPED: dict[str, Any] = {name: hint for name, hint in vars(boundary).items() if is_typeddict(hint)}
STRUCTS = sorted(name for name, typed in TYPED.items() if name not in PARTS and typed not in VARIANTS | NAMELESS)


def hints(typed: Any) -> dict[str, Any]:
    return get_type_hints(typed, include_extras=True)


def plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is NotRequired else hint


def shape(hint: Any) -> str:
    """A type in the notation of `support.serde_structures.shape`."""
    if hint in ENUMS:
        return ENUMS[hint]
    if hint in NAMELESS:
        return struct_shape(fields(hint))
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType) and type(None) in inner:
        return shape(Union[tuple(kind for kind in inner if kind is not type(None))]) + "?"  # noqa: UP007
    if origin is Literal and len(inner) == 1:
        return repr(inner[0])
    if origin is tuple:
        return tuple_shape([shape(kind) for kind in inner])
    if origin is dict:
        return f"{{{shape(inner[1])}}}"
    if origin is not None and is_typeddict(origin):
        return f"{origin.__name__}<{shape(inner[0])}>"
    if origin in (list, Sequence):
        return f"[{shape(inner[0])}]"
    assert isinstance(hint, type | TypeVar), hint
    return RUST_NAMES.get(hint.__name__, hint.__name__)


def fields(typed: Any) -> Fields:
    return {
        name: Field(shape(plain(hint)), required=name in typed.__required_keys__) for name, hint in hints(typed).items()
    }


def reached(hint: Any, seen: set[Any]) -> set[Any]:
    """All TypedDicts that a value of this type can hold."""
    if is_typeddict(hint) and hint not in seen:
        seen.add(hint)
        for inner in hints(hint).values():
            reached(inner, seen)
    for inner in get_args(hint):
        reached(inner, seen)
    return seen


IN_REQUESTS = {typed for name in STRUCTS if name.endswith("Request") for typed in reached(TYPED[name], set())}


@pytest.mark.parametrize("name", STRUCTS)
def test_a_structure_has_the_fields_of_the_rust_struct(name: str) -> None:
    typed = TYPED[name]
    structs = [structure.fields for structure in RUST[RUST_NAMES.get(name, name)]]
    if typed not in IN_REQUESTS:  # a result has all of them
        structs = [{key: Field(field.shape, required=True) for key, field in struct.items()} for struct in structs]
    if name == "Quantiles":
        structs = [
            {key: Field(struct.shape.replace("T", "Number"), struct.required) for key, struct in structs[0].items()}
        ]
    if len(structs) > 1:  # of several structs of one name, the one with these fields
        structs = [struct for struct in structs if struct.keys() == fields(typed).keys()]
    assert [fields(typed)] == structs


@pytest.mark.parametrize("name", sorted(ENUMS.values()))
def test_a_union_has_the_variants_of_the_rust_enum(name: str) -> None:
    union = next(hint for hint, rust in ENUMS.items() if rust == name)
    (enum,) = [structure for structure in RUST[name] if structure.variants]
    ours: set[Any] = set()
    for member in get_args(union):
        if is_typeddict(member):
            ours.add(variant(fields(member)))
        else:
            ours |= {repr(value) for value in (get_args(member) if get_origin(member) is Literal else [member])}
    assert ours == {*enum.variants}


def test_every_structure_of_the_sources_is_described() -> None:
    described = {*(RUST_NAMES.get(name, name) for name in STRUCTS), *ENUMS.values()}
    inlined = {"Choices", "Fields", "Measure"}  # their fields are among those of other structures
    own = {"State", "Examples"}  # in files that only the core reads
    assert {*RUST} - described - inlined - own == set()


def conform(value: Any, hint: Any, where: str) -> None:
    """Check recursively that a value has this type."""
    hint = plain(hint)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in inner if kind is not type(None)]
        if value is not None or len(kinds) == len(inner):
            assert len(kinds) == 1, f"{where}: a union in a result"
            conform(value, kinds[0], where)
    elif is_typeddict(origin or hint):
        typed = origin or hint
        number = inner[0] if inner else None
        assert {*value} == {*hints(typed)}, where
        for name, inner_hint in hints(typed).items():
            conform(value[name], number if isinstance(plain(inner_hint), TypeVar) else inner_hint, f"{where}.{name}")
    elif origin is dict:
        assert isinstance(value, dict), where
        for key, inner_hint in value.items():
            conform(key, inner[0], where)
            conform(inner_hint, inner[1], f"{where}[{key}]")
    elif origin in (list, Sequence):
        assert isinstance(value, list), where
        for place, inner_hint in enumerate(value):
            conform(inner_hint, inner[0], f"{where}[{place}]")
    elif origin is tuple:
        assert isinstance(value, tuple) and len(value) == len(inner), where
        for inner_hint, kind in zip(value, inner, strict=True):
            conform(inner_hint, kind, where)
    else:
        assert type(value) is hint, f"{where} is {value!r}, not {hint.__name__}"


Pass = tuple[Callable[..., Any], dict[str, Any], Any, Any]


@pytest.fixture
def passes(tmp_path: Path) -> dict[str, Pass]:
    """Every pass with a complete request, and the types of request and result."""
    (tmp_path / "text.en").write_text("".join(f"this is sentence number {n % 90}\n" for n in range(100)))
    (tmp_path / "text.de").write_text("".join(f"dies ist der Satz Nummer {n % 90}\n" for n in range(100)))
    (tmp_path / "tags").write_text("a\nb\n" * 50)
    (tmp_path / "test.en").write_text("this is sentence number 5\n")
    paths = [tmp_path / "text.en", tmp_path / "text.de"]
    catprune.clean(paths, out=tmp_path / "clean", tags=tmp_path / "tags")
    catprune.tokenize(tmp_path / "clean", out=tmp_path / "tokens", vocab_size=300)
    np.save(tmp_path / "scores.npy", np.arange(100, dtype=np.float32))
    out = tmp_path / "out"
    out.mkdir()
    shards = [str(path) for path in sorted((tmp_path / "clean").glob("columns/*.parquet"))]
    corpus: boundary.Corpus = {
        "inputs": [{"format": "moses", "source": str(paths[0]), "target": str(paths[1])}],
        "tags": str(tmp_path / "tags"),
        "max_line_bytes": 16_384,
        "first_row": 0,
    }
    named = [*paths, tmp_path / "tags"]
    files: list[boundary.FileRead] = [
        {"path": str(path), "bytes": path.stat().st_size, "digest": _core.digest_file(path)} for path in named
    ]
    form: boundary.Form = {
        "nfkc": True,
        "case": True,
        "white_space": True,
        "punctuation": True,
        "digits": False,
    }
    clean: boundary.CleanRequest = {
        "corpus": corpus,
        "rules": [_core.default_rules()],
        "duplicates": "pair",
        "duplicates_form": form,
        "near_duplicates": {
            "key": "pair",
            "threshold": 0.8,
            "permutations": 128,
            "bands": 16,
            "shingles": "characters",
            "shingle_size": 5,
        },
        "exclude": [{"source": str(tmp_path / "test.en"), "target": None}],
        "verify": False,
        "prefer": {"inputs": [0]},
        "against": [],
        "continued": None,
        "state": None,
        "out": str(out),
        "tmp": str(out),
        "plan": "",
        "threads": 1,
        "memory": 2**28,
    }
    kept: boundary.KeptCorpus = {"corpus": corpus, "kept": {"clean": shards}, "threads": 1}
    stats: boundary.StatsRequest = {
        **kept,
        "files": files,
        "duplicates_form": form,
        "identify_language": True,
        "tags": None,
        "memory": 2**28,
    }
    sample: boundary.SampleRequest = {**kept, "fraction": 0.5, "seed": 1, "out": str(out / "sample.txt")}
    tokenize: boundary.TokenizeRequest = {
        **kept,
        "files": files,
        "tokenizer": str(tmp_path / "tokens" / "tokenizer.json"),
        "max_tokens": 512,
        "frozen": False,
        "continued": None,
        "out": str(out),
        "plan": "",
    }
    select: boundary.SelectRequest = {
        "source": {"kind": "npy", "path": str(tmp_path / "scores.npy")},
        "computed": [],
        "external": [],
        "on": "ppl",
        "sign": "signed",
        "threshold": 0.5,
        "bins": 50,
        "seed": 1,
        "score": 0,
        "merge": None,
        "guards": [{"column": 0, "op": ">", "value": 1.0}],
        "draw": False,
        "clusters": None,
        "within": None,
        "length": None,
        "clean": None,
        "inputs": [(0, 50), (50, 100)],
        "own": [{"of": {"input": 0}, "label": "input=0", "keep": {"fraction": [1, 2]}}],
        "exposures": [],
        "direction": "top",
        "ties": "row",
        "keep": {"rows": 10},
        "out": str(out),
        "rows": False,
        "tmp": str(out / "tmp"),
        "plan": "",
        "threads": 1,
    }
    write: boundary.WriteRequest = {
        **kept,
        "files": files,
        "expected": _kept(tmp_path / "clean"),
        "output": {"format": "tsv", "path": str(out / "kept.tsv")},
        "dropped": {"format": "tsv", "path": str(out / "dropped.tsv")},
        "tags": str(out / "tags"),
        "added": ["row", "tag"],
    }
    opened: boundary.OpenCorpusRequest = {**kept, "files": files, "reasons": None, "text": "utf8"}
    pairs: boundary.ReadPairsRequest = {"corpus": corpus, "rows": [1, 2]}
    words: boundary.RareWordsRequest = {**kept, "selections": [kept["kept"]], "rare": 5}
    return {
        "clean": (_core.clean, {**clean}, boundary.CleanRequest, boundary.CleanResult),
        "stats": (_core.stats, {**stats}, boundary.StatsRequest, boundary.StatsResult),
        "sample": (_core.sample, {**sample}, boundary.SampleRequest, int),
        "tokenize": (_core.tokenize, {**tokenize}, boundary.TokenizeRequest, boundary.TokenizeResult),
        "select": (_core.select, {**select}, boundary.SelectRequest, boundary.SelectResult),
        "write": (_core.write, {**write}, boundary.WriteRequest, boundary.WriteResult),
        "open_corpus": (_core.open_corpus, {**opened}, boundary.OpenCorpusRequest, None),
        "rare_words": (_core.rare_words, {**words}, boundary.RareWordsRequest, boundary.RareWords),
        "read_pairs": (_core.read_pairs, {**pairs}, boundary.ReadPairsRequest, list[tuple[str, str]]),
    }


def _kept(clean: Path) -> int:
    return catprune.clean([clean.parent / "text.en", clean.parent / "text.de"], dry_run=True).kept


PASSES = ("clean", "stats", "sample", "tokenize", "select", "write", "open_corpus", "rare_words", "read_pairs")


def test_results_have_their_types(passes: dict[str, Pass]) -> None:
    for name, (run, request, typed, result) in passes.items():
        assert {*request} == {*hints(typed)}, name
        results = run(request)
        if result is not None:
            conform(results, result, name)
    conform(_core.default_rules(), boundary.Rules, "default_rules")


def test_the_compiled_passes_ask_for_the_required_keys_alone(passes: dict[str, Pass]) -> None:
    for name, (run, request, typed, _) in passes.items():
        for key in typed.__required_keys__:
            with pytest.raises(ValueError, match=f"missing field `{key}`"):
                run({name: value for name, value in request.items() if name != key})
        required = {key: value for key, value in request.items() if key in typed.__required_keys__}
        run(required)
        if name != "select":  # structures that are inlined do not let serde see which keys are left over
            with pytest.raises(ValueError, match="unknown field `surplus`"):
                run({**request, "surplus": 1})
