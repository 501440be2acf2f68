"""One run on several processes: ranks, sharded weights and the assignment of packs; the training code calls it."""
