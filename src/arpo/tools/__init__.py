"""Tools an agent can call: their protocol, the executor, the Python sandbox, search, browse, MCP servers, functions."""
