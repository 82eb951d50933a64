"""Theory of relative and direct density ratio optimisation."""
