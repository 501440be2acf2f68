"""Advantages and losses: pure tensor functions that know no tree, no configuration file and no process."""
