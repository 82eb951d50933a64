"""Data of language models: files to rows, rows to prompts and completions, these to tokens, all of it counted.

`sources` reads files; `columns`, `values`, `conversations` and `formats` give rows their meaning; `tokenise` and
`overlong` make sequences of tokens; `statistics` tells what they are; `load` does all of it.
"""

from lm.data.load import Tokenised, load_examples, tokenise_rows
from lm.data.sources import load_rows
from lm.data.statistics import DataReport

__all__ = ["DataReport", "Tokenised", "load_examples", "load_rows", "tokenise_rows"]
