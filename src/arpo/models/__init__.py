"""Models: loading and saving, attention from a layout, log-probabilities, the tiny policy."""
