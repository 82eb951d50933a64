"""The tests; a package, so that `tests.strategies` can be imported from any of them."""
