"""Counts of requests to a server."""

from dataclasses import dataclass


@dataclass(slots=True)
class ServerUsage:
    """Requests of an evaluation to a server, including those of trees that were sampled again."""

    num_requests: int = 0
    """Replies used; retried requests count once."""
    prompt_tokens: int = 0
    """Tokens as the server counts them, cached ones included."""
    completion_tokens: int = 0
    """Tokens as the server counts them."""
    num_uncounted: int = 0
    """Replies without token counts, which the two sums lack."""
    num_tokenized_again: int = 0
    """Completions whose ids were encoded from text, as the server returned none."""

    def __str__(self) -> str:
        """All counts in one line."""
        counts = f"{self.prompt_tokens} prompt tokens, {self.completion_tokens} completion tokens"
        again = f"; {self.num_tokenized_again} completions came as text" if self.num_tokenized_again else ""
        uncounted = f"; {self.num_uncounted} replies had no token counts" if self.num_uncounted else ""
        return f"server: {self.num_requests} replies, {counts}{again}{uncounted}"
