"""arpo: reinforcement learning for tool-using LLM agents that branches where the model is unsure."""

__version__ = "0.1.0"
