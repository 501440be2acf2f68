"""Tools an agent can call: the protocol they follow, the executor, the Python sandbox, search."""
