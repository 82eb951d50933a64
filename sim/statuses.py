"""What may become of an estimate; the names are apart from the code that counts them, as all of sim uses them."""

__all__ = ["STATUSES"]

STATUSES = ("ok", "nonconverged", "diverged", "error", "timeout")
"""A usable estimate, no convergence, no finite solution, an exception, no end within the time allowed."""
