"""What runs inside the sandbox: the zygote and its children. Standard library only, nothing of the rest of arpo."""
