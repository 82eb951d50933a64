"""Reference log-probabilities: the same as live ones, whatever order, cache and mode they come from."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model

from lm import reference
from lm.collate import Collator
from lm.config import RatioConfig
from lm.examples import ExampleSet
from lm.reference import check_reference_log_probs, with_reference
from lm.reference_cache import ReferenceCache, reference_identity, sequence_keys
from lm.scoring import Scoring, completion_log_probs
from lm.tiny_models import tiny_qwen2

VOCABULARY = 40
# peft 0.21 asks for a property that transformers 5.23 has renamed.
peft_warns = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
# Sums of at most 12 log-probabilities near -4: float32 sums of 50 carry errors of 50 * 2^-24 = 3e-6, and logits from
# another batch shape (padding, another order of additions) as much again for each of a few layers.
TOLERANCE = 5e-5


def examples(count: int = 23, seed: int = 0) -> ExampleSet:
    rng = np.random.default_rng(seed)

    def ids(longest: int) -> list[np.ndarray]:
        return [rng.integers(2, VOCABULARY, rng.integers(1, longest), dtype=np.int32) for _ in range(count)]

    return ExampleSet(ids(9), ids(13), rng.random(count) < 0.5, np.arange(count) + 100)


def model(**settings) -> torch.nn.Module:
    return tiny_qwen2(VOCABULARY, hidden_size=16, **settings)


def with_lora(base: torch.nn.Module, zero: bool = True, dropout: float = 0.0) -> torch.nn.Module:
    settings = LoraConfig(
        r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=zero, lora_dropout=dropout
    )
    return get_peft_model(base, settings)


def config(folder, **settings) -> RatioConfig:
    return RatioConfig(
        output_dir=str(folder), use_cpu=True, per_device_eval_batch_size=4, disable_tqdm=True, **settings
    )


def naive(network: torch.nn.Module, data: ExampleSet) -> np.ndarray:
    """Return sums of log-softmax, one sequence at a time and from all logits in float64."""
    sums = []
    for prompt, completion in zip(data.prompt_ids, data.completion_ids, strict=True):
        ids = torch.from_numpy(np.concatenate([prompt, completion]).astype(np.int64))
        with torch.no_grad():
            log_probs = torch.log_softmax(network(ids[None]).logits[0].double(), dim=-1)
        positions = torch.arange(len(prompt), len(ids))
        sums.append(float(log_probs[positions - 1, ids[positions]].sum()))
    return np.array(sums)


def refuse_to_compute(*arguments, **settings):
    raise AssertionError("nothing was to be computed")


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("mode", ["fused", "checkpoint", "full"])
def test_values_equal_a_naive_sum_in_the_examples_order(mode, padding_free):
    data, network = examples(), model()
    values = completion_log_probs(network, data, Collator(0, padding_free), Scoring(batch_size=5, mode=mode))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, naive(network, data), rtol=0, atol=TOLERANCE)


def test_pairs_are_scored_sequence_by_sequence():
    data = examples(24)
    values = completion_log_probs(model(), replace(data, width=2), Collator(0))
    np.testing.assert_array_equal(values, completion_log_probs(model(), data, Collator(0)))


def test_dropout_is_off_modes_return_and_no_random_number_is_drawn():
    network = model(attention_dropout=0.5)
    network.train()
    network.model.layers[0].eval()
    modes = [module.training for module in network.modules()]
    before = torch.get_rng_state()
    values = completion_log_probs(network, examples(), Collator(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())
    np.testing.assert_array_equal(values, completion_log_probs(model(), examples(), Collator(0)))


def test_autocast_is_that_of_training():
    data = examples()
    half = completion_log_probs(model(), data, Collator(0), Scoring(autocast=torch.bfloat16))
    whole = completion_log_probs(model(), data, Collator(0))
    # bfloat16 rounds at 2^-9: seen in sums near 25, but small beside them.
    assert 0 < np.abs(half - whole).max() < 0.5


def test_precomputed_values_come_from_the_cache_the_second_time(tmp_path, monkeypatch):
    data = examples()
    first = with_reference(data, config(tmp_path), model(), None, Collator(0))
    np.testing.assert_allclose(first.reference_log_probs, naive(model(), data), rtol=0, atol=TOLERANCE)
    assert first.preferred is data.preferred and first.prompt_ids is data.prompt_ids
    monkeypatch.setattr(reference, "score_batches", refuse_to_compute)
    again = with_reference(data, config(tmp_path), model(), None, Collator(0))
    np.testing.assert_array_equal(again.reference_log_probs, first.reference_log_probs)
    order = np.random.default_rng(1).permutation(len(data))[:10]
    moved = with_reference(data.select(order), config(tmp_path), model(), None, Collator(0))
    np.testing.assert_array_equal(moved.reference_log_probs, first.reference_log_probs[order])


def test_only_new_sequences_are_computed_and_equal_ones_once(tmp_path, monkeypatch):
    data = examples()
    with_reference(data.select(range(20)), config(tmp_path), model(), None, Collator(0))
    computed = []
    batches = reference.score_batches
    monkeypatch.setattr(
        reference, "score_batches", lambda network, part, *rest: computed.append(part) or batches(network, part, *rest)
    )
    twice = data.select([*range(23), *range(23)])
    values = with_reference(twice, config(tmp_path), model(), None, Collator(0)).reference_log_probs
    assert [len(part) for part in computed] == [3]
    np.testing.assert_array_equal(values[:23], values[23:])
    np.testing.assert_allclose(values[:23], naive(model(), data), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("other", "settings"),
    [
        (lambda: model(seed=1), {}),
        (lambda: model().to(torch.bfloat16), {}),
        (lambda: model(rms_norm_eps=1e-3), {}),
        (lambda: model(attn_implementation="eager"), {}),
        (model, {"bf16": True}),
    ],
    ids=["weights", "dtype", "configuration", "attention", "autocast"],
)
def test_values_of_another_reference_are_never_taken(tmp_path, caplog, other, settings):
    data = examples(3)
    with_reference(data, config(tmp_path), model(), None, Collator(0))
    with caplog.at_level("INFO", logger="lm.reference"):
        with_reference(data, config(tmp_path, **settings), other(), None, Collator(0))
    assert "computing 3 of 3" in caplog.text and "other references" in caplog.text


def test_one_changed_weight_is_another_reference():
    network = model()
    before = reference_identity(network)
    with torch.no_grad():
        network.model.norm.weight[3] += 1e-6
    changed = reference_identity(network)
    assert {name for name in before if before[name] != changed[name]} == {"weights"}
    assert reference_identity(model()) == before


@peft_warns
def test_a_fresh_adapter_has_its_base_as_reference(tmp_path, monkeypatch):
    data = examples(5)
    base = with_reference(data, config(tmp_path), model(), None, Collator(0))
    monkeypatch.setattr(reference, "score_batches", refuse_to_compute)
    adapted = with_reference(data, config(tmp_path), with_lora(model()), None, Collator(0))
    np.testing.assert_array_equal(adapted.reference_log_probs, base.reference_log_probs)


@peft_warns
def test_the_adapter_is_off_where_values_are_computed_and_on_again(tmp_path):
    data, network = examples(5), with_lora(model(), dropout=0.5)
    trainable = [parameter.requires_grad for parameter in network.parameters()]
    values = with_reference(data, config(tmp_path), network, None, Collator(0)).reference_log_probs
    np.testing.assert_allclose(values, naive(model(), data), rtol=0, atol=TOLERANCE)
    assert [parameter.requires_grad for parameter in network.parameters()] == trainable
    assert network.get_model_status().enabled is True


@peft_warns
def test_a_trained_adapter_is_ambiguous(tmp_path):
    with pytest.raises(ValueError, match=r"adapter is not zero at the start.*set reference adapter_off"):
        with_reference(examples(3), config(tmp_path), with_lora(model(), zero=False), None, Collator(0))


def test_a_reference_model_takes_the_policys_place(tmp_path):
    data = examples(5)
    values = with_reference(data, config(tmp_path), model(), model(seed=3), Collator(0)).reference_log_probs
    np.testing.assert_allclose(values, naive(model(seed=3), data), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("settings", [{"reference": "frozen"}, {"reference": "adapter_off"}, {"method": "sft"}])
def test_other_kinds_of_reference_compute_nothing(tmp_path, settings):
    data = examples(3)
    assert with_reference(data, config(tmp_path, **settings), model(), None, Collator(0)) is data
    assert not (tmp_path / "reference").exists()


def test_the_datas_own_values_are_kept(tmp_path):
    data = replace(examples(3), reference_log_probs=np.array([-1.0, -2.0, -3.0], dtype=np.float32))
    assert with_reference(data, config(tmp_path), model(), None, Collator(0)) is data


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([-1, np.nan, -1], np.float32), "finite and at most 0, got nan in row 101"),
        (np.array([-np.inf, -1, np.inf], np.float32), "got -inf in row 100 and 1 more"),
        (np.array([-1, -1, 0.5], np.float32), "got 0.5 in row 102"),
        (np.array([-1, -1, -1], np.float16), "must be float32, got float16"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        check_reference_log_probs(replace(examples(3), reference_log_probs=values))


def test_a_broken_model_is_named_by_row_and_nothing_of_it_is_kept(tmp_path):
    network = model()
    with torch.no_grad():
        network.model.norm.weight[0] = torch.nan
    with pytest.raises(ValueError, match="got nan in row 100 and 2 more"):
        with_reference(examples(3), config(tmp_path), network, None, Collator(0))
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_run_that_is_stopped_keeps_what_it_has(tmp_path, monkeypatch):
    data, batches = examples(), reference.score_batches

    def stopped(*arguments):
        for number, batch in enumerate(batches(*arguments)):
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    network = model()
    monkeypatch.setattr(reference, "score_batches", stopped)
    with pytest.raises(KeyboardInterrupt):
        with_reference(data, config(tmp_path), network, None, Collator(0))
    monkeypatch.setattr(reference, "score_batches", batches)
    cache = ReferenceCache(tmp_path / "reference", reference_identity(network))
    assert np.isfinite(cache.lookup(sequence_keys(data))).sum() == 3 * 4
    values = with_reference(data, config(tmp_path), network, None, Collator(0)).reference_log_probs
    np.testing.assert_allclose(values, naive(network, data), rtol=0, atol=TOLERANCE)


def test_values_are_saved_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "_SAVE_SECONDS", 0.0)
    with_reference(examples(12), config(tmp_path), model(), None, Collator(0))
    assert len(list(tmp_path.rglob("*.parquet"))) == 3


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1  # a value, which would still be a log-probability
    path.write_bytes(content)


def _halve(path):
    return _save(pq.read_table(path), path, lambda values: values.cast(pa.float16()))


def _spoil(path):
    return _save(pq.read_table(path), path, lambda values: pa.array([np.nan] * len(values), pa.float32()))


def _drop(path):
    return _save(pq.read_table(path).select(["sequence"]), path)


def _save(table, path, change=None):
    """Put a whole file of another form in place of one, and return it."""
    pq.write_table(table if change is None else table.set_column(1, "log_prob", change(table["log_prob"])), path)
    return path.rename(path.with_stem(hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "whole files, got a damaged one"),
        (_flip, "whole files, got a damaged one"),
        (_halve, "must be float32 by sequence, got sequence fixed_size_binary.16., log_prob halffloat"),
        (_spoil, "must be finite"),
        (_drop, "got sequence fixed_size_binary.16.: delete"),
    ],
)
def test_damaged_caches_are_refused_with_a_remedy(tmp_path, damage, message):
    with_reference(examples(3), config(tmp_path), model(), None, Collator(0))
    (path,) = tmp_path.rglob("*.parquet")
    path = damage(path) or path
    with pytest.raises(ValueError, match=message) as error:
        with_reference(examples(3), config(tmp_path), model(), None, Collator(0))
    assert f"delete {path}" in str(error.value)
    path.unlink()
    with_reference(examples(3), config(tmp_path), model(), None, Collator(0))


def test_a_key_knows_where_the_completion_begins():
    one, two = np.array([7], np.int32), np.array([7, 7], np.int32)
    data = ExampleSet([one, two, one], [two, one, two], np.array([True, False, False]), np.arange(3))
    keys = sequence_keys(data)
    assert keys[0] != keys[1] and keys[0] == keys[2]


class Threads:
    """Threads that stand for processes: each has a rank, and they meet where values are gathered."""

    def __init__(self, monkeypatch, count: int) -> None:
        self._local = threading.local()
        self._barrier = threading.Barrier(count, timeout=60)
        self._values = [None] * count
        monkeypatch.setattr(reference, "_rank", lambda: self._local.rank)
        monkeypatch.setattr(reference, "_processes", lambda: count)
        monkeypatch.setattr(reference, "_gathered", self._gather)

    def _gather(self, value):
        self._values[self._local.rank] = value
        self._barrier.wait()
        values = list(self._values)
        self._barrier.wait()
        return values

    def run(self, function) -> list:
        def work(rank):
            self._local.rank = rank
            return function(rank)

        with ThreadPoolExecutor(len(self._values)) as pool:
            return list(pool.map(work, range(len(self._values))))


@pytest.mark.parametrize("shared", [True, False], ids=["one file system", "one each"])
def test_processes_share_the_work_and_all_have_all_values(tmp_path, monkeypatch, shared):
    data, computed, batches = examples(), [], reference.score_batches
    with_reference(data.select(range(4)), config(tmp_path / "0"), model(), None, Collator(0))
    monkeypatch.setattr(
        reference,
        "score_batches",
        lambda network, part, *rest: computed.append(len(part)) or batches(network, part, *rest),
    )
    threads = Threads(monkeypatch, 3)
    networks = [model() for _ in range(3)]  # here, as all threads have one generator

    def work(rank):
        return with_reference(
            data, config(tmp_path / ("0" if shared else str(rank))), networks[rank], None, Collator(0)
        )

    for values in (each.reference_log_probs for each in threads.run(work)):
        np.testing.assert_allclose(values, naive(model(), data), rtol=0, atol=TOLERANCE)
    assert sorted(computed) == [6, 6, 7]  # of the 23 - 4 that the first process does not find
    assert np.isfinite(
        ReferenceCache(tmp_path / "0" / "reference", reference_identity(model())).lookup(sequence_keys(data))
    ).all()


def test_processes_with_different_weights_are_refused_unless_all_is_known(tmp_path, monkeypatch):
    data = examples(5)
    threads = Threads(monkeypatch, 2)
    networks = [model(seed=0), model(seed=1)]

    def work(rank):
        return with_reference(data, config(tmp_path), networks[rank], None, Collator(0))

    with pytest.raises(ValueError, match=r"every process must hold the whole reference.*5 values are missing"):
        threads.run(work)
    values = completion_log_probs(model(), data, Collator(0))
    ReferenceCache(tmp_path / "reference", reference_identity(model())).save(sequence_keys(data), values)
    for each in threads.run(work):
        np.testing.assert_array_equal(each.reference_log_probs, values)
