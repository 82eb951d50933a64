"""What decides about claims: the rules, the evidence they find in tables, and the claims by subject."""
