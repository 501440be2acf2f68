"""Files: rows in every format, data sets of the hub, and writing a file or folder whole or not at all."""
