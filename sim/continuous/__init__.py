"""Responses in R^d with known densities: network policies, which need torch, beside RuLSIF, uLSIF and KLIEP."""
