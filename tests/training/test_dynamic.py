"""Pruning while training: dropped pairs and their effect on the gradient, in a plain torch loop and in `train`."""

import copy
import gc
import itertools
import json
import math
import signal
import subprocess
import sys
import textwrap
import weakref
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from catprune.checkpoints.native import load_model, load_tensors, read_checkpoint
from catprune.errors import CatpruneError, UsageError
from catprune.model import output_layer
from catprune.model.attention import Padded
from catprune.tokens.blocks import Tokens
from catprune.training import dynamic, loop, loss, pruned_rows, updates
from catprune.training.data_order import Order
from catprune.training.dynamic import Ddp, Drawn, InfoBatch, PrunedBatches, uniform
from catprune.training.recipe import read_pruning
from catprune.training.spans import Spans
from catprune.training.train import train
from hypothesis import example, given
from hypothesis import strategies as some
from support.synthetic import BOS, contents, read_ids, write_tokens

FAST = {
    "warmup_steps": 20,
    "learning_rate": 2e-3,
    "batch_tokens": 256,
    "threads": 1,
    "precision": "float32",
    "quiet": True,
}
WAYS = {
    "infobatch": {"prune_while_training": "infobatch"},
    "ddp": {"prune_while_training": "ddp", "prune_ratio": 0.4},
    "ddp in cycles": {"prune_while_training": "ddp", "prune_ratio": 0.4, "prune_cycle": 2},
    "ddp of spans": {"prune_while_training": "ddp", "prune_ratio": 0.4, "prune_span": 3},
}
few_values = some.sampled_from([0.0, -0.0, 1.0, 1.0000001, 2.5, -3.0, 1e-42, math.inf, math.nan])
values = few_values | some.floats(width=32)


class BlockEntryLike(NamedTuple):
    first: int
    end: int


class BlockLike(NamedTuple):
    rows: np.ndarray
    source_ids: np.ndarray
    source_offsets: np.ndarray
    target_ids: np.ndarray
    target_offsets: np.ndarray


def begun(pruning, losses, epoch=1):
    """Set the known losses at the start of the epoch."""
    losses = np.array(losses, np.float32)
    pruning.resume(epoch, before=losses, losses=losses.copy())
    return pruning


@given(some.lists(values, max_size=120), some.integers(0, 999), some.integers(1, 20))
@example([1.0] * 100, 290, 20)
def test_ddp_keeps_the_same_pairs_as_sorting(losses, thousandths, in_slice):
    ratio = float(f"0.{thousandths:03}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic, "SLICE", in_slice)
        kept = begun(Ddp(pairs=len(losses), ratio=ratio), losses).keeps(np.arange(len(losses)))
    losses = np.array(losses, np.float32).tolist()
    known = [pair for pair, loss in enumerate(losses) if not math.isnan(loss)]
    ranked = sorted(known, key=lambda pair: (-losses[pair], pair))
    dropped = thousandths * len(known) // 1000
    expected = set(range(len(losses))) - set(ranked[len(known) - dropped :])
    assert set(np.flatnonzero(kept).tolist()) == expected


@given(some.lists(some.floats(0, 100, width=32) | some.just(math.nan), max_size=40), some.integers(1, 20))
def test_infobatch_drops_and_weighs_only_losses_below_the_mean(losses, in_slice):
    pruning = InfoBatch(pairs=len(losses), epochs=10, ratio=0.75, anneal=0.9, seed=3)
    pairs = np.arange(len(losses))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic, "SLICE", in_slice)
        begun(pruning, losses, 2)
    known = [loss for loss in losses if not math.isnan(loss)]
    mean = math.fsum(known) / len(known) if known else 0
    easy = np.array([loss < mean - 1e-9 for loss in losses], bool)
    hard = np.array([not loss < mean + 1e-9 for loss in losses], bool)
    kept = pruning.keeps(pairs)
    assert kept[hard].all()
    weights = pruning.weights(pairs)
    if known:
        assert (weights[hard] == 1).all() and (weights[easy] == 4).all(), "1 / (1 - ratio), exactly"
    else:
        assert weights is None, "1 for all"
    np.testing.assert_array_equal(kept[easy], (uniform(3, 2, pairs) >= 0.75)[easy])


def test_infobatch_is_annealed_and_needs_a_known_loss():
    losses = np.arange(1000) % 10
    pairs = np.arange(1000)
    for epochs, anneal, pruned in ((8, 0.875, 7), (5, 0.875, 4), (2.5, 1, 3), (200, 0.9, 180)):
        pruning = InfoBatch(pairs=1000, epochs=epochs, anneal=anneal)
        dropping = [bool((~begun(pruning, losses, epoch).keeps(pairs)).any()) for epoch in range(math.ceil(epochs))]
        assert dropping == [epoch < pruned for epoch in range(len(dropping))], (epochs, anneal)
    pruning = InfoBatch(pairs=1000, epochs=8)
    pruning.begin(0)
    drawn = pruning.draw(pairs)
    assert len(drawn.kept) == 1000 and drawn.weights.tolist() == [1] * 1000 and pruning.weights(pairs) is None
    pruning.observe(pairs[:4], np.array([1, 1, 1, 9]))
    assert len(pruning.draw(pairs).kept) == 1000, "losses of an epoch decide in the next epoch"
    pruning.begin(1)
    assert set(pairs[~pruning.keeps(pairs)].tolist()) <= {0, 1, 2}
    assert pruning.weights(np.array([0, 3, 4])).tolist() == [2, 1, 1]


def test_chances_do_not_depend_on_the_order_of_batches():
    losses = np.arange(5000) % 10
    pruning = begun(InfoBatch(pairs=5000, epochs=10, ratio=0.3), losses)
    whole = pruning.keeps(np.arange(5000))
    shuffled = np.random.default_rng(1).permutation(5000)
    for batch in np.array_split(shuffled, 70):
        drawn = pruning.draw(batch.tolist())
        assert drawn.kept.tolist() == [pair for pair in batch.tolist() if whole[pair]]
        np.testing.assert_array_equal(drawn.basis, batch)
    assert abs((~whole[losses < 4.5]).mean() - 0.3) < 5 * math.sqrt(0.21 / 2500)
    others = (begun(InfoBatch(pairs=5000, epochs=10, ratio=0.3, seed=2), losses), begun(pruning, losses, 2))
    for other in others:
        both = (~whole & ~other.keeps(np.arange(5000)))[losses < 4.5].mean()
        assert abs(both - 0.09) < 0.02, "another seed or epoch has chances of its own"


def test_uniform_numbers_are_these_everywhere():
    """Compute splitmix64 with Python integers."""

    def mixed(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    for seed, epoch in ((0, 0), (1, 3), (2**64 - 1, 7)):
        stream = mixed((mixed((seed + golden) % 2**64) + epoch) % 2**64)
        expected = [(mixed((stream + (pair + 1) * golden) % 2**64) >> 11) / 2**53 for pair in (0, 1, 10**12)]
        assert uniform(seed, epoch, np.array([0, 1, 10**12])).tolist() == expected


@pytest.mark.parametrize("ratio", [0.5, 0.3])
def test_the_expected_gradient_of_infobatch_is_that_of_the_whole_batch(ratio):
    """Over many seeds, each component of the weighted mean is within five standard errors; unweighted means are not."""
    torch.manual_seed(1)
    lengths = torch.randint(1, 7, (16,))
    hidden, matrix = torch.randn(int(lengths.sum()), 5), torch.randn(11, 5, requires_grad=True)
    targets = torch.randint(11, (len(hidden),))
    owner = torch.arange(16).repeat_interleave(lengths)
    losses = np.linspace(0, 2, 16)

    def gradient(weights, tokens):
        counts = weights[owner]
        taken = counts > 0
        loss, *_ = output_layer.weighted_loss(
            hidden[taken], matrix, targets[taken], counts[taken], smoothing=0.1, dtype=torch.float32
        )
        return torch.autograd.grad(loss / tokens, matrix)[0].double()

    plain, _ = output_layer.smoothed_loss(hidden, matrix, targets, smoothing=0.1, dtype=torch.float32)
    full = torch.autograd.grad(plain / len(hidden), matrix)[0].double()
    unbiased, biased = [], []
    for seed in range(600):
        drawn = begun(InfoBatch(pairs=16, epochs=9, ratio=ratio, seed=seed), losses).draw(range(16))
        weights = torch.zeros(16)
        weights[drawn.kept] = torch.from_numpy(drawn.weights)
        unbiased.append(gradient(weights, int(lengths[drawn.basis].sum())))
        biased.append(gradient((weights > 0).float(), int(lengths[drawn.kept].sum())))
    for estimates, is_unbiased in ((torch.stack(unbiased), True), (torch.stack(biased), False)):
        error = estimates.std(0) / math.sqrt(len(estimates))
        assert bool(((estimates.mean(0) - full).abs() < 5 * error).all()) == is_unbiased


def test_weights_count_tokens_and_weights_of_one_change_no_bit(monkeypatch):
    monkeypatch.setitem(output_layer._CHUNK, "cpu", 50 * 4)  # four rows at once
    torch.manual_seed(1)
    hidden, matrix = torch.randn(11, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(50, (11,))
    how = {"smoothing": 0.1, "dtype": torch.float32}

    def both(sums):
        return [*sums[:2], *torch.autograd.grad(sums[0], (hidden, matrix))]

    plain = both(output_layer.smoothed_loss(hidden, matrix, targets, **how))
    of_tokens = []
    for weights in (torch.ones(11), None):
        losses = output_layer.weighted_loss(hidden, matrix, targets, weights, **how)
        of_tokens.append(losses[2])
        for ours, theirs in zip(both(losses), plain, strict=True):
            assert torch.equal(ours, theirs)
    counts = torch.rand(11)
    loss, nll, nlls = output_layer.weighted_loss(hidden, matrix, targets, counts, **how)
    assert torch.equal(nlls, of_tokens[0]) and torch.equal(nlls, of_tokens[1])
    each = torch.nn.functional.cross_entropy(hidden @ matrix.T, targets, reduction="none", label_smoothing=0.1)
    expected = torch.autograd.grad((each * counts).sum(), (hidden, matrix))
    torch.testing.assert_close(loss.float(), (each * counts).sum())
    torch.testing.assert_close(nlls, torch.nn.functional.cross_entropy(hidden @ matrix.T, targets, reduction="none"))
    torch.testing.assert_close(nll.float(), (nlls * counts).sum())
    assert not nlls.requires_grad
    for ours, theirs in zip(torch.autograd.grad(loss, (hidden, matrix)), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("ahead", [0, 3])
def test_a_plain_torch_loop(ahead):
    """Regression of one number on ten, by a loader that may run ahead of the training."""
    torch.manual_seed(1)
    data = torch.randn(200, 10)
    wanted = data @ torch.arange(10.0)
    plain = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(data), 16, drop_last=False)
    pruning = InfoBatch(pairs=200, epochs=20)
    batches = PrunedBatches(plain, pruning)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data, wanted), batch_sampler=batches)
    model = torch.nn.Linear(10, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    kept = []
    for epoch in range(20):
        pruning.begin(epoch)
        kept.append(0)
        for (x, y), drawn in batches.along(running_ahead(loader, ahead)):
            assert torch.equal(x, data[drawn.kept])
            losses = (model(x)[:, 0] - y) ** 2
            loss = (losses * torch.from_numpy(drawn.weights)).sum() / len(drawn.basis)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pruning.observe(drawn.kept, losses.detach().numpy())
            kept[-1] += len(drawn.kept)
    assert kept[0] == kept[-1] == 200 and max(kept[1:17]) < 190
    assert losses.mean() < 1 and len(batches) == 13


def test_drawn_batches_are_only_held_for_along():
    drawn = []

    class Spied(Ddp):
        def draw(self, batch):
            drawn.append(weakref.ref(kept := super().draw(batch).kept))
            return Drawn(kept, np.ones(len(kept), np.float32), kept)

    pruning = Spied(pairs=40)
    pruning.begin(0)
    batches = PrunedBatches([list(range(first, first + 4)) for first in range(0, 40, 4)], pruning)

    def count_held():
        gc.collect()
        return sum(reference() is not None for reference in drawn)

    for epoch in range(2):
        assert [len(batch) for batch in batches] == [4] * 10 and count_held() == 0, epoch
    for number, (batch, decision) in enumerate(batches.along(running_ahead(batches, 3))):
        assert batch == decision.kept.tolist() and count_held() <= 5
        if number == 4:
            break
    del decision
    assert count_held() == 0, "an epoch that was broken off leaves nothing"
    assert [batch == decision.kept.tolist() for batch, decision in batches.along(batches)] == [True] * 10
    begun_before = iter(batches)
    assert next(begun_before) == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="the loader started before `along`"):
        next(batches.along(begun_before))


def running_ahead(loader, count):
    batches = iter(loader)
    waiting = list(itertools.islice(batches, count))
    for batch in batches:
        waiting.append(batch)
        yield waiting.pop(0)
    yield from waiting


def test_a_loop_continues_from_its_stored_state():
    batches = np.array_split(np.random.default_rng(1).permutation(300), 20)

    def go(pruning, epoch, places):
        kept = []
        for place in places:
            drawn = pruning.draw(batches[place])
            pruning.observe(drawn.kept, np.sin(drawn.kept * (epoch + 1.0)) + 1)
            kept.append((drawn.kept.tolist(), drawn.weights.tolist()))
        return kept

    for make in (lambda: InfoBatch(pairs=300, epochs=9), lambda: Ddp(pairs=300, cycle=3)):
        whole, undisturbed = make(), []
        for epoch in range(9):
            whole.begin(epoch)
            undisturbed += go(whole, epoch, range(20))
            if epoch == 4:
                stored = whole.before.copy(), whole.losses.copy()
        resumed = make()
        resumed.resume(4, before=stored[0], losses=stored[1])
        kept = go(resumed, 4, range(20))
        for epoch in range(5, 9):
            resumed.begin(epoch)
            kept += go(resumed, epoch, range(20))
        assert kept == undisturbed[4 * 20 :]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InfoBatch(pairs=3, epochs=5, ratio=1), "^ratio = 1: give 0 to below 1"),
        (lambda: InfoBatch(pairs=3, epochs=5, anneal=0), "^anneal = 0: give more than 0, at most 1"),
        (lambda: InfoBatch(pairs=3, epochs=math.nan), "^epochs = nan"),
        (lambda: InfoBatch(pairs=-1, epochs=5), "^pairs is -1: give at least 0"),
        (lambda: Ddp(pairs=3, ratio=-0.1), r"^ratio = -0\.1"),
        (lambda: Ddp(pairs=3, cycle=0), "^cycle = 0: give a whole number, at least 1"),
        (lambda: InfoBatch(pairs=3, epochs=5).weights(np.array([0])), r"call begin\(epoch\) first"),
        (lambda: Ddp(pairs=3).draw([0]), r"call begin\(epoch\) first"),
        (lambda: Ddp(pairs=3).observe(np.array([0]), np.array([1])), r"call begin\(epoch\) first"),
        (lambda: begun(Ddp(pairs=3), [1, 2]), r"losses of shape \(2,\), for 3 pairs"),
    ],
)
def test_invalid_values_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_defaults_are_equal_in_train_and_in_a_loop():
    pruning = {"infobatch": InfoBatch(pairs=3, epochs=5), "ddp": Ddp(pairs=3)}
    assert read_pruning("infobatch") == {"method": "infobatch", "ratio": 0.5, "anneal": 0.875}
    assert read_pruning("ddp") == {"method": "ddp", "ratio": 0.3, "cycle": 1, "span": None}
    assert pruning["infobatch"].ratio == 0.5 and (pruning["ddp"].ratio, pruning["ddp"].cycle) == (0.3, 1)
    numbers = InfoBatch(pairs=3, epochs=np.int64(5), ratio=np.float32(0.25)), Ddp(pairs=3, cycle=np.int64(2))
    assert (numbers[0].ratio, numbers[1].cycle) == (0.25, 2), "NumPy's are as good"
    losses = np.arange(8) % 2
    kept = [
        begun(InfoBatch(pairs=8, epochs=80, ratio=0.99), losses, epoch).keeps(np.arange(8)).all() for epoch in (69, 70)
    ]
    assert kept == [False, True], "anneal"


def test_your_own_loop_needs_no_torch():
    child = "import sys; sys.modules['torch'] = None; import catprune.dynamic; assert 'pyarrow' not in sys.modules"
    subprocess.run([sys.executable, "-c", child], check=True)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return write_tokens(tmp_path_factory.mktemp("dynamic") / "tokens", too_long=(3,), dropped=(0, 7, 131))


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("way", WAYS)
def test_pruned_training_computes_less_and_reports_it(tokens, tmp_path, way):
    how = {"epochs": 6, "checkpoints": "1", **FAST}
    plain = train(tokens, out=tmp_path / "plain", **how)
    pruned = train(tokens, out=tmp_path / "pruned", **how, **WAYS[way])
    assert pruned.flops < 0.9 * plain.flops and pruned.target_tokens < 0.9 * plain.target_tokens
    counts = pruned.manifest["pruned"]
    assert counts["target_tokens"] == plain.target_tokens - pruned.target_tokens
    assert (pruned.steps, pruned.epochs) == (plain.steps, 6) and 0 < counts["pairs"] < 6 * 296
    last = lines_of(pruned.folder)[-1]
    assert (last["pruned_pairs"], last["pruned_tokens"]) == (counts["pairs"], counts["target_tokens"])
    assert last["nll"] < 3.2 and len(lines_of(pruned.folder)) == len(lines_of(plain.folder))
    assert not (pruned.folder / "pruned-rows").exists()
    assert "pruned" not in plain.manifest and "prune_while_training" not in plain.manifest["options"]
    assert not any("pruned" in name for name in lines_of(plain.folder)[-1])
    first, same = (load_tensors(trained.checkpoints[0] / "model.safetensors")[0] for trained in (plain, pruned))
    assert all(torch.equal(first[name], same[name]) for name in first), "nothing is known before the first epoch ends"


@pytest.mark.parametrize("way", WAYS)
def test_how_often_pairs_were_trained_on_is_recorded(tokens, tmp_path, monkeypatch, way):
    monkeypatch.setattr("catprune.training.data_order.WINDOW_PAIRS", 150)
    counts, expected = {row: 0 for row, *_ in read_ids(tokens)}, []
    observe = pruned_rows.PrunedRows.observe

    def counting(pruning, units, losses):
        firsts = None if pruning.spans is None else pruning.spans.firsts
        rows = units if firsts is None else np.searchsorted(firsts, units, side="right") - 1
        for row in set(rows.tolist()):
            counts[row] += 1
        observe(pruning, units, losses)

    monkeypatch.setattr(pruned_rows.PrunedRows, "observe", counting)
    monkeypatch.setattr("catprune.training.loop.write_checkpoint", saving(expected, counts))
    np.save(tmp_path / "excluded.npy", np.arange(40, 60))
    how = {"epochs": 4.6, "checkpoints": "1,2,3.3,4", "exclude_rows": tmp_path / "excluded.npy"}
    trained = train(tokens, out=tmp_path / "w", **FAST | {"batch_tokens": 64}, **how, **WAYS[way])
    assert len(expected) == 5
    for path, wanted in zip(trained.checkpoints, expected, strict=True):
        checkpoint = read_checkpoint(path)
        table = parquet.read_table(checkpoint.seen_file)
        assert dict(zip(*(column.to_pylist() for column in table), strict=True)) == wanted
        assert checkpoint.seen["times"] == sorted(set(wanted.values()))
    assert len(set(expected[-1].values())) > 3


def saving(expected, counts):
    """Write a checkpoint, and record the pairs that were trained on."""
    from catprune.checkpoints.native import write_checkpoint

    def write(*arguments, **more):
        expected.append(dict(counts))
        write_checkpoint(*arguments, **more)

    return write


def test_spans_are_dropped_and_observed_as_an_oracle_says(tokens, tmp_path, monkeypatch):
    """With a rate of nearly zero, the model stays the first one: losses and decisions of every epoch are known."""
    monkeypatch.setattr("catprune.training.data_order.WINDOW_PAIRS", 150)
    span, lost, before = 3, [], loss.Loss.forward
    ids = {row: target for row, _, target in read_ids(tokens)}

    def forward(module, source, inputs, targets, places, *more):
        lost.append(targets.flatten()[places].tolist())
        return before(module, source, inputs, targets, places, *more)

    monkeypatch.setattr(loss.Loss, "forward", forward)
    how = FAST | {"learning_rate": 1e-12, "dropout": 0.0, "label_smoothing": 0.0, "accumulate": 3}
    how |= {"prune_while_training": "ddp", "prune_ratio": 0.4, "prune_span": span, "checkpoints": "1"}
    done = train(tokens, out=tmp_path / "w", epochs=2, **how)
    model = load_model(read_checkpoint(done.checkpoints[0]))
    losses = {}
    for row, source, target in read_ids(tokens):
        with torch.inference_mode():
            hidden = model(torch.tensor([source]), torch.tensor([[BOS, *target[:-1]]]))[0]
            nll = -(hidden @ model.embedding.weight.T).log_softmax(1)[range(len(target)), target]
        for first in range(0, len(target), span):
            losses[row, first] = float(nll[first : first + span].mean())
    assert len(losses) > 1.5 * len(ids)
    ranked = sorted(losses, key=losses.get)
    dropped = set(ranked[: 4 * len(ranked) // 10])
    kept = [token for row, first in losses if (row, first) not in dropped for token in ids[row][first : first + span]]
    whole = sorted(token for target in ids.values() for token in target)
    trained = sorted(token for part in lost for token in part)
    assert trained == sorted([*whole, *kept]), "one whole epoch, then the tokens of the kept spans"
    assert done.target_tokens == len(trained)
    rows = {row for row, first in losses if (row, first) not in dropped}
    assert done.manifest["pruned"]["pairs"] == len(ids) - len(rows) > 0
    assert done.manifest["pruned"]["target_tokens"] == 2 * len(whole) - len(trained)


def test_the_gradient_of_spans_is_that_of_the_mean_over_their_tokens(tokens, tmp_path, monkeypatch):
    """An update on kept spans, by autograd over all tokens and their mask."""
    made, seen = [], []
    prune, update, clip = updates.Updates._prune, loop.Training._update, torch.nn.utils.clip_grad_norm_

    def pruning(self, pairs, chosen):
        pruned = prune(self, pairs, chosen)
        made.append((pairs.batch(pruned.kept, self.order.tokens.tokenizer), pruned.of_tokens))
        return pruned

    def updating(training, *arguments):
        batch, of_tokens = made[len(seen)]
        source, inputs, targets = (torch.from_numpy(part) for part in (batch.source, batch.inputs, batch.targets))
        lengths = torch.from_numpy(batch.source_lengths)
        model = copy.deepcopy(training.model).eval()
        hidden = model(source, inputs, Padded(torch.arange(source.shape[1]) < lengths[:, None]))
        counts = torch.zeros(targets.shape, dtype=torch.bool)
        counts[torch.arange(targets.shape[1]) < torch.from_numpy(batch.target_lengths)[:, None]] = torch.from_numpy(
            of_tokens >= 0
        )
        logits = hidden @ model.embedding.weight.T
        torch.nn.functional.cross_entropy(logits[counts], targets[counts]).backward()
        seen.append((dict(model.named_parameters()), int(counts.sum()) < int(batch.target_lengths.sum())))
        update(training, *arguments)

    compared = []

    def clipping(parameters, limit):
        parameters = list(parameters)
        expected, is_partial = seen[-1]
        for got, wanted in zip(parameters, expected.values(), strict=True):
            torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-3, atol=1e-5)
        compared.append(is_partial)
        return clip(parameters, limit)

    monkeypatch.setattr(updates.Updates, "_prune", pruning)
    monkeypatch.setattr(loop.Training, "_update", updating)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clipping)
    how = FAST | {"dropout": 0.0, "label_smoothing": 0.0, "batch_tokens": 512, "accumulate": 2}
    train(tokens, out=tmp_path / "w", epochs=2, **how, **WAYS["ddp of spans"])
    assert any(compared) and not all(compared)


def test_spans_longer_than_all_targets_are_pairs(tokens, tmp_path):
    how = {"epochs": 3, **FAST}
    pairs = train(tokens, out=tmp_path / "pairs", **how, **WAYS["ddp"])
    spans = train(tokens, out=tmp_path / "spans", **how, **WAYS["ddp"], prune_span=1000)
    assert pairs.manifest["pruned"] == spans.manifest["pruned"]
    digests = [done.manifest["checkpoints"][-1]["digest"] for done in (pairs, spans)]
    assert digests[0] == digests[1]


@given(some.lists(some.integers(0, 9), min_size=1, max_size=40), some.integers(1, 4))
def test_spans_are_numbered_in_the_order_of_rows_and_tokens(lengths, span):
    """Rows without tokens, and blocks with a gap between them, as a simple loop numbers them."""

    class Blocks:
        blocks = (BlockEntryLike(0, 3), BlockEntryLike(5, 50))

        def read(self, entry):
            rows = np.array([row for row in range(entry.first, entry.end) if row < len(lengths) and lengths[row]])
            rows = rows.astype(np.int64)
            sizes = np.array([lengths[row] for row in rows], np.int64)
            offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            ids = np.zeros(int(offsets[-1]), np.int64)
            return BlockLike(rows, ids, offsets, ids, offsets)

    spans = Spans(Blocks(), span, reverse=False)
    spans.firsts = np.concatenate(list(spans.parts()))
    expected, number = [], 0
    for row, length in enumerate(lengths):
        if row in (3, 4):
            continue
        for first in range(0, length, span):
            expected.append((row, number, min(span, length - first)))
            number += 1
    rows = np.array([row for row in range(len(lengths)) if row not in (3, 4) and lengths[row]], np.int64)
    units = spans.units(rows, np.array([lengths[row] for row in rows], np.int64))
    assert (
        list(zip(rows[units.owners].tolist(), units.numbers.tolist(), units.lengths.tolist(), strict=True)) == expected
    )
    assert (spans.count, len(spans.firsts)) == (number, 51)


def test_the_same_times_for_all_need_no_file(tokens, tmp_path):
    trained = train(tokens, out=tmp_path / "w", epochs=1, **FAST, prune_while_training="ddp")
    checkpoint = read_checkpoint(trained.checkpoints[0])
    assert (checkpoint.seen["times"], checkpoint.seen_file) == ([1], None)


KILLED = {"epochs": 6, "checkpoints": "2.5,4", "save_every": 3, **FAST}


@pytest.fixture(scope="module", params=WAYS)
def undisturbed(tokens, request):
    """The result of a training without a kill, and its options."""
    out = tokens.parent / request.param.replace(" ", "-")
    options = KILLED | WAYS[request.param]
    steps = train(tokens, out=out, **options).steps
    return contents(out), options, steps, out.name


@pytest.mark.parametrize("at", [0.52, "a turn", "the manifest"])
def test_killed_and_run_again_gives_the_same_bytes(tokens, undisturbed, at):
    whole, options, steps, name = undisturbed
    broken = tokens.parent / f"{name}-{at}"
    child = f"""
        import importlib, os, signal
        from catprune.training import loop, pruned_rows
        from catprune.workspace import step_folder
        def die(*_, **__):
            os.kill(os.getpid(), signal.SIGKILL)
        update, write, calls = loop.Training._update, pruned_rows.PrunedRows._write, []
        def dying(training, *batch):
            update(training, *batch)
            if training.at.step == int({at if isinstance(at, float) else 9} * {steps}):
                die()
        def dying_in_turn(rows, name, *more):
            write(rows, name, *more)
            if name == "times-2":
                die()
        loop.Training._update = dying
        if {at!r} == "a turn":
            pruned_rows.PrunedRows._write = dying_in_turn
        if {at!r} == "the manifest":
            step_folder.StepFolder.publish = die
        importlib.import_module("catprune.training.train").train({str(tokens)!r}, out={str(broken)!r}, **{options!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(child)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (broken / "state.safetensors").exists() and not (broken / "manifest.json").exists()
    files = list((broken / "pruned-rows").glob("*.npy"))
    assert len(files) <= 8
    for path in files:
        np.load(path)
    train(tokens, out=broken, **options)
    assert contents(broken) == whole


def test_losses_of_a_saved_state_that_are_gone_or_changed_are_refused(tokens, monkeypatch, undisturbed):
    """Each file that a state needs; what an update wrote after the state does not count."""
    from catprune.training.loop import Training

    (whole, options, _, name), saves = undisturbed, []
    out = tokens.parent / f"{name}-damaged"
    saved, update = Training._save_state, Training._update

    def stopping(training, *batch):
        update(training, *batch)
        if len(saves) == 2:
            raise OSError("gone")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="gone"):
        patch.setattr(Training, "_save_state", lambda training: (saved(training), saves.append(training.at.step)))
        patch.setattr(Training, "_update", stopping)
        train(tokens, out=out, **options)
    files = {path.name: path for path in (out / "pruned-rows").glob("*.npy")}
    needed = {name for name in files if name != "observed.npy"}
    assert f"observed-{saves[-1]}.npy" in needed and {"losses-0.npy", "times-0.npy"} <= needed
    assert ("spans.npy" in needed) is ("prune_span" in options)
    for file in sorted(needed):
        content = files[file].read_bytes()
        flipped = bytearray(content)
        flipped[-3] ^= 1
        for damaged, fault in ((bytes(flipped), "was changed since it was written"), (None, "is missing")):
            files[file].unlink() if damaged is None else files[file].write_bytes(damaged)
            with pytest.raises(CatpruneError, match=rf"{file} {fault}: train again with force = true"):
                train(tokens, out=out, **options)
        files[file].write_bytes(content)
    files["observed.npy"].write_bytes(b"damaged")
    train(tokens, out=out, **options)
    assert not (out / "pruned-rows").exists()
    assert contents(out) == whole


def test_an_empty_batch_makes_no_update(tokens, tmp_path):
    how = {"prune_while_training": "ddp", "prune_ratio": 0.95}
    trained = train(tokens, out=tmp_path / "w", epochs=3, **FAST | {"batch_tokens": 32}, **how)
    counts = trained.manifest["pruned"]
    order = Order(Tokens.open(tokens), seed=1, batch_tokens=32)
    batches = [len(order.batches(epoch, 0, order.windows(epoch)[0])[1]) for epoch in range(3)]
    assert trained.steps == sum(batches), "it counts as one"
    assert counts["pairs"] == 2 * (95 * 296 // 100) and batches[0] < counts["batches"] < sum(batches[1:])
    assert all(math.isfinite(line["loss"]) for line in lines_of(trained.folder))


def test_steps_anneal_as_the_epochs_that_they_are(tokens, tmp_path):
    how = FAST | WAYS["infobatch"]
    by_epochs = train(tokens, out=tmp_path / "epochs", epochs=4, **how)
    by_steps = train(tokens, out=tmp_path / "steps", steps=by_epochs.steps, **how)
    assert by_steps.manifest["pruned"] == by_epochs.manifest["pruned"]
    assert by_steps.manifest["pruned"]["pairs"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prune_while_training": "both"}, "prune_while_training = 'both': give one of infobatch, ddp"),
        ({"prune_ratio": 0.5}, "prune_ratio is given without a method: give prune_while_training"),
        ({"prune_while_training": "ddp", "prune_anneal": 0.5}, "prune_anneal is no option of ddp"),
        ({"prune_while_training": "infobatch", "prune_cycle": 2}, "prune_cycle is no option of infobatch"),
        ({"prune_while_training": "infobatch", "prune_span": 2}, "prune_span is no option of infobatch"),
        ({"prune_while_training": "ddp", "prune_span": 0}, "prune_span = 0: give a whole number, at least 1"),
        (
            {"prune_while_training": "infobatch", "prune_ratio": 1.0},
            r"prune_ratio = 1\.0: give a number, at least 0 and below 1",
        ),
        (
            {"prune_while_training": "infobatch", "prune_anneal": 1.5},
            r"prune_anneal = 1\.5: give a number, above 0 and at most 1",
        ),
        ({"prune_while_training": "ddp", "prune_cycle": 1.5}, r"prune_cycle = 1\.5: give a whole number"),
    ],
)
def test_invalid_options_are_refused(tokens, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        train(tokens, out=tmp_path / "w", **FAST | options)


def test_the_command_reports_skipped_pairs(tokens, tmp_path, capsys):
    from catprune.cli import app

    line = f"train {tokens} --out {tmp_path / 'w'} --epochs 3 --batch-tokens 256 --threads 1 --precision float32"
    app([*line.split(), "--prune-while-training", "ddp", "--prune-ratio", "0.5"], standalone_mode=False)
    manifest = json.loads((tmp_path / "w/manifest.json").read_bytes())
    expected = f"skipped 296 pairs in all epochs, {manifest['pruned']['target_tokens']:,} ("
    assert expected in capsys.readouterr().out
    assert manifest["options"]["prune_while_training"] == {"method": "ddp", "ratio": 0.5, "cycle": 1, "span": None}


def test_another_ratio_is_another_plan(tokens, tmp_path):
    train(tokens, out=tmp_path / "w", steps=2, **FAST, **WAYS["ddp"])
    with pytest.raises(CatpruneError, match=r"prune_ratio was 0\.4, is now 0\.2"):
        train(tokens, out=tmp_path / "w", steps=2, **FAST, **WAYS["ddp"] | {"prune_ratio": 0.2})
