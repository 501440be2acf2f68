"""The engine that asks a server, against servers of several manners."""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from arpo.clients.config import RetryingHttpConfig
from arpo.errors import ConfigError, EngineError
from arpo.inference.config import OpenAIEngineConfig
from arpo.inference.openai_engine import OpenAIEngine
from arpo.inference.usage import ServerUsage
from arpo.protocols.encoding import PolicyTokenizer
from arpo.protocols.text_tokenizer import TextTokenizer
from arpo.types import Completion, Message, SamplingParams, StopReason

STOP = ("</search>", "</answer>")
ASKED = [Message(role="system", content="Use tools."), Message(role="user", content="Where?")]
TEXT = TextTokenizer()
TEXT_OF_A_REPLY = "<answer> 4 </answer>"


def engine(url: str, tokenizer: Any = TEXT, retries: int = 0, **settings: Any) -> OpenAIEngine:
    api = "chat" if tokenizer is TEXT else "completions"
    http = RetryingHttpConfig(max_retries=retries, timeout_s=settings.pop("timeout_s", 20.0))
    return OpenAIEngine(OpenAIEngineConfig(base_url=f"{url}/v1", model="m", api=api, http=http, **settings), tokenizer)


def chat_reply(content: Any, reason: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": reason, **more}]}


def text_reply(text: Any, reason: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"text": text, "finish_reason": reason, **more}]}


async def ask(asked: OpenAIEngine, prompt: list[int], stop: tuple[str, ...] = STOP) -> Completion:
    prefix = await asked.prefill(None, prompt)
    completion, _ = await asked.generate(prefix, SamplingParams(temperature=0.0, max_tokens=9), seed=5, stop=stop)
    return completion


@pytest.fixture
def policy(qwen_directory) -> PolicyTokenizer:
    return PolicyTokenizer.load(qwen_directory)


async def test_a_conversation_with_a_tool_goes_out_as_messages(serve, replies, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SERVER_KEY", "server-key-1")
    usage = {"prompt_tokens": 20, "completion_tokens": 7}
    first = chat_reply("<think> look </think> <search> Ada") | {"usage": usage}
    server = await serve(replies.in_turn(replies.reply(200, first), replies.reply(200, chat_reply("<answer> 4", "length"))))
    asked = engine(server.url, api_key_env="SERVER_KEY", extra_body={"top_k": -1})
    prompt = await asked.prefill(None, TEXT.encode_chat(ASKED))
    sampling = SamplingParams(temperature=0.7, max_tokens=9)
    call, prefix = await asked.generate(prompt, sampling, seed=2**31 + 3, stop=STOP)
    assert (TEXT.decode(call.token_ids), call.stop_reason) == (
        "<think> look </think> <search> Ada</search>",
        StopReason.STOP_STRING,
    )
    assert (call.logprobs, call.entropies) == ([], [])
    prefix = await asked.prefill(prefix, TEXT.encode_markup(" <result>\nKelford\n</result>"))
    assert prefix.num_tokens == len(TEXT.encode_chat(ASKED)) + len(call.token_ids) + 7  # 26 bytes
    answer, _ = await asked.generate(prefix, sampling, seed=1, stop=STOP)
    assert (TEXT.decode(answer.token_ids), answer.stop_reason) == ("<answer> 4", StopReason.LENGTH)

    system, user = ({"role": m.role, "content": m.content} for m in ASKED)
    request = server.received[0]
    assert (request.target, request.headers["authorization"]) == ("/v1/chat/completions", "Bearer server-key-1")
    assert request.json() == {
        "model": "m", "messages": [system, user], "max_tokens": 9, "temperature": 0.7, "top_p": 1.0, "seed": 3,
        "stop": list(STOP), "top_k": -1,
    }  # fmt: skip
    assert server.received[1].json()["messages"] == [
        system,
        user,
        {"role": "assistant", "content": "<think> look </think> <search> Ada</search>"},
        {"role": "user", "content": "<result>\nKelford\n</result>"},
    ]
    assert asked.usage == ServerUsage(
        num_requests=2, prompt_tokens=20, completion_tokens=7, num_uncounted=1, num_tokenized_again=2
    )
    assert "1 replies had no token counts" in str(asked.usage)


@pytest.mark.parametrize(
    ("content", "ended"),
    [(TEXT_OF_A_REPLY, end) for end in ("content_filter", "sensitive", "tool_calls", "abort", "", None, 7)] + [(None, "stop")],
)
async def test_a_reply_that_ended_otherwise_is_an_error_in_the_servers_words(serve, replies, content: Any, ended: Any):
    server = await serve(replies.reply(200, chat_reply(content, ended, hint="see our rules")))
    with pytest.raises(EngineError, match="see our rules"):
        await ask(engine(server.url), TEXT.encode_chat(ASKED))


async def test_an_error_inside_a_200_is_told(serve, replies):
    server = await serve(replies.reply(200, {"error": {"message": "boom"}}))
    with pytest.raises(EngineError, match=r"no choices\[0\].*boom"):
        await ask(engine(server.url), TEXT.encode_chat(ASKED))


async def test_at_most_four_stop_strings_go_out_and_all_are_obeyed(serve, replies):
    stops = tuple(f"</{name}>" for name in ("a", "b", "c", "d", "answer"))
    server = await serve(replies.reply(200, chat_reply("<answer> 4 </answer> and <a> more")))
    completion = await ask(engine(server.url), TEXT.encode_chat(ASKED), stops)
    assert server.received[0].json()["stop"] == list(stops[:4])
    assert (TEXT.decode(completion.token_ids), completion.stop_reason) == ("<answer> 4 </answer>", StopReason.STOP_STRING)


async def test_fields_that_a_server_refuses_have_other_names_or_none(serve, replies):
    server = await serve(replies.reply(200, chat_reply("ok")))
    renamed = {"max_tokens": "max_completion_tokens", "temperature": "", "stop": ""}
    await ask(engine(server.url, rename=renamed), TEXT.encode_chat(ASKED))
    body = server.received[0].json()
    assert body["max_completion_tokens"] == 9
    assert not {"max_tokens", "temperature", "stop"} & set(body)


@pytest.mark.parametrize(
    ("choice", "text", "reason"),
    [
        # the stop string is left out, and nothing says which one it was: that of the open tag
        (chat_reply("<search> a "), "<search> a </search>", StopReason.STOP_STRING),
        (chat_reply("<search> a <answer> b"), "<search> a <answer> b</answer>", StopReason.STOP_STRING),
        (chat_reply("I know it"), "I know it", StopReason.EOS),
        # vLLM and SGLang say it, also that there was none
        (chat_reply("a ", stop_reason="</search>"), "a </search>", StopReason.STOP_STRING),
        (chat_reply("a ", matched_stop="</answer>"), "a </answer>", StopReason.STOP_STRING),
        (chat_reply("by <search> I mean", stop_reason=None), "by <search> I mean", StopReason.EOS),
        (chat_reply("by <search> I mean", matched_stop=7), "by <search> I mean", StopReason.EOS),
        # the stop string is left in, or `stop` is not known at all
        (chat_reply("<search> a </search>"), "<search> a </search>", StopReason.STOP_STRING),
        (chat_reply("<search> a </search> <answer> b </answer>", "length"), "<search> a </search>", StopReason.STOP_STRING),
        (chat_reply("<search> a", "length"), "<search> a", StopReason.LENGTH),
        (chat_reply(None, "length"), "", StopReason.LENGTH),  # it thought elsewhere until the limit
        (
            chat_reply([{"type": "thinking"}, {"type": "text", "text": "I "}, {"type": "text", "text": "do"}]),
            "I do",
            StopReason.EOS,
        ),
        (chat_reply("half \ud83d"), "half ?", StopReason.EOS),
    ],
)
async def test_where_a_reply_ends(serve, replies, choice: dict[str, Any], text: str, reason: StopReason):
    server = await serve(replies.reply(200, choice))
    completion = await ask(engine(server.url), TEXT.encode_chat(ASKED))
    assert (TEXT.decode(completion.token_ids), completion.stop_reason) == (text, reason)


async def test_token_ids_come_back_as_they_were_sampled(serve, replies, policy: PolicyTokenizer):
    """Whatever the text beside them says; tokens behind the one that completes the stop string are no part of the turn."""
    ids = policy.encode_markup("<search>") + [policy.encode_markup(c)[0] for c in "town"] + policy.encode_markup("</search>")
    beyond = policy.encode_markup(" x")
    usage = {"prompt_tokens": 3, "completion_tokens": len(ids)}
    reply = text_reply("<search>town", token_ids=ids + beyond) | {"usage": usage}
    server = await serve(replies.reply(200, reply))
    asked = engine(server.url, policy)
    completion = await ask(asked, [5, 6, 7])
    assert completion.token_ids == ids != policy.encode_markup("<search>town</search>")
    assert completion.stop_reason is StopReason.STOP_STRING
    assert server.received[0].target == "/v1/completions"
    assert (server.received[0].json()["prompt"], server.received[0].json()["return_token_ids"]) == ([5, 6, 7], True)
    assert (asked.usage.num_tokenized_again, asked.usage.completion_tokens) == (0, len(ids))


async def test_ids_behind_the_end_of_a_turn_that_the_server_does_not_know_are_cut(serve, replies, policy: PolicyTokenizer):
    said = policy.encode_markup("It is 4.<|im_end|>")
    usage = {"prompt_tokens": 3, "completion_tokens": 20}
    choice = text_reply("", token_ids=said + policy.encode_markup(" and on")) | {"usage": usage}
    choice["choices"][0]["finish_reason"] = "length"
    server = await serve(replies.reply(200, choice))
    completion = await ask(engine(server.url, policy), [5, 6, 7], stop=())
    assert (completion.token_ids, completion.stop_reason) == (said, StopReason.EOS)


async def test_text_without_ids_is_encoded_and_counted(serve, replies, policy: PolicyTokenizer):
    server = await serve(replies.reply(200, text_reply("<search> town ")))
    asked = engine(server.url, policy)
    completion = await ask(asked, [5, 6, 7])
    assert completion.token_ids == policy.encode_markup("<search> town </search>")
    assert asked.usage.num_tokenized_again == 1
    with pytest.raises(EngineError, match=r"a token ends a turn.*agent\.protocol\.type = 'tags'"):
        await ask(asked, [5, 6, 7], stop=())


async def test_a_server_that_reads_other_tokens_than_were_sent_is_found_out(serve, replies, policy: PolicyTokenizer):
    reply = text_reply("x", token_ids=[5]) | {"usage": {"prompt_tokens": 4, "completion_tokens": 1}}
    server = await serve(replies.reply(200, reply))
    with pytest.raises(EngineError, match=r"read 4 prompt tokens where 3 were sent.*engine\.api = 'chat'"):
        await ask(engine(server.url, policy), [5, 6, 7])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (chat_reply("x", "tool_calls"), "finish_reason = 'tool_calls'"),
        (chat_reply("x", None), "finish_reason = None"),
        (chat_reply(3), "holds no text"),
        ({"choices": [{"finish_reason": "stop"}]}, "holds no text"),
        ({"choices": []}, r"holds no choices\[0\]"),
        ({"error": "overloaded"}, r"holds no choices\[0\]"),
        (b"<html>", "not JSON"),
        (b'{"choices": [', "not JSON"),
    ],
)  # fmt: skip
async def test_a_reply_that_cannot_be_used_is_the_engines_error(serve, replies, body: Any, says: str):
    server = await serve(replies.reply(200, body))
    with pytest.raises(EngineError, match=says):
        await ask(engine(server.url), TEXT.encode_chat(ASKED))


async def test_a_busy_server_is_asked_again_when_it_says(serve, replies, no_waiting):
    good = replies.reply(200, chat_reply("<answer> 4 </answer>"))
    server = await serve(replies.in_turn(replies.reply(429, b"busy", retry_after="7"), replies.reply(503), good))
    asked = engine(server.url, retries=2)
    assert (await ask(asked, TEXT.encode_chat(ASKED))).stop_reason is StopReason.STOP_STRING
    assert no_waiting[0] == 7.0
    assert (len(server.received), asked.usage.num_requests) == (3, 1)


async def test_a_server_that_hangs_dies_or_refuses(serve, replies):
    async def hangs(_, writer):
        await asyncio.sleep(3)

    async def half(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")

    missing = replies.reply(404, {"message": "The model `m` does not exist."})
    for handler, says in (
        (hangs, "no whole reply within 0.2 s"),
        (half, "RemoteProtocolError"),
        (missing, "`m` does not exist"),
    ):
        server = await serve(handler)
        with pytest.raises(EngineError, match=says):
            await ask(engine(server.url, timeout_s=0.2), TEXT.encode_chat(ASKED))


async def test_what_only_a_trainers_engine_can_do_is_refused():
    asked = engine("http://127.0.0.1:1")
    prefix = await asked.prefill(None, [5, 6])
    with pytest.raises(EngineError, match="position = 3"):
        await asked.generate(prefix, SamplingParams(), seed=0, position=3)
    with pytest.raises(EngineError, match="cannot continue a completion from a cut"):
        prefix.truncate(1, [5])
    with pytest.raises(EngineError, match="weights cannot be changed"):
        await asked.update_weights((), 1)
    with pytest.raises(EngineError, match="batches cannot be fixed"), asked.participate():
        pass


def test_keys_come_from_the_environment_and_own_fields_from_nowhere_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SERVER_KEY", raising=False)
    with pytest.raises(ConfigError, match="engine: the environment variable SERVER_KEY is not set"):
        engine("http://h", api_key_env="SERVER_KEY")
    with pytest.raises(ValidationError, match=r"extra_body\.temperature: every request sets this field"):
        engine("http://h", extra_body={"temperature": 1})
