"""Speed programs: ours, the bare model's limit and peers, side by side in one run."""
