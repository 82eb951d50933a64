"""The embedded experiment: every method on languages whose laws are known exactly."""
