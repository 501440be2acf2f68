"""The table. What in it could not be verified stands in docs/benchmarks.md."""

from arpo.data.benchmarks.forms import (
    Benchmark,
    RowForm,
    is_unanswerable,
    needs_file,
    needs_image,
    unlock_xbench,
)

_AGENT = "tags; search, python"
_DEEP_AGENT = "tags; deep search, python"

_TEXT_ANSWER = RowForm(name="reference", fields={"question": "text", "answer": "number"}, question="question")
_LIST_ANSWER = RowForm(name="reference", fields={"question": "text", "answer": "texts"}, question="question")
_AIME = RowForm(name="both", fields={"problem": "text", "answer": "integer"}, question="problem")
_TYPED_QUESTION = RowForm(
    name="hub", fields={"question": "text", "answer": "text", "type": "text"}, question="question", group="type"
)

_ALL = (
    Benchmark(
        name="aime24", title="AIME24", domain="math", source="HuggingFaceH4/aime_2024", split="train", size=30, hub_size=30,
        licence="not stated", protocol=_AGENT, metric="accuracy", grader="math", grading="lenient",
        has_judge=True, group_key=None, forms=(_AIME,),
        note="Answers are integers from 0 to 999; leading zeros are dropped.",
    ),
    Benchmark(
        name="aime25", title="AIME25", domain="math", source="math-ai/aime25", split="test", size=30, hub_size=30,
        licence="not verified", protocol=_AGENT, metric="accuracy", grader="math", grading="lenient",
        has_judge=True, group_key=None,
        forms=(_AIME,),
        note="As AIME24.",
    ),
    Benchmark(
        name="math500", title="MATH500", domain="math", source="HuggingFaceH4/MATH-500", split="test", size=500, hub_size=500,
        licence="not stated (MATH: MIT)", protocol=_AGENT, metric="accuracy", grader="math", grading="lenient", has_judge=True,
        group_key="level",
        forms=(
            RowForm(
                name="hub", fields={"problem": "text", "answer": "number", "level": "number"}, question="problem", group="level"
            ),
            _TEXT_ANSWER,
        ),
    ),
    Benchmark(
        name="gsm8k", title="GSM8K", domain="math", source="openai/gsm8k (main)", split="test", size=1319, hub_size=1319,
        licence="MIT", protocol=_AGENT, metric="accuracy", grader="numeric", grading="lenient", has_judge=True, group_key=None,
        forms=(
            RowForm(
                name="both", fields={"question": "text", "answer": "text"}, question="question", reading="after_hashes"
            ),
        ),
    ),
    Benchmark(
        name="math", title="MATH", domain="math", source="EleutherAI/hendrycks_math", split="test", size=None, hub_size=5000,
        licence="MIT", protocol=_AGENT, metric="accuracy", grader="math", grading="lenient", has_judge=True, group_key="level",
        forms=(
            RowForm(
                name="hub", fields={"problem": "text", "solution": "text", "level": "text"}, question="problem",
                answer="solution", reading="last_box", group="level",
            ),
            _TEXT_ANSWER,
        ),
        note="The hub has one configuration per subject; the papers' code ships no file.",
    ),
    Benchmark(
        name="hotpotqa", title="HotpotQA", domain="knowledge", source="hotpotqa/hotpot_qa (distractor)", split="validation",
        size=200, hub_size=7405, licence="CC BY-SA 4.0", protocol=_AGENT, metric="f1", grader="f1", grading="strict",
        has_judge=False,
        group_key="type", forms=(_LIST_ANSWER, _TYPED_QUESTION),
    ),
    Benchmark(
        name="2wikimultihopqa", title="2WikiMultihopQA", domain="knowledge", source="xanhho/2WikiMultihopQA", split="dev",
        size=200, hub_size=12576, licence="Apache-2.0", protocol=_AGENT, metric="f1", grader="f1", grading="strict",
        has_judge=False,
        group_key="type", forms=(_LIST_ANSWER, _TYPED_QUESTION),
    ),
    Benchmark(
        name="musique", title="MuSiQue", domain="knowledge", source="dgslibisey/MuSiQue", split="validation", size=200,
        hub_size=2417, licence="CC BY 4.0", protocol=_AGENT, metric="f1", grader="f1", grading="strict",
        has_judge=False, group_key="hops",
        forms=(
            _LIST_ANSWER,
            RowForm(
                name="hub",
                fields={"id": "text", "question": "text", "answer": "text", "answerable": "flag"},
                question="question", aliases="answer_aliases", group="id", group_pattern=r"(\d)hop", screen=is_unanswerable,
            ),
        ),
    ),
    Benchmark(
        name="bamboogle", title="Bamboogle", domain="knowledge", source="chiayewken/bamboogle", split="test", size=125,
        hub_size=125, licence="MIT", protocol=_AGENT, metric="f1", grader="f1", grading="strict",
        has_judge=False, group_key=None,
        forms=(_LIST_ANSWER, RowForm(name="hub", fields={"question": "text", "answer": "text"}, question="question")),
    ),
    Benchmark(
        name="webwalkerqa", title="WebWalkerQA", domain="deep_search", source="callanwu/WebWalkerQA", split="main", size=200,
        hub_size=680, licence="Apache-2.0", protocol=_DEEP_AGENT, metric="accuracy", grader="exact_match", grading="strict",
        has_judge=True,
        group_key="difficulty",
        forms=(
            RowForm(
                name="hub", fields={"question": "text", "answer": "text", "info.difficulty_level": "text"},
                question="question", group="info.difficulty_level",
            ),
            _TEXT_ANSWER,
        ),
        note="Answers are sentences: judge them, exact match finds almost none.",
    ),
    Benchmark(
        name="gaia", title="GAIA", domain="deep_search", source="gaia-benchmark/GAIA (2023_all)", split="validation", size=103,
        hub_size=165, licence="not stated; gated, do not reshare", protocol=_DEEP_AGENT, metric="accuracy",
        grader="exact_match", grading="lenient", has_judge=True, group_key="level",
        forms=(
            RowForm(
                name="reference", fields={"question": "text", "answer": "number", "level": "number"}, question="question",
                group="level",
            ),
            RowForm(
                name="hub", fields={"question": "text", "final answer": "text", "level": "number"}, question="question",
                answer="final answer", group="level", screen=needs_file,
            ),
        ),
        note="Questions with a file beside them are left out.",
    ),
    Benchmark(
        name="hle", title="HLE", domain="deep_search", source="cais/hle", split="test", size=500, hub_size=2500, licence="MIT",
        protocol=_DEEP_AGENT, metric="accuracy", grader="exact_match", grading="strict", has_judge=True, group_key="category",
        forms=(
            RowForm(
                name="both",
                fields={"question": "text", "answer": "text", "answer_type": "text", "category": "text"},
                question="question", group="category", screen=needs_image,
            ),
        ),
        note="Questions with an image are left out; do not publish the questions.",
    ),
    Benchmark(
        name="simpleqa", title="SimpleQA", domain="deep_search", source="basicv8vc/SimpleQA", split="test", size=500,
        hub_size=4326, licence="MIT", protocol=_DEEP_AGENT, metric="accuracy", grader="exact_match", grading="strict",
        has_judge=True,
        group_key="topic",
        forms=(
            _LIST_ANSWER,
            RowForm(
                name="hub", fields={"problem": "text", "answer": "text", "metadata": "text"}, question="problem",
                group="metadata", group_pattern=r"""["']topic["']: *["']([^"']+)["']""",
            ),
        ),
    ),
    Benchmark(
        name="xbench", title="xbench-DeepSearch", domain="deep_search", source="xbench/DeepSearch", split="train", size=100,
        hub_size=100, licence="MIT", protocol=_DEEP_AGENT, metric="accuracy", grader="exact_match", grading="strict",
        has_judge=True,
        group_key=None,
        forms=(
            _LIST_ANSWER,
            RowForm(
                name="hub", fields={"prompt": "text", "answer": "text", "canary": "text"}, question="prompt",
                decode=unlock_xbench,
            ),
        ),
        note="Chinese. The original's rows are encrypted and read as they are; do not publish the plain text.",
    ),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
"""Every benchmark by its name, in the papers' order."""
