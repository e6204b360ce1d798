"""The methods that rank pairs: name, formula, source, and what each needs and leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from catprune.errors import UsageError
from catprune.workspace.options import did_you_mean


@dataclass(frozen=True, slots=True)
class Method:
    """One way to score a pair; a higher score is kept first unless the direction says otherwise.

    Attributes:
        name: as `method` takes it.
        formula: the score in a line; nll_t is nats per target token under checkpoint t, ppl_t = exp(nll_t).
        source: where it comes from.
        needs: how many checkpoints at least; 0 if none. A reference model is not one of them, of models in both
            directions it is how many of each.
        reads: of the checkpoints given, in training order: "all", "ends" (first and last), "last", "reference" (the
            first, and the reference model), "directions" (the last that predicts the target and the last that predicts
            the source), or "scorer" (none: a column that `score --scorer` wrote).
        options: the options that change the score, with their defaults.
        ties: which of equal scores are kept: "row" (the lower row) or "random" (by a hash of seed and row).
        direction: the end of the ranking that the source, or this project's measurement, recommends to keep; empty if
            the method has none.
        hard: the end that keeps pairs that are hard to learn, and noise among them; empty if neither end does. Of
            methods with the option `on` this holds for `ppl`.
        advice: why, in a few words.
    """

    name: str
    formula: str
    source: str
    needs: int
    reads: str
    options: tuple[tuple[str, str | int | float | None], ...] = ()
    ties: str = "row"
    direction: str = "top"
    hard: str = ""
    advice: str = ""


_ON = ("on", "ppl")
_CARTOGRAPHY = "Swayamdipta et al. 2020, arXiv 2009.10795, token form"
#: The method that draws from clusters: it has no score of its own to be merged or guarded by.
CLUSTERED = "s2l"
#: Stands in the place of a method where the score was made elsewhere.
COLUMN = "column"
#: Stands in the place of a method where several columns are ranked as one.
MERGE = "merge"

METHODS: tuple[Method, ...] = (
    Method(
        "cat-diff",
        "ppl_first - ppl_last; its absolute value with sign abs; of nll with on nll",
        "CAT, arXiv 2405.19462",
        needs=2,
        reads="ends",
        options=(_ON, ("sign", "signed")),
        hard="top",
        advice="the largest fall; on ppl close to the initial perplexity, so clean first or rank on nll",
    ),
    Method(
        "cat-var",
        "population variance of ppl_t over the checkpoints; of nll_t with on nll",
        "CAT, arXiv 2405.19462",
        needs=2,
        reads="all",
        options=(_ON,),
        hard="top",
        advice="the largest variance; on ppl close to the initial perplexity, so clean first or rank on nll",
    ),
    Method(
        "progress",
        "E[nll_last | nll_first] - nll_last, E the lower median in quantile bins of nll_first (200 pairs or more)",
        "catprune: CAT freed of the scale it starts from",
        needs=2,
        reads="ends",
        options=(("bins", 50),),
        hard="bottom",
        advice="the pairs that fell most among pairs of similar initial loss (docs/results/who-finds-what.md)",
    ),
    Method(
        "ppl",
        "ppl_t of the last checkpoint given; nll_t with on nll (top, middle or bottom)",
        "Marion et al. 2023, arXiv 2309.04564",
        needs=1,
        reads="last",
        options=(_ON,),
        direction="middle",
        hard="top",
        advice="Marion et al. 2023 found the middle best; the top is hard or noise",
    ),
    Method(
        "ign",
        "mean over the checkpoints of the gradient norm per token, weighted by the token's self-information",
        "importance-weighted gradient norm, as catprune reads it",
        needs=1,
        reads="all",
        hard="top",
        direction="bottom",
        advice="on dirty text the top is noise (results, who finds what); on clean text it is hard pairs",
    ),
    Method(
        "grand",
        "mean over the checkpoints of the gradient norm of the output matrix, per token",
        "Paul et al. 2021, arXiv 2107.07075, last-layer form",
        needs=1,
        reads="all",
        hard="top",
        direction="bottom",
        advice="on dirty text the top is noise (results, who finds what); Paul et al. 2021 keep it on clean data",
    ),
    Method(
        "el2n",
        "mean over the checkpoints of the norm of the error of the predicted distribution, per token",
        "Paul et al. 2021, arXiv 2107.07075, token-averaged",
        needs=1,
        reads="all",
        hard="top",
        direction="bottom",
        advice="on dirty text the top is noise (results, who finds what); Paul et al. 2021 keep it on clean data",
    ),
    Method(
        "confidence",
        "mean of p_t = exp(-nll_t) over the checkpoints",
        _CARTOGRAPHY,
        needs=1,
        reads="all",
        hard="bottom",
        advice="low confidence is hard to learn, and often an error (Swayamdipta et al. 2020)",
    ),
    Method(
        "variability",
        "population standard deviation of p_t = exp(-nll_t) over the checkpoints",
        _CARTOGRAPHY,
        needs=2,
        reads="all",
        advice="ambiguous pairs (Swayamdipta et al. 2020)",
    ),
    Method(
        "correctness",
        "mean over the checkpoints of the share of tokens that are the most probable ones",
        _CARTOGRAPHY,
        needs=1,
        reads="all",
        ties="random",
        hard="bottom",
        advice="low correctness is hard to learn, and often an error (Swayamdipta et al. 2020)",
    ),
    Method(
        "closeness",
        "c (1 - c), c the confidence: near 0.5 comes first",
        _CARTOGRAPHY,
        needs=1,
        reads="all",
        ties="random",
        advice="pairs of middle confidence",
    ),
    Method(
        "forgetting",
        "checkpoints from which to the next the share of right tokens falls below the threshold; never above it: most",
        "Toneva et al. 2019, arXiv 1812.05159, sequence form",
        needs=2,
        reads="all",
        options=(("threshold", 0.5),),
        ties="random",
        hard="top",
        direction="bottom",
        advice="pairs that are never learned count as most forgotten; Toneva et al. 2019 keep the top of clean data",
    ),
    Method(
        "inactive",
        "-mean of p_t = exp(-nll_t) over the checkpoints",
        "Jiao et al. 2020, arXiv 2010.02552",
        needs=1,
        reads="all",
        direction="bottom",
        hard="top",
        advice="Jiao et al. 2020 remove the inactive pairs, which are the top",
    ),
    Method(
        "s2l",
        "random draws, as many from every cluster of the courses of nll_t as they have",
        "Yang et al. 2024, arXiv 2403.07384",
        needs=2,
        reads="all",
        options=(("clusters", 100), ("seed", 1)),
        ties="random",
        direction="",
        advice="draws evenly from all clusters",
    ),
    Method(
        "rho",
        "nll_first - nll of a reference model, one that was trained on other pairs",
        "Mindermann et al. 2022, arXiv 2206.07137",
        needs=1,
        reads="reference",
        options=(("reference", None),),
        advice="what is not learned yet but can be learned (Mindermann et al. 2022)",
    ),
    Method(
        "dual-xent",
        "-(|H_f - H_b| + (H_f + H_b) / 2), the nll of a forward and of a backward model",
        "Junczys-Dowmunt 2018, arXiv 1809.00197",
        needs=1,
        reads="directions",
        hard="bottom",
        advice="both models agree and are sure (Junczys-Dowmunt 2018)",
    ),
    Method(
        "comet-qe",
        "reference-free estimate of the translation's quality",
        "Rei et al. 2020, arXiv 2010.15535 (wmt20-comet-qe-da), or another QE model of COMET",
        needs=0,
        reads="scorer",
        hard="bottom",
        advice="the best estimated translations",
    ),
    Method(
        "labse",
        "cosine of LaBSE's embeddings, or with margin = true their ratio margin",
        "Feng et al. 2020, arXiv 2007.01852; margin: Artetxe & Schwenk 2019, arXiv 1811.01136",
        needs=0,
        reads="scorer",
        hard="bottom",
        advice="the most similar sides",
    ),
    Method(
        "laser",
        "the same of LASER's embeddings",
        "Artetxe & Schwenk 2019, arXiv 1812.10464; Heffernan et al. 2022, arXiv 2205.12654",
        needs=0,
        reads="scorer",
        hard="bottom",
        advice="the most similar sides",
    ),
    Method(
        "e5",
        "the same of the embeddings of multilingual E5 small, which come with a package and need no download",
        "Wang et al. 2024, arXiv 2402.05672",
        needs=0,
        reads="scorer",
        hard="bottom",
        advice="the most similar sides",
    ),
    Method(
        "length",
        "target tokens; target characters where the source is a clean folder",
        "trivial baseline",
        needs=0,
        reads="last",
        ties="random",
        direction="",
        advice="a baseline",
    ),
    Method(
        "random",
        "upper 24 bits of xxh3_64(row, seed), as a fraction",
        "baseline; independent of shards, threads and order of work",
        needs=0,
        reads="last",
        options=(("seed", 1),),
        ties="random",
        direction="",
        advice="a baseline",
    ),
)


def find_method(name: str) -> Method:
    """The method of this name.

    Raises:
        UsageError: there is none.
    """
    for method in METHODS:
        if method.name == name:
            return method
    names = [method.name for method in METHODS]
    raise UsageError(
        f"there is no method {name}{did_you_mean(name, names) or '; `catprune methods` lists them'} (columns of other "
        "names are given as column)"
    )


def keeps_hard(method: Method, direction: str, on: str | None) -> bool:
    """Whether this end of a method's ranking keeps the pairs that are hard to learn, and noise among them."""
    return direction == method.hard and on != "nll"


def describe_method(method: Method) -> list[str]:
    """A method in two lines for a reader."""
    options = "".join(f"; {name} = {value}" for name, value in method.options if value is not None)
    end = f"keep the {method.direction}: " if method.direction else ""
    return [f"{method.name:15} {method.formula}", f"{'':15} {method.source}{options}", f"{'':15} {end}{method.advice}"]
