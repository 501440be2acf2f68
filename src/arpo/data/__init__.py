"""Tasks, conversations and the synthetic world."""
