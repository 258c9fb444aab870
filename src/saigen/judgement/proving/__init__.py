"""Verify: trainings under perturbations that must not matter, and the line where one did."""
