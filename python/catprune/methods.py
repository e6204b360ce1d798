"""The methods that rank pairs: name, formula, source, and what each needs and leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from catprune.errors import UsageError


@dataclass(frozen=True, slots=True)
class Method:
    """One way to score a pair; a higher score is kept first unless the direction says otherwise.

    Attributes:
        name: as `--method` takes it.
        formula: the score in a line; nll_t is nats per target token under checkpoint t, ppl_t = exp(nll_t).
        source: where it comes from.
        needs: how many checkpoints at least; 0 if none.
        reads: of the checkpoints given, in training order: "all", "ends" (first and last) or "last".
        options: the options that change the score, with their defaults.
        ties: which of equal scores are kept: "row" (the lower row) or "random" (by a hash of seed and row).
    """

    name: str
    formula: str
    source: str
    needs: int
    reads: str
    options: tuple[tuple[str, str | int], ...] = ()
    ties: str = "row"


_ON = ("on", "ppl")
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
    ),
    Method(
        "cat-var",
        "population variance of ppl_t over the checkpoints; of nll_t with on nll",
        "CAT, arXiv 2405.19462",
        needs=2,
        reads="all",
        options=(_ON,),
    ),
    Method(
        "progress",
        "E[nll_last | nll_first] - nll_last, E the lower median within quantile bins of nll_first",
        "catprune: CAT freed of the scale it starts from",
        needs=2,
        reads="ends",
        options=(("bins", 50),),
    ),
    Method(
        "ppl",
        "ppl_t of the last checkpoint given; nll_t with on nll (top, middle or bottom)",
        "Marion et al. 2023, arXiv 2309.04564",
        needs=1,
        reads="last",
        options=(_ON,),
    ),
    Method(
        "variability",
        "population standard deviation of p_t = exp(-nll_t) over the checkpoints",
        "Swayamdipta et al. 2020, arXiv 2009.10795, token form",
        needs=2,
        reads="all",
    ),
    Method(
        "confidence",
        "mean of p_t = exp(-nll_t) over the checkpoints",
        "Swayamdipta et al. 2020, arXiv 2009.10795, token form",
        needs=1,
        reads="all",
    ),
    Method(
        "length",
        "target tokens; target characters where the source is a clean folder",
        "trivial baseline",
        needs=0,
        reads="last",
        ties="random",
    ),
    Method(
        "random",
        "upper 24 bits of xxh3_64(row, seed), as a fraction",
        "baseline; independent of shards, threads and order of work",
        needs=0,
        reads="last",
        options=(("seed", 1),),
        ties="random",
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
    raise UsageError(f"there is no method {name}: the methods are {', '.join(one.name for one in METHODS)}")
