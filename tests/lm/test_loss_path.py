"""The trainer's loss against theory in NumPy, and its gradients against plain logits, sequence by sequence."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from lm.collate import Collator
from lm.config import RatioConfig
from lm.examples import ExampleSet
from lm.output_head import LogProbHead
from lm.tiny_models import tiny_llama, tiny_qwen2
from lm.trainer import RatioTrainer
from theory import class_weights, ddro_losses, dpo_losses, ipo_losses, mle_losses, rdro_losses, sft_losses

# peft 0.21 asks transformers for a name that 5.23 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

VOCABULARY = 31
ALPHA = 0.39
N = 13  # batches of 2: seven micro-batches, the last of one example; windows of four leave a tail of three


def examples(n=N, width=1, seed=0):
    rng = np.random.default_rng(seed)
    prompts, completions = (
        [rng.integers(VOCABULARY, size=size).astype(np.int32) for size in rng.integers(1, 6, size=n * width)]
        for _ in range(2)
    )
    preferred = np.arange(n * width) % (2 if width == 2 else 4) == 0
    return ExampleSet(prompts, completions, preferred, np.arange(n * width) // width, width)


def model_of(build, tie, with_lora):
    """Return a model whose predictions are far from uniform."""
    model = build(VOCABULARY, hidden_size=16, layers=1, tie=tie)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.ndim == 2 else 1.0)
    if not with_lora:
        return model
    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(model, lora)


def plain_log_probs(model, data):
    """Each sequence by itself, through the logits of the model's own forward."""
    sums = []
    for prompt, completion in zip(data.prompt_ids, data.completion_ids, strict=True):
        ids = torch.from_numpy(np.concatenate([prompt, completion]).astype(np.int64))[None]
        logs = torch.log_softmax(model(ids, use_cache=False).logits[0, :-1], dim=-1)
        sums.append(logs.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum())
    return torch.stack(sums)


def with_reference(model, data, noise=1.0):
    """Return the data with log-probabilities of a reference whose log-ratios have standard deviation `noise`."""
    with torch.no_grad():
        own = plain_log_probs(model, data).numpy()
    shift = noise * np.random.default_rng(1).standard_normal(len(own))
    columns = {name: getattr(data, name) for name in ("prompt_ids", "completion_ids", "preferred", "rows", "width")}
    return ExampleSet(**columns, reference_log_probs=(own - shift).astype(np.float32))


def train(model, data, folder, accumulation=1, **options):
    """Train one epoch at learning rate 0; return the trainer, each step's examples, and each step's gradient."""
    settings = {
        "method": "rdro",
        "alpha": ALPHA if options.get("method", "rdro") in ("rdro", "ddro", "mle") else None,
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 1,
        "logging_steps": 1,
        "max_grad_norm": 0.0,
        "save_strategy": "no",
        "disable_tqdm": True,
        "check_start": False,
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.0)
    seen, gradients = [], []
    optimizer.register_step_pre_hook(
        lambda *_: gradients.append(torch.cat([p.grad.flatten().clone() for p in trainable]))
    )
    trainer = RatioTrainer(model, RatioConfig(**settings | options), data, optimizers=(optimizer, None))
    collator = trainer.data_collator

    def collate(items):
        seen.append(np.concatenate([item["rows"][:1] for item in items]))
        return collator(items)

    trainer.data_collator = collate
    trainer.train()
    windows = [np.concatenate(seen[i : i + accumulation]) for i in range(0, len(seen), accumulation)]
    return trainer, windows, gradients


def losses_of(trainer):
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


@pytest.mark.parametrize("with_lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("padding_free", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("build", [tiny_qwen2, tiny_llama])
def test_every_step_has_the_loss_of_theory_and_the_gradient_of_plain_logits(
    build, tie, padding_free, accumulation, with_lora, tmp_path
):
    model = model_of(build, tie, with_lora)
    data = with_reference(model, examples())
    naive = copy.deepcopy(model)
    trainer, windows, gradients = train(model, data, tmp_path, accumulation, padding_free=padding_free)
    assert [len(window) for window in windows] == ([2] * 6 + [1] if accumulation == 1 else [8, 5])
    assert sorted(np.concatenate(windows)) == list(range(N))  # rows are numbered as examples
    up, down = (float(w) for w in (class_weights(4 / N).preferred, class_weights(4 / N).nonpreferred))
    for window, loss, gradient in zip(windows, losses_of(trainer), gradients, strict=True):
        part = data.select(window)
        u = plain_log_probs(naive, part) - torch.from_numpy(part.reference_log_probs)
        weights = np.where(part.preferred, up, down)
        exact = (weights * rdro_losses(u.detach().double().numpy(), part.preferred, ALPHA)).mean()
        # The slope in u is at most 1, and u is a difference of two sums of size 20: 2 eps 20 = 5e-6 at worst times
        # weights of 1.6 and 0.7, with signs that differ.
        assert loss == pytest.approx(exact, abs=4e-6)
        losses = torch.from_numpy(weights) * rdro_losses(u, torch.from_numpy(part.preferred), ALPHA)
        parameters = [parameter for parameter in naive.parameters() if parameter.requires_grad]
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(losses.sum() / len(window), parameters)])
        torch.testing.assert_close(gradient, slope.float(), rtol=0, atol=1e-5 * max(1.0, float(slope.abs().max())))


METHODS = {
    "sft": (1, lambda u, preferred: sft_losses(u[preferred], preferred[preferred])),
    "rdro": (1, lambda u, preferred: rdro_losses(u, preferred, ALPHA)),
    "ddro": (1, lambda u, preferred: ddro_losses(u, preferred, ALPHA, beyond_domain="extend")),
    "mle": (1, lambda u, preferred: mle_losses(u, preferred, ALPHA)),
    "dpo": (2, lambda u, _: dpo_losses(u[::2], u[1::2], 0.1)),
    "ipo": (2, lambda u, _: ipo_losses(u[::2], u[1::2], 0.1)),
}


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_of_a_batch_is_theory_s_in_numpy(method, tmp_path):
    width, losses = METHODS[method]
    model = model_of(tiny_qwen2, True, False)
    data = with_reference(model, examples(width=width), noise=0.2)  # inside the domain of mle: u < -log alpha
    options = {"weighting": "pooled"} if method in ("rdro", "ddro") else {}
    options |= {"beyond_domain": "extend"} if method == "ddro" else {}
    trainer, _, _ = train(model, data, tmp_path, 7, method=method, **options)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])
    loss, outputs = trainer.compute_loss(model, batch, return_outputs=True)
    u = outputs["log_ratios"].detach().numpy().astype(np.float64)
    exact = losses(u, batch["preferred"].numpy()).mean()
    assert loss.item() == pytest.approx(exact, abs=1e-6 * max(1.0, exact))
    assert losses_of(trainer) == pytest.approx([exact], abs=4e-6 * max(1.0, exact))  # one window of all batches
    kept = data.select(np.nonzero(data.preferred)[0]) if method == "sft" else data
    expected = plain_log_probs(model, kept).detach().numpy() - kept.reference_log_probs
    np.testing.assert_allclose(u, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.05, 0.39, 0.9])
@pytest.mark.parametrize("padding_free", [False, True])
def test_the_first_loss_is_ln_2_where_policy_and_reference_are_one(alpha, padding_free, tmp_path):
    model = model_of(tiny_llama, False, False)
    data = with_reference(model, examples(), noise=0.0)
    trainer, _, _ = train(model, data, tmp_path, 7, alpha=alpha, padding_free=padding_free)
    # One window of all examples: balanced weights make the classes' shares one half each. u is off by 1e-5 at most.
    assert losses_of(trainer) == pytest.approx([np.log(2.0)], abs=1e-6 if not padding_free else 2e-6)


def test_the_head_alone_gives_theory_s_gradient_without_a_trainer():
    # What the trainer adds could hide a mistake in the head that it makes up for.
    model = model_of(tiny_qwen2, True, False)
    data = with_reference(model, examples())
    batch = Collator(0)([data[i] for i in range(len(data))])
    with LogProbHead(model) as head:
        u = head.sequence_log_probs(model, batch) - batch["reference_log_probs"]
    rdro_losses(u, batch["preferred"], ALPHA).mean().backward()
    ours = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    u = plain_log_probs(model, data) - batch["reference_log_probs"]
    rdro_losses(u, batch["preferred"], ALPHA).mean().backward()
    plain = torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5 * max(1.0, float(plain.abs().max())))
