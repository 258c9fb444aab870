"""Runs: what came out, and where it is kept."""
