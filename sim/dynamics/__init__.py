"""Training under first-order optimisers, which needs torch: where it diverges, and where it comes to rest."""
