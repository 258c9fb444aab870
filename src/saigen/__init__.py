"""Saigen: the instrument that makes a training run happen again.

Read dvc.yaml first, then stages.py, then training/loop.py.
"""
