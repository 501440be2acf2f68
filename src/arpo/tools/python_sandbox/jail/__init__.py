"""Code that runs inside the sandbox: the zygote and its children. It imports the standard library only."""
