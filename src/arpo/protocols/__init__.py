"""How a model writes a tool call and reads a result: the tag protocol, its prompts, and the tokenizer it needs."""
