"""Prints what a run dropped, what its selection prefers, and the pairs at the cut: `python analyse.py run pruned`.

Nothing here loads the corpus: DuckDB and Polars scan the Parquet files of the run.
"""

import sys
from pathlib import Path

import duckdb
import polars as pl

run, selection = Path(sys.argv[1]), sys.argv[2]
clean = f"'{run}/clean/columns/*.parquet'"
kept = f"'{run}/selection/{selection}/columns/*.parquet'"

print("What cleaning dropped")
reasons = f"select unnest(string_split(reason, '+')) as reason from {clean} where reason is not null"
print(duckdb.sql(f"select reason, count(*) as pairs from ({reasons}) group by reason order by pairs desc limit 10"))

print("Kept pairs by length of the target")
print(
    duckdb.sql(f"""
        select 5 * (target_words // 5) as words, count(*) as clean_pairs,
               count(*) filter (kept) as kept_pairs, round(avg(kept::int), 2) as share
        from {clean} join {kept} using (row) group by words order by words
    """)
)

print("Loss of kept and of other pairs, in nats per token")
scores = sorted((run / "scores").iterdir())
loss = pl.col("nll_sum") / pl.col("tokens")
for folder in scores:
    frame = pl.scan_parquet(folder / "columns").select("row", nll=loss)
    chosen = pl.scan_parquet(run / "selection" / selection / "columns").select("row", "kept")
    means = frame.join(chosen, on="row").group_by("kept").agg(pl.col("nll").mean()).sort("kept")
    print(folder.name, means.collect().rows())
