"""The command line: one module per command, each thin over the library; heavy imports happen inside a command's `run`."""
