"""Functions of one's own: found by file or module, loaded, kept with the run, and never run from a download."""
