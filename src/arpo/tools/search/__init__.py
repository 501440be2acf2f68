"""Search: an embedded BM25 index over a user's documents."""
