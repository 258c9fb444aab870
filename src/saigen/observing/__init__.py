"""Observing: what the project's code takes in from outside of the recipe while it runs."""
