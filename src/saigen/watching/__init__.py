"""Watching a training loop that is not of this template: its trace, its record, its callbacks."""
