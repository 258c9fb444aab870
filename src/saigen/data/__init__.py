"""Data: from a snapshot to batches, in an order that is a function."""
