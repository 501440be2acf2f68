"""Evaluation: benchmarks in the training agent loop, pass@k, per-question records."""
