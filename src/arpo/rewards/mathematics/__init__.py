"""Reading mathematics: LaTeX, plain text and Python's notation become one tree, and trees are compared by what they mean."""
