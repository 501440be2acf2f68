"""From trees to packed tokens: every shared token once."""
