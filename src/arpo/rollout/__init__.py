"""Growing rollout trees: entropy, branch rules, one path, one group, many groups at once. Sees no rewards."""
