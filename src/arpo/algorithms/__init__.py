"""Advantages and losses: pure tensor functions without trees, configuration or distributed code.

Axes: L leaves of one group (or of the batch, where a function says so), n nodes of one tree, N unique sampled tokens of a pack.
Every function keeps the dtype and device of its first argument and does not change its arguments.
"""
