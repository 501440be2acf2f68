"""The judge: one question per answer, a second one where the reply is no verdict, and a cache of verdicts."""

import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from arpo.cache import Cache, CacheKey, cache_key
from arpo.clients.concurrency import ConcurrencyLimit, SingleFlight
from arpo.clients.http import HttpError
from arpo.clients.openai import ChatClient, ChatReply
from arpo.errors import ConfigError
from arpo.rewards.extraction import read_answer
from arpo.rewards.grading import Grade
from arpo.rewards.judge.config import RUBRICS, JudgeConfig
from arpo.rewards.judge.counts import JudgeCounts
from arpo.rewards.judge.verdict import READING_VERSION, Verdict, read_verdict, without_reasoning
from arpo.tree import Trajectory
from arpo.types import Message

_FIELDS = ("question", "references", "answer")
_OPENS = re.compile(r"[<＜﹤]")
_REMINDER = "Reply with one word, Correct or Incorrect, and nothing else."


class Judge:
    """Judges answers by a chat model.

    After a reply without a verdict the judge asks once more. A failure is no verdict: the answer is ungraded and counted as
    such. Equal answers at the same time share one question.

    Args:
        config: the model, its rubric and its cache.
        purpose: the configuration section it serves, named in errors.

    Raises:
        ConfigError: the key's environment variable is not set, or the rubric cannot be read or lacks a field.
        DataError: the file of the cache cannot be opened.

    Example:
        judge = Judge(JudgeConfig(base_url="http://localhost:8000/v1", model="Qwen2.5-72B-Instruct"))
        (await judge.judge("Who sang it?", ["The Beatles"], "the Fab Four")).is_correct  # -> True
    """

    def __init__(self, config: JudgeConfig, purpose: str = "reward.judge") -> None:
        self._config = config
        self._rubric = read_rubric(config.rubric, purpose)
        self._client = ChatClient(config, purpose)
        self._cache = Cache.from_config(config.cache)
        self._is_offline = config.cache.mode == "offline"
        self._limit = ConcurrencyLimit(config.max_concurrent)
        self._asked: SingleFlight[Verdict] = SingleFlight()
        self._counts = self._new_counts()

    async def grade(self, trajectory: Trajectory, by_rules: Grade) -> Grade | Verdict:
        """The judge's grade of a trajectory's answer, 1 or 0; an empty verdict as it is.

        Args:
            trajectory: a finished path.
            by_rules: the grade to compare with; its score is the component `rule_grade`, the verdict the component `judge`.
        """
        answer = read_answer(trajectory)
        if not answer.text:
            return Grade(score=0.0, components={"judge": 0.0}, reason="no answer", extraction=answer.extraction)
        verdict = await self.judge(trajectory.task.question, trajectory.task.references, answer.text)
        if verdict.is_correct is None:
            return verdict
        self._counts.disagreements += verdict.is_correct != (by_rules.score == 1.0)
        return Grade(
            score=float(verdict.is_correct),
            components={"judge": float(verdict.is_correct), "rule_grade": by_rules.score},
            reason=f"judged {'correct' if verdict.is_correct else 'incorrect'}",
            extraction=answer.extraction,
        )

    async def judge(self, question: str, references: Sequence[str], answer: str) -> Verdict:
        """The verdict on an answer; errors of the server give an empty one."""
        key = self._key(question, references, answer)
        cached = self._cache.get(key) if self._cache is not None else None
        if cached is not None:
            self._counts.cached += 1
            verdict = Verdict(is_correct=cached == "Correct")
        elif self._is_offline:
            verdict = Verdict(is_correct=None, reason="no verdict is cached, and reward.judge.cache.mode is offline")
        else:
            verdict, is_shared = await self._asked.run(key.digest, lambda: self._ask(key, question, references, answer))
            self._counts.cached += is_shared
        self._counts.answers += 1
        self._counts.correct += verdict.is_correct is True
        self._counts.ungraded += verdict.is_correct is None
        return verdict

    def drain_counts(self) -> JudgeCounts:
        """The counts since the last call."""
        counts, self._counts = self._counts, self._new_counts()
        return counts

    async def aclose(self) -> None:
        """Close the connections and the cache; no verdict may be pending."""
        await self._client.aclose()
        if self._cache is not None:
            self._cache.close()

    def _new_counts(self) -> JudgeCounts:
        return JudgeCounts(cost=None if self._config.prompt_price is None else 0.0)

    def _key(self, question: str, references: Sequence[str], answer: str) -> CacheKey:
        rubric = hashlib.sha256(self._rubric.encode()).hexdigest()
        asked = {"rubric": rubric, "model": self._config.model, "question": question, "references": [*references]}
        return cache_key("judge", READING_VERSION, {**asked, "extra_body": self._config.extra_body, "answer": answer})

    async def _ask(self, key: CacheKey, question: str, references: Sequence[str], answer: str) -> Verdict:
        question_text = fill_rubric(self._rubric, question, references, answer)
        try:
            reply = await self._complete(question_text)
            verdict = read_verdict(reply)
            if verdict.is_correct is None:
                said = "" if reply.is_truncated else without_reasoning(reply.text).strip()
                verdict = read_verdict(await self._complete(question_text, said))
        except HttpError as error:
            return Verdict(is_correct=None, reason=str(error))
        if verdict.is_correct is not None and self._cache is not None:
            self._cache.put(key, "Correct" if verdict.is_correct else "Incorrect")
        return verdict

    async def _complete(self, question: str, said: str | None = None) -> ChatReply:
        """The reply to a question; `said`: the former reply, to which a reminder follows, empty where it is of no use."""
        texts = [question] if said is None else [question, said, _REMINDER] if said else [f"{question}\n\n{_REMINDER}"]
        messages = [Message(role="assistant" if i % 2 else "user", content=text) for i, text in enumerate(texts)]
        async with self._limit.get():
            reply = await self._client.complete(messages)
        self._count(reply)
        return reply

    def _count(self, reply: ChatReply) -> None:
        counts, usage, config = self._counts, reply.usage, self._config
        counts.requests += 1
        if usage is None:
            counts.untold += 1
            return
        counts.prompt_tokens += usage.prompt_tokens
        counts.completion_tokens += usage.completion_tokens
        if config.prompt_price is not None and config.completion_price is not None and counts.cost is not None:
            price = usage.prompt_tokens * config.prompt_price + usage.completion_tokens * config.completion_price
            counts.cost += price / 1_000_000


def read_rubric(rubric: str | Path, purpose: str) -> str:
    """The text of a rubric, by name or from a file.

    Raises:
        ConfigError: there is no such rubric, or it lacks a field.
    """
    if str(rubric) in RUBRICS:
        return resources.files("arpo.rewards.judge").joinpath(f"rubrics/{rubric}.txt").read_text(encoding="utf-8")
    try:
        text = Path(rubric).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{purpose}.rubric = {str(rubric)!r}: neither one of {', '.join(RUBRICS)} "
            f"nor a text file that can be read ({error})"
        ) from None
    missing = [f"{{{field}}}" for field in _FIELDS if f"{{{field}}}" not in text]
    if missing:
        raise ConfigError(f"{purpose}.rubric = {str(rubric)!r} lacks {', '.join(missing)}; the judge needs all of them")
    return text


def fill_rubric(rubric: str, question: str, references: Sequence[str], answer: str) -> str:
    """The rubric with its fields filled in one pass, so that braces in an answer stay braces; references one per line.

    In the values `<` becomes `&lt;`, so that they neither close nor open a tag of the rubric, nor contain a control token of
    the judge.
    """
    lines = (" ".join(reference.split()) for reference in references)
    values = {"question": question, "references": "\n".join(lines), "answer": answer}
    return re.sub(r"\{(question|references|answer)\}", lambda match: _OPENS.sub("&lt;", values[match[1]]), rubric)
