"""Hydra composes conf/ into one typed, frozen config, and every value knows where it came from."""
