"""How a model writes tool calls and reads results: tags or its chat template, their prompts, and the tokenizer."""
