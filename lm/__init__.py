"""Language models: the losses of `theory` on the log-ratios of whole sequences."""
