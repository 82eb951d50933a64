"""Language models: the losses of `theory` on the log-ratios of whole sequences."""

from lm.log_probs import sequence_log_probs, token_log_probs

__all__ = ["sequence_log_probs", "token_log_probs"]
