"""What tests of language models share: tokenizers, built once, and tiny models, new for every test."""

import gc
from collections.abc import Callable, Iterator

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Tokenizer

from lm.tokenizers import qwen25_tokenizer, toy_tokenizer


@pytest.fixture(scope="session", autouse=True)
def _imports_are_not_collected() -> Iterator[None]:
    """Keep a million imported objects out of the collections of garbage that Trainer asks for, 0.4 s each."""
    import lm.trainer  # noqa: F401 - with all that trainings import

    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def toy() -> PreTrainedTokenizerFast:
    """Return the tokenizer of bytes with the chat template of Qwen2.5; it adds no BOS. Do not change it."""
    return toy_tokenizer()


@pytest.fixture(scope="session")
def toy_llama() -> PreTrainedTokenizerFast:
    """Return the tokenizer of bytes with the chat template of Llama 3; it adds BOS. Do not change it."""
    return toy_tokenizer("llama-3")


@pytest.fixture(scope="session")
def qwen() -> Qwen2Tokenizer:
    """Return the tokenizer of Qwen2.5, which takes 2 s to build. Do not change it."""
    return qwen25_tokenizer()


@pytest.fixture
def tiny_model(toy: PreTrainedTokenizerFast) -> Callable[..., PreTrainedModel]:
    """Return a maker of tiny models for the toy tokenizer: ``tiny_model("qwen2", seed=0, ...)``."""
    from lm import tiny_models

    def make(architecture: str = "qwen2", **options: object) -> PreTrainedModel:
        maker = {"qwen2": tiny_models.tiny_qwen2, "llama": tiny_models.tiny_llama}[architecture]
        special = {"eos_token_id": toy.eos_token_id, "pad_token_id": toy.pad_token_id}
        return maker(len(toy), **{**special, **options})

    return make
