"""A chat template that the configured protocol does not fit ends every command at once: exit code 2, one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

NO_TOOLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Shows no tools and drops calls, as the template of a small chat model."""
LISTS_TOOLS = "{% for tool in tools or [] %}{{ tool | tojson }}\n{% endfor %}" + NO_TOOLS
OWN_CALLS = LISTS_TOOLS.replace(
    "{{ m.content }}",
    "{{ m.content }}{% for c in m.tool_calls or [] %}CALL {{ c.function.name }} {{ c.function.arguments }}{% endfor %}",
)
CODER = LISTS_TOOLS.replace(
    "{{ m.content }}",
    "{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>\n<function={{ call.function.name }}>\n"
    "{% for key, value in call.function.arguments | items %}<parameter={{ key }}>\n{{ value }}\n</parameter>\n{% endfor %}"
    "</function>\n</tool_call>{% endfor %}",
)
COMMANDS = ["train", "sft", "eval", "rollout"]


@pytest.fixture
def refuse(arpo, domain, write_toml, tmp_path: Path):
    """Runs a command with a model of this template and a protocol; returns the one line that it says."""

    def run(command: str, template: str | None, protocol: str, **changes: Any) -> str:
        model = tmp_path / "model"
        shutil.copytree(domain.path / "policy", model)
        save_file({"other": torch.zeros(1)}, model / "model.safetensors")  # weights whose fault would be found later
        if template is None:
            settings = json.loads((model / "tokenizer_config.json").read_text())
            settings.pop("chat_template")
            (model / "tokenizer_config.json").write_text(json.dumps(settings))
        else:
            (model / "chat_template.jinja").write_text(template)
        out, section = tmp_path / "out", {"type": protocol, "system_prompt": ""} | changes
        agent = domain.agent | {"protocol": section}
        if command == "sft":
            config = domain.sft(out, protocol=section, tools={k: domain.agent["tools"][k] for k in ("python", "search")})
        elif command == "rollout":
            rl = domain.rl(out)
            config = {key: rl[key] for key in ("out", "tasks", "num_threads", "rollout")} | {"agent": agent}
        else:
            config = (domain.rl if command == "train" else domain.evaluation)(out, agent=agent)
        config["model"] = {"path": str(model), "device": "cpu"}
        result = arpo(command, write_toml(tmp_path / "config.toml", config))
        assert result.code == 2, result.stderr
        [line] = result.stderr.splitlines()
        return line

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_a_template_that_no_protocol_fits(refuse, tmp_path: Path, command: str):
    line = refuse(command, OWN_CALLS, "hermes")
    assert str(tmp_path / "model" / "chat_template.jinja") in line
    assert "with protocol.type = 'hermes', one of tags, hermes, llama3_json, qwen3_coder: " in line
    assert "CALL search {" in line or "CALL python {" in line
    assert "the format of none of hermes, llama3_json, qwen3_coder; use the template" in line
    assert line.endswith("or protocol.type = 'tags'")


def test_a_template_of_another_protocol(refuse):
    line = refuse("eval", CODER, "hermes")
    assert "not the format of 'hermes' but that of 'qwen3_coder'; set protocol.type to that" in line


def test_a_template_without_tools_and_no_template(refuse, tmp_path: Path):
    line = refuse("eval", NO_TOOLS, "qwen3_coder")
    assert str(tmp_path / "model" / "chat_template.jinja") in line
    assert "it does not show the tool '" in line
    shutil.rmtree(tmp_path / "model")
    line = refuse("eval", None, "qwen3_coder")
    assert f"{tmp_path / 'model'}" in line
    assert "the tokenizer has none" in line


def test_a_template_that_cannot_carry_a_question_under_tags(refuse, tmp_path: Path):
    line = refuse("train", "{% for m in messages %}{{ m.role }}{% endfor %}", "tags")
    assert str(tmp_path / "model" / "chat_template.jinja") in line
    assert "leaves a question out" in line
