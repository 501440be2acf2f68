"""Supervised and reinforcement training: credit, updates, checkpoints, resumption."""
