"""The methods that rank pairs: names, formulas, sources, inputs and options."""

from __future__ import annotations

from dataclasses import dataclass

from catprune.errors import UsageError
from catprune.workspace.options import did_you_mean


@dataclass(frozen=True, slots=True)
class Method:
    """A method that scores pairs; higher scores are kept first unless `direction` says otherwise.

    Attributes:
        name: the value of `method`.
        formula: the score in one line; nll_t is nats per target token under checkpoint t, ppl_t = exp(nll_t).
        source: the publication.
        needs: smallest number of checkpoints, without the reference model; for models of both directions, of each.
        reads: the checkpoints used, in training order: "all", "ends" (first and last), "last", "reference" (the first,
            and the reference model), "directions" (the last that predicts the target and the last that predicts
            the source), or "scorer" (none; a column that `score --scorer` wrote).
        options: the options that change the score, with their defaults.
        ties: which of equal scores are kept: "row" (the lower row) or "random" (by a hash of seed and row).
        direction: the end of the ranking that the source, or our measurement, recommends to keep; empty if none.
        hard: the end with pairs that are hard to learn, including noise; empty if none. For methods with the option
            `on`, this holds for `ppl`.
        advice: the reason of the recommendation, in a few words.
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
#: The method that draws from clusters; it has no scores to merge or compare.
CLUSTERED = "s2l"
#: Used instead of a method if a column ranks.
COLUMN = "column"
#: Used instead of a method if several columns are merged.
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
        advice=(
            "these pairs changed most; on ppl the order is close to that of the initial perplexity, so clean first, or "
            "rank on nll"
        ),
    ),
    Method(
        "cat-var",
        "population variance of ppl_t over the checkpoints; of nll_t with on nll",
        "CAT, arXiv 2405.19462",
        needs=3,
        reads="all",
        options=(_ON,),
        hard="top",
        advice=(
            "these pairs changed most; on ppl the order is close to that of the initial perplexity, so clean first, or "
            "rank on nll"
        ),
    ),
    Method(
        "progress",
        "E[nll_last | nll_first] - nll_last, E the lower median in quantile bins of nll_first (200 pairs or more)",
        "catprune: CAT, corrected for the initial loss",
        needs=2,
        reads="ends",
        options=(("bins", 50),),
        hard="bottom",
        advice="the pairs whose loss fell most among pairs of similar initial loss (docs/results/who-finds-what.md)",
    ),
    Method(
        "ppl",
        "ppl_t of the last checkpoint; nll_t with on nll (top, middle or bottom)",
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
        "importance-weighted gradient norm, in catprune's form",
        needs=1,
        reads="all",
        hard="top",
        direction="bottom",
        advice="on dirty text the top is noise (results, who finds what); on clean text it is hard pairs",
    ),
    Method(
        "token-grad-norm",
        "mean over the checkpoints of the mean over the tokens of the gradient norm of the output matrix",
        "catprune: after GraNd (Paul et al. 2021, arXiv 2107.07075), which takes the norm of the pair's gradient",
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
        needs=3,
        reads="all",
        advice="ambiguous pairs (Swayamdipta et al. 2020)",
    ),
    Method(
        "correctness",
        "mean over the checkpoints of the token accuracy (share of tokens that are the most probable ones)",
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
        "number of times the token accuracy falls below the threshold between checkpoints; never above it: the maximum",
        "Toneva et al. 2019, arXiv 1812.05159, sequence form",
        needs=3,
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
        "random draws, equally many from each cluster of loss trajectories (nll_t) as far as they have pairs",
        "Yang et al. 2024, arXiv 2403.07384",
        needs=3,
        reads="all",
        options=(("clusters", 100), ("seed", 1)),
        ties="random",
        direction="",
        advice="draws evenly from all clusters",
    ),
    Method(
        "rho",
        "nll_first - nll of a reference model, which was trained on other pairs",
        "Mindermann et al. 2022, arXiv 2206.07137",
        needs=1,
        reads="reference",
        options=(("reference", None),),
        advice="pairs that are not learned yet but can be learned (Mindermann et al. 2022)",
    ),
    Method(
        "dual-xent",
        "-(|H_f - H_b| + (H_f + H_b) / 2), the nll of a forward and of a backward model",
        "Junczys-Dowmunt 2018, arXiv 1809.00197",
        needs=1,
        reads="directions",
        hard="bottom",
        advice="pairs on which both models agree with low loss (Junczys-Dowmunt 2018)",
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
        "cosine of LaBSE's embeddings; with margin = true, their ratio margin",
        "Feng et al. 2020, arXiv 2007.01852; margin: Artetxe & Schwenk 2019, arXiv 1811.01136",
        needs=0,
        reads="scorer",
        hard="bottom",
        advice="the most similar sides",
    ),
    Method(
        "laser",
        "cosine or ratio margin of LASER's embeddings",
        "Artetxe & Schwenk 2019, arXiv 1812.10464; Heffernan et al. 2022, arXiv 2205.12654",
        needs=0,
        reads="scorer",
        hard="bottom",
        advice="the most similar sides",
    ),
    Method(
        "e5",
        "cosine or ratio margin of the embeddings of multilingual E5 small, which needs no download",
        "Wang et al. 2024, arXiv 2402.05672",
        needs=0,
        reads="scorer",
        hard="bottom",
        advice="the most similar sides",
    ),
    Method(
        "length",
        "target tokens; target characters if the source is a clean folder",
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
    """Return the method of this name.

    Raises:
        UsageError: the method is unknown.
    """
    for method in METHODS:
        if method.name == name:
            return method
    names = [method.name for method in METHODS]
    raise UsageError(
        f"there is no method {name}{did_you_mean(name, names) or '; `catprune methods` lists them'} (give other "
        "columns as column)"
    )


def keeps_hard(method: Method, direction: str, on: str | None) -> bool:
    """Whether this end of a method's ranking holds pairs that are hard to learn, including noise."""
    return direction == method.hard and on != "nll"


def describe_method(method: Method) -> list[str]:
    """Describe a method in three lines."""
    options = "".join(f"; {name} = {value}" for name, value in method.options if value is not None)
    end = f"keep the {method.direction}: " if method.direction else ""
    return [f"{method.name:15} {method.formula}", f"{'':15} {method.source}{options}", f"{'':15} {end}{method.advice}"]
