"""Inference engines behind one protocol: token ids in, sampled token ids out, prefixes that fork."""
