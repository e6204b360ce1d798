"""Measures the cost of scorers on real text, with random weights in the shapes of their models.

    python docs/results/scorer_costs.py CLEAN OUT [--pairs 300]

CLEAN is a clean folder of at least ten times the pairs. The script prints processor minutes per million pairs, measured
on the first pairs, without the start of the libraries. Tokenizers are trained on the text (vocabulary 8,000), so
sequences are about as long as with the larger tokenizers of the models.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import catprune
import numpy as np
from catprune.scoring.scorers.comet import Comet
from catprune.scoring.scorers.embeddings import E5, SentenceTransformers
from catprune.scoring.scorers.environment import Worker
from catprune.scoring.scorers.laser import Laser

BUILDERS = Path(__file__).resolve().parents[2] / "tests"
TYPES = 8000
#: The shape of wmt20-comet-qe-da: XLM-R large and its hidden layers.
COMET = """
import json, sys
from pathlib import Path
from build_comet_model import ReferencelessRegression, build_encoder, save
folder, texts = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
build_encoder(folder / "encoder", texts, types=8000, longest=512, **sizes)
name = "referenceless_regression_metric"
save(folder / "model", ReferencelessRegression, name, folder / "encoder", hidden=(2048, 1024))
"""
#: LASER2: five layers of 512 in each direction.
LASER = """
import json, sys
from pathlib import Path
from build_laser_model import build
folder, texts = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
build(folder / "model", texts, types=8000, embed_dim=320, hidden_size=512, num_layers=5)
"""


def build_labse(folder: Path, texts: list[str]) -> Path:
    """BERT base with LaBSE's modules."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    if (folder / "model").is_dir():
        return folder / "model"
    trained = BertWordPieceTokenizer(lowercase=False)
    trained.train_from_iterator(texts, vocab_size=TYPES, show_progress=False)
    BertModel(BertConfig(vocab_size=trained.get_vocab_size())).save_pretrained(folder / "bert")
    BertTokenizerFast(vocab=trained.get_vocab(), do_lower_case=False).save_pretrained(folder / "bert")
    transformer = modules.Transformer(str(folder / "bert"), max_seq_length=256)
    more = [modules.Pooling(768, pooling_mode="cls"), modules.Dense(768, 768), modules.Normalize()]
    SentenceTransformer(modules=[transformer, *more], device="cpu").save(str(folder / "model"))
    return folder / "model"


def build(script: str, code: str, folder: Path, texts: Path) -> Path:
    """Build a model with code in a worker's environment."""
    if not (folder / "model").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        worker = Worker(script, "", threads=None, local=None)
        environment = {**worker.environment(), "PYTHONPATH": str(BUILDERS)}
        subprocess.run([worker.python(), "-c", code, str(folder), str(texts)], check=True, env=environment)
    return folder / "model"


def seconds_of_children() -> float:
    """Return the processor seconds of this process and its finished children."""
    return sum(os.times()[:4])


def main() -> None:
    """Build, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clean", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=300)
    options = parser.parse_args()
    pairs = [pair for batch in catprune.open_corpus(options.clean) for pair in batch.to_pylist()][:20_000]
    sources, targets = ([pair[side] for pair in pairs] for side in ("source", "target"))
    options.out.mkdir(parents=True, exist_ok=True)
    texts = options.out / "texts.json"
    texts.write_text(json.dumps(sources + targets))
    single = {"threads": 1, "local": None}
    labse = build_labse(options.out / "labse", sources + targets)
    laser = build("laser_worker.py", LASER, options.out / "laser", texts)
    comet = build("comet_worker.py", COMET, options.out / "comet", texts)
    scorers = {
        "e5": (1, lambda: E5(threads=1)),
        "labse": (1, lambda: SentenceTransformers(labse, **single)),
        "laser": (10, lambda: Laser(laser, **single)),
        "comet-qe": (1, lambda: Comet(comet, **single)),
    }
    print(f"{sum(map(len, sources)) / len(sources):.0f} characters per source on average")
    for name, (times, open_scorer) in scorers.items():
        spent = {}
        for count in (times * options.pairs // 10, times * options.pairs):
            some = sources[:count], targets[:count]
            before, started = seconds_of_children(), time.monotonic()
            with open_scorer() as model:
                if isinstance(model, Comet):
                    model.score(np.arange(count), *some)
                else:
                    for side in some:
                        model.embed(side, "")
            spent[count] = seconds_of_children() - before, time.monotonic() - started
        (fewer, less), (more, most) = spent.items()
        rate = [(most[clock] - less[clock]) / (more - fewer) * 1e6 / 60 for clock in (0, 1)]
        print(f"{name}: {rate[0]:,.0f} processor minutes per million pairs ({rate[1]:,.0f} by the clock)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
