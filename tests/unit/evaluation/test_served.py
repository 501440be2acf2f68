"""Evaluations of models behind a server: files on disk, a real HTTP server, the agent loop of training."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from arpo.config import load_config, parse_config
from arpo.errors import ConfigError, EngineError
from arpo.evaluation.config import EvalRun, RolloutRun
from arpo.evaluation.run import evaluate
from arpo.tools.search.index import build_index
from arpo.training.config import RlRun

Answer = Callable[[dict[str, Any]], Any]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server whose replies, or statuses and replies, `answer` makes; gives its base_url."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made = answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            status, made = made if isinstance(made, tuple) else (200, made)
            reply = json.dumps(made).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Two questions and an index of what answers them."""
    rows = [{"question": f"Where was {name} born?", "answer": place} for name, place in (("Ada", "Kelford"), ("Bo", "Orley"))]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pages = [{"id": n, "title": n, "text": f"{n} was born in {p}."} for n, p in (("Ada", "Kelford"), ("Bo", "Orley"))]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
    build_index([tmp_path / "corpus.jsonl"], tmp_path / "index")
    return {
        "out": tmp_path / "eval", "tasks": tmp_path / "tasks.jsonl", "num_samples": 2, "num_threads": 1, "deterministic": False,
        "agent": {
            "protocol": {"tools": ["search"], "system_prompt": "react"},
            "tools": {"search": {"index": tmp_path / "index", "top_k": 1}},
        },
    }  # fmt: skip


def reads_and_answers(body: dict[str, Any]) -> dict[str, Any]:
    """A model that searches, then answers with the last word of what it read; the stop string is left out, as servers do."""
    messages = body["messages"]
    if messages[-1]["content"].startswith("<result>"):
        place = messages[-1]["content"].split("born in ")[1].split(".")[0]
        text = f"<think> it says so </think> <answer> \\boxed{{{place}}} "
    else:
        text = f"<think> look </think> <search> {messages[-1]['content']} "
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}


def test_a_chat_model_uses_our_tools_and_is_graded(settings: dict[str, Any]):
    with serving(reads_and_answers) as url:
        engine = {"type": "openai", "base_url": url, "model": "m", "api": "chat"}
        summary = evaluate(parse_config(EvalRun, settings | {"engine": engine}, "test"))
    assert (summary["num_tasks"], summary["exact_match"], summary["format_valid_rate"]) == (2, 1.0, 1.0)
    # two turns for each of two questions, once greedy and twice sampled
    assert summary["server"] == {
        "num_requests": 12, "prompt_tokens": 1200, "completion_tokens": 120, "num_uncounted": 0, "num_tokenized_again": 12,
    }  # fmt: skip
    assert json.loads((settings["out"] / "summary.json").read_text())["server"] == summary["server"]
    assert (settings["out"] / "report.html").is_file()
    assert load_config(EvalRun, settings["out"] / "config.toml").model is None


def test_a_server_that_answers_nonsense_ends_the_evaluation_and_says_why(settings: dict[str, Any]):
    with serving(lambda _: {"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]}) as url:
        engine = {"type": "openai", "base_url": url, "model": "m", "api": "chat"}
        with pytest.raises(EngineError, match="holds no text"):
            evaluate(parse_config(EvalRun, settings | {"engine": engine}, "test"))


REFUSALS: dict[str, Any] = {
    "400": (400, {"error": {"code": "content_filter", "message": "see our rules"}}),
    "403": (403, {"error": "see our rules"}),
    "error in a 200": {"error": {"message": "see our rules"}},
    "filtered": {"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter", "note": "see our rules"}]},
    "any end": {"choices": [{"message": {"content": "see our rules"}, "finish_reason": "sensitive"}]},
    "no end": {"choices": [{"message": {"content": "see our rules"}, "finish_reason": None}]},
    "no content": {"choices": [{"message": {"content": None, "refusal": "see our rules"}, "finish_reason": "stop"}]},
    "no choice": {"choices": [], "note": "see our rules"},
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_question_that_a_server_refuses_fails_alone_and_is_asked_again(settings: dict[str, Any], refusal: Any):
    """One of two fails in both modes; the other is right. Then the server answers it, and resuming asks for it alone."""
    is_refusing, asked = True, []

    def answer(body: dict[str, Any]) -> Any:
        question = body["messages"][1]["content"]
        asked.append(question)
        return refusal if is_refusing and "Bo" in question else reads_and_answers(body)

    with serving(answer) as url:
        engine = {"type": "openai", "base_url": url, "model": "m", "api": "chat", "http": {"max_retries": 0}}
        config = parse_config(EvalRun, settings | {"engine": engine}, "test")
        first = evaluate(config)
        assert (first["num_tasks"], first["num_failed"], first["exact_match"], first["score_questions"]) == (1, 1, 1.0, 1)
        failures = [json.loads(line) for line in (settings["out"] / "failures.jsonl").read_text().splitlines()]
        assert [row["mode"] for row in failures] == ["greedy", "sampled"]
        assert all("see our rules" in row["error"] for row in failures)
        report = (settings["out"] / "report.md").read_text()
        assert "1 of the questions failed and count nowhere" in report
        assert "see our rules" in report

        is_refusing = False
        asked.clear()
        second = evaluate(config, resume=True)
    assert (second["num_tasks"], second["num_failed"], second["exact_match"]) == (2, 0, 1.0)
    assert {"Bo" in question for question in asked} == {True}
    assert (settings["out"] / "failures.jsonl").read_text() == ""


@pytest.mark.parametrize(("share", "ends"), [(0.0, True), (0.4, True), (0.5, False)])
def test_more_failures_than_allowed_end_the_run_in_the_servers_words(settings: dict[str, Any], share: float, ends: bool):
    """One of two questions is half of them."""

    def answer(body: dict[str, Any]) -> Any:
        return REFUSALS["400"] if "Bo" in body["messages"][1]["content"] else reads_and_answers(body)

    with serving(answer) as url:
        engine = {"type": "openai", "base_url": url, "model": "m", "api": "chat", "http": {"max_retries": 0}}
        config = parse_config(EvalRun, settings | {"engine": engine, "max_failed_share": share, "num_samples": 0}, "test")
        if not ends:
            assert evaluate(config)["num_failed"] == 1
            return
        with pytest.raises(EngineError, match=r"max_failed_share.*task '.*see our rules.*--resume"):
            evaluate(config)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"deterministic": True}, "deterministic = true with engine.type = 'openai': this engine forms its batches"),
        ({"model": {"path": "m"}}, "model has no effect with engine.api = 'chat'"),
        ({"agent": {"protocol": {"type": "hermes"}}}, "set it to 'tags', or give `model`"),
        ({"engine": {"type": "transformers"}}, "model is missing: name the policy's directory as model.path"),
        ({"engine": {"type": "openai", "base_url": "http://h/v1", "model": "m"}}, "model is missing"),
        ({"engine": {"type": "openai", "base_url": "http://h/v1", "model": "m"}, "model": {"path": "m", "device": "cuda"}},
         "model.dtype and model.device have no effect"),
    ],
)  # fmt: skip
def test_what_has_no_effect_or_cannot_work_is_refused(settings: dict[str, Any], change: dict[str, Any], says: str):
    engine = {"type": "openai", "base_url": "http://h/v1", "model": "m", "api": "chat"}
    with pytest.raises(ConfigError, match=says):
        parse_config(EvalRun, settings | {"engine": engine} | change, "test")


@pytest.mark.parametrize(("run", "purpose"), [(RlRun, "training"), (RolloutRun, "arpo rollout")])
def test_training_and_branching_on_a_server_are_refused_with_the_reason(run: type[Any], purpose: str):
    data = {
        "out": "o", "model": {"path": "m"}, "tasks": "t", "agent": {}, "rollout": {"deterministic": False},
        "engine": {"type": "openai", "base_url": "http://h/v1", "model": "m"},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=f"for `arpo eval` only: {purpose} needs the ids, log-probs and entropies"):
        parse_config(run, data, "test")
