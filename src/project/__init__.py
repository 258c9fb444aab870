"""Yours: data, models, task. Plain PyTorch; nothing to inherit."""
