"""The chat client against a server that speaks the OpenAI protocol, and one that does not."""

import asyncio
import gzip
import json
import logging

import pytest

from arpo.clients.config import ChatConfig, RetryingHttpConfig
from arpo.clients.http import HttpError
from arpo.clients.openai import ChatClient, ChatReply
from arpo.types import Message

SECRET = "sk-very-secret-value-1234"
ASKED = [Message(role="system", content="Judge."), Message(role="user", content="Is 2 = 2.0?")]


def chat(url: str, http: dict[str, object] | None = None, **settings: object) -> ChatClient:
    limits = RetryingHttpConfig(**{"max_retries": 0, **(http or {})})
    return ChatClient(ChatConfig(base_url=f"{url}/v1", model="m", http=limits, **settings), "reward.judge")


def choice(content: object, reason: str = "stop") -> dict[str, object]:
    return {"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": reason}]}


async def test_a_conversation_goes_out_and_the_message_comes_back(serve, replies, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUDGE_KEY", "judge-key-1")
    server = await serve(replies.in_turn(replies.reply(200, choice("Correct")), replies.reply(200, choice("Corr", "length"))))
    client = chat(server.url, api_key_env="JUDGE_KEY", seed=3)
    assert await client.complete(ASKED) == ChatReply(text="Correct", is_truncated=False)
    assert await client.complete(ASKED) == ChatReply(text="Corr", is_truncated=True)
    request = server.received[0]
    assert (request.method, request.target, request.headers["authorization"]) == (
        "POST",
        "/v1/chat/completions",
        "Bearer judge-key-1",
    )
    assert request.json() == {
        "model": "m",
        "messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": "Is 2 = 2.0?"}],
        "temperature": 0.0,
        "max_tokens": 1024,
        "seed": 3,
    }


async def test_without_a_key_none_is_sent(serve, replies, monkeypatch: pytest.MonkeyPatch):
    """Nor what the official client takes from its own variables, nor what it tells of this machine."""
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "sk-of-another-service")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-secret: sk-of-another-service")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    server = await serve(replies.reply(200, choice("x")))
    await chat(server.url).complete(ASKED)
    headers = server.received[0].headers
    assert set(headers) <= {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent"}
    assert headers["user-agent"] == "arpo"
    assert "seed" not in server.received[0].json()


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_a_passing_error_is_tried_again(serve, replies, no_waiting, status: int):
    server = await serve(replies.in_turn(replies.reply(status), replies.reply(status), replies.reply(200, choice("x"))))
    assert (await chat(server.url, http={"max_retries": 2}).complete(ASKED)).text == "x"
    assert len(server.received) == 3
    assert 0.375 <= no_waiting[0] <= 0.5, "0.5 s less up to a quarter"
    assert 0.75 <= no_waiting[1] <= 1.0, "1 s less up to a quarter"


async def test_a_lost_connection_and_a_late_reply_are_tried_again(serve, replies, no_waiting):
    async def half(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")

    async def late(_, writer):
        await asyncio.Event().wait()

    broken = replies.reply(200, gzip.compress(json.dumps(choice("x")).encode())[:-9], content_encoding="gzip")
    server = await serve(replies.in_turn(half, late, broken, replies.reply(200, choice("x"))))
    assert (await chat(server.url, http={"max_retries": 3, "timeout_s": 0.2}).complete(ASKED)).text == "x"
    assert len(server.received) == 4


async def test_retries_end_and_a_lasting_error_has_none(serve, replies, no_waiting):
    for status, num_requests in ((500, 3), (400, 1), (401, 1), (404, 1)):
        server = await serve(replies.reply(status, b"down"))
        with pytest.raises(HttpError, match=f"reward.judge: POST {server.url}/v1/chat/completions: status {status}: down$"):
            await chat(server.url, http={"max_retries": 2}).complete(ASKED)
        assert len(server.received) == num_requests
    with pytest.raises(HttpError, match="ConnectError"):
        await chat("http://127.0.0.1:1", http={"max_retries": 1}).complete(ASKED)


async def test_retry_after_is_honoured_and_has_a_cap(serve, replies, no_waiting):
    server = await serve(replies.in_turn(replies.reply(429, retry_after="7"), replies.reply(200, choice("x"))))
    assert (await chat(server.url, http={"max_retries": 1}).complete(ASKED)).text == "x"
    assert no_waiting == [7.0]
    server = await serve(replies.reply(429, b"tomorrow", retry_after="3600"))
    with pytest.raises(HttpError, match=r"status 429: tomorrow$") as caught:
        await chat(server.url, http={"max_retries": 3}).complete(ASKED)
    assert (caught.value.retry_after_s, caught.value.is_transient, len(server.received)) == (3600.0, True, 1)


async def test_limits_hold_below_the_official_client(serve, replies, no_waiting, monkeypatch: pytest.MonkeyPatch):
    elsewhere = await serve(replies.reply(200, choice("stolen")))
    bomb = gzip.compress(b"0" * 2**26)  # 64 MiB in 64 KiB
    for handler, says in (
        (replies.reply(200, b"x" * 2**21), "longer than 1 MiB"),
        (replies.reply(200, bomb, content_encoding="gzip"), "longer than 1 MiB"),
        (replies.reply(307, b"go", location=f"{elsewhere.url}/v1/chat/completions"), "status 307: go"),
    ):
        server = await serve(handler)
        with pytest.raises(HttpError, match=says):
            await chat(server.url, http={"max_retries": 3, "max_body_mb": 1.0}).complete(ASKED)
        assert len(server.received) == 1, "what cannot pass is not asked for again"
    assert elsewhere.received == []

    monkeypatch.setattr("arpo.clients.http.time.monotonic", lambda: 100.0)  # the clock stands still
    server = await serve(replies.reply(200, choice("x")))
    limited = chat(server.url, http={"requests_per_s": 4.0})
    no_waiting.clear()
    await asyncio.gather(*(limited.complete(ASKED) for _ in range(3)))
    assert sorted(no_waiting) == [0.25, 0.5], "the first at once, each other 1/4 s later"


async def test_the_key_is_seen_by_the_server_alone(
    serve, replies, no_waiting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("JUDGE_KEY", SECRET)

    async def echoes(request, writer):
        await replies.reply(200, choice(json.dumps(request.headers)))(request, writer)

    async def complains(request, writer):
        await replies.reply(500, f"bad key {request.headers['authorization']}".encode())(request, writer)

    with caplog.at_level(logging.DEBUG):
        server = await serve(replies.in_turn(echoes, complains))
        client = chat(server.url, api_key_env="JUDGE_KEY", http={"max_retries": 1})
        assert SECRET not in (await client.complete(ASKED)).text
        with pytest.raises(HttpError, match=r"bad key Bearer \*\*\*") as caught:
            await client.complete(ASKED)
    assert [r.headers["authorization"] for r in server.received] == [f"Bearer {SECRET}"] * 3
    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "body", [{}, [], {"choices": []}, choice(None), {"choices": [{"message": 3}]}, {"choices": {"a": 1}}, "x"]
)
async def test_a_reply_without_a_message_is_an_error(serve, replies, body: object):
    server = await serve(replies.reply(200, body))
    with pytest.raises(HttpError, match=r"holds no choices\[0\]"):
        await chat(server.url).complete(ASKED)
