"""An evaluation whose headline is a judge's verdict: a tiny random policy, and a real server in a thread of its own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from arpo.config import parse_config
from arpo.evaluation.config import EvalRun
from arpo.evaluation.records import read_records
from arpo.evaluation.run import evaluate
from arpo.protocols.encoding import PolicyTokenizer


class JudgeServer(ThreadingHTTPServer):
    """Says Correct of the questions 0? and 1?, Incorrect of 2?, and nothing of use of 3?."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.num_asked = 0


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, JudgeServer)
        self.server.num_asked += 1
        text = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][0]["content"]
        question = text.split("<question>\n")[1][:2]
        said = {"0?": "Correct", "1?": "Correct", "2?": "Incorrect", "3?": "Hard to say."}[question]
        usage = {"prompt_tokens": 10, "completion_tokens": 1}
        body = json.dumps({"choices": [{"message": {"content": said}, "finish_reason": "stop"}], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def settings(tmp_path: Path, make_tokenizer_directory: Any, server: JudgeServer) -> dict[str, Any]:
    directory = make_tokenizer_directory(tmp_path, "qwen3")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=PolicyTokenizer.load(directory).vocab_size, hidden_size=32, intermediate_size=48,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=128,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(directory)
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps({"question": f"{i}?", "answer": "2"}) + "\n" for i in range(4)))
    judge = {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "model": "m", "http": {"max_retries": 0},
             "cache": {"path": tmp_path / "judge.sqlite"}, "prompt_price": 1.0, "completion_price": 2.0}  # fmt: skip
    return {
        "model": {"path": directory}, "tasks": tmp_path / "tasks.jsonl", "num_samples": 0, "num_threads": 1,
        "reward": {"judge": judge}, "agent": {"protocol": {"tools": [], "system_prompt": ""}, "limits": {"max_turn_tokens": 8}},
    }  # fmt: skip


def test_the_verdict_is_the_headline_and_what_has_none_is_counted(
    settings: dict[str, Any], server: JudgeServer, tmp_path: Path
):
    """Correct, Correct, Incorrect and no verdict, which is asked for twice: 2 of 3; 5 replies of 10 + 1 tokens at 1 and 2."""
    summary = evaluate(parse_config(EvalRun, settings | {"out": tmp_path / "a"}, "test"))
    records = {record.question: record for record in read_records(tmp_path / "a")}
    assert [records[f"{i}?"].score for i in range(4)] == [1.0, 1.0, 0.0, None]
    assert records["3?"].reward is None
    assert "neither Correct nor Incorrect: 'Hard to say.'" in records["3?"].reason
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["figures"]["greedy"]["score"]["value"] == pytest.approx(2 / 3)
    judge = summary["judge"]
    assert (judge["answers"], judge["correct"], judge["ungraded"], judge["requests"]) == (4, 2, 1, 5)
    assert judge["cost"] == pytest.approx(5 * 12e-6)
    assert server.num_asked == 5

    again = evaluate(parse_config(EvalRun, settings | {"out": tmp_path / "b"}, "test"))
    assert server.num_asked == 7, "kept verdicts are found again, an answer without one is asked about again"
    assert (again["judge"]["cached"], again["judge"]["requests"]) == (3, 2)
    assert (tmp_path / "a" / "records.jsonl").read_text() == (tmp_path / "b" / "records.jsonl").read_text()
