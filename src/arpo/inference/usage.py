"""What was asked of a server."""

from dataclasses import dataclass


@dataclass(slots=True)
class ServerUsage:
    """What an evaluation asked of a server, trees that were sampled again included."""

    num_requests: int = 0
    """Replies used; what a retry repeated is not counted."""
    prompt_tokens: int = 0
    """As the server counts them, those it had cached included."""
    completion_tokens: int = 0
    """As the server counts them."""
    num_uncounted: int = 0
    """Replies that told no token counts, which the two sums lack."""
    num_tokenized_again: int = 0
    """Completions whose ids were made from their text, because the server returned none."""

    def __str__(self) -> str:
        """All of it, in one line."""
        counts = f"{self.prompt_tokens} prompt tokens, {self.completion_tokens} completion tokens"
        again = f"; {self.num_tokenized_again} completions came as text" if self.num_tokenized_again else ""
        uncounted = f"; {self.num_uncounted} replies told no token counts" if self.num_uncounted else ""
        return f"server: {self.num_requests} replies, {counts}{again}{uncounted}"
