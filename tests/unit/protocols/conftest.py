"""Tokenizers whose chat templates take tools, in the style of Qwen and of Llama 3, and the tools' schemas."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from arpo.protocols.encoding import PolicyTokenizer

QWEN = """\
{%- if tools %}<|im_start|>system
{{ messages[0].content + '\\n\\n' if messages[0].role == 'system' }}# Tools
<tools>
{%- for tool in tools %}
{{- '\\n' }}{{ tool | tojson }}
{%- endfor %}{{ '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
{%- if m.role == 'user' %}{{ '<|im_start|>user\\n' + m.content + '<|im_end|>\\n' }}
{%- elif m.role == 'assistant' %}{{ '<|im_start|>assistant\\n' }}
{%- if loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ m.content }}
{%- for call in m.tool_calls %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"""
"""Like Qwen 3's: the last turn of the assistant opens with an empty reasoning block, earlier ones do not."""

LLAMA = """\
{{- bos_token }}{{ '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{{- 'Today Date: ' + (date_string if date_string is defined else strftime_now('%d %b %Y')) + '\\n\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% set messages = messages[1:] %}{% endif %}
{{- '<|eot_id|><|start_header_id|>user<|end_header_id|>\\n\\n' }}
{%- for tool in tools or [] %}{{ tool | tojson(indent=4) + '\\n\\n' }}{% endfor %}
{{- messages[0].content | trim + '<|eot_id|>' }}
{%- for m in messages[1:] %}
{%- if m.tool_calls %}
{%- if m.tool_calls | length > 1 %}{{ raise_exception('single tool-calls only') }}{% endif %}
{%- set call = m.tool_calls[0].function %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
{{- call.arguments | tojson + '}<|eot_id|>' }}
{%- elif m.role == 'tool' %}{{ '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + m.content | tojson + '<|eot_id|>' }}
{%- else %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""
"""Like Llama 3.1's: the tools stand in the first message of the user, results are JSON strings, and it prints the date."""

QWEN_CODER = """\
{%- macro show(fields) %}
{%- for key, value in fields | items if key not in ('type', 'description') %}
{{- '\\n<' ~ key ~ '>' }}
{{- value | tojson if value is mapping or value is sequence and value is not string else value | string }}
{{- '</' ~ key ~ '>' }}
{%- endfor %}
{%- endmacro %}
{%- if messages[0].role == 'system' %}{% set about = messages[0].content %}{% set rest = messages[1:] %}
{%- else %}{% set about = 'You help.' if tools else '' %}{% set rest = messages %}{% endif %}
{%- if about or tools %}{{ '<|im_start|>system\\n' + about }}
{%- if tools %}{{ '\\n\\n# Tools\\n\\n<tools>' }}
{%- for tool in tools %}{% set f = tool.function if tool.function is defined else tool %}
{{- '\\n<function>\\n<name>' ~ f.name ~ '</name>\\n<description>' ~ (f.description | trim) ~ '</description>\\n<parameters>' }}
{%- if f.parameters is mapping and f.parameters.properties is mapping %}
{%- for name, about in f.parameters.properties | items %}
{{- '\\n<parameter>\\n<name>' ~ name ~ '</name>' }}
{%- if about.type is defined %}{{ '\\n<type>' ~ about.type ~ '</type>' }}{% endif %}
{{- show(about) ~ '\\n</parameter>' }}
{%- endfor %}{{ show(f.parameters) }}
{%- endif %}{{ '\\n</parameters>\\n</function>' }}
{%- endfor %}
{{- '\\n</tools>\\n\\nCall one as <tool_call>\\n<function=name>' }}
{{- '\\n<parameter=key>\\nvalue\\n</parameter>\\n</function>\\n</tool_call>' }}
{%- endif %}{{ '<|im_end|>\\n' }}{% endif %}
{%- for m in rest %}
{%- if m.role == 'assistant' and m.tool_calls is defined and m.tool_calls %}{{ '<|im_start|>assistant' }}
{%- if m.content is string and m.content | trim %}{{ '\\n' + m.content | trim + '\\n' }}{% endif %}
{%- for call in m.tool_calls %}{% set call = call.function if call.function is defined else call %}
{{- '\\n<tool_call>\\n<function=' + call.name + '>\\n' }}
{%- for key, value in call.arguments | items %}{{ '<parameter=' + key + '>\\n' }}
{{- value | tojson if value is mapping or value is sequence and value is not string else value | string }}
{{- '\\n</parameter>\\n' }}{% endfor %}{{ '</function>\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{%- if loop.previtem is defined and loop.previtem.role != 'tool' %}{{ '<|im_start|>user\\n' }}{% endif %}
{{- '<tool_response>\\n' + m.content + '\\n</tool_response>\\n' }}
{%- if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
"""Like Qwen3-Coder's: tools and calls are tags, a value stands between line breaks, and constants are Python's."""

SCHEMAS: dict[str, Any] = {
    "search": {
        "type": "object", "description": "Looks pages up.",
        "properties": {"query": {"type": "string", "description": "words"}}, "required": ["query"],
    },
    "python": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
}  # fmt: skip


@pytest.fixture(scope="session")
def load_with_template(
    make_tokenizer_directory: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., PolicyTokenizer]:
    """A function that gives the tokenizer of a style with a template, the tags of tool calls being added tokens."""

    def load(style: str, template: str) -> PolicyTokenizer:
        directory = make_tokenizer_directory(tmp_path_factory.mktemp(style), style)
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        if style == "qwen3":
            tokenizer.add_tokens([AddedToken(f"<{s}tool_response>", special=False, normalized=False) for s in ("", "/")])
        tokenizer.save(str(directory / "tokenizer.json"))
        (directory / "chat_template.jinja").write_text(template)
        return PolicyTokenizer.load(directory)

    return load


@pytest.fixture(scope="session")
def qwen(load_with_template: Callable[..., PolicyTokenizer]) -> PolicyTokenizer:
    """In the style of Qwen 3."""
    return load_with_template("qwen3", QWEN)


@pytest.fixture(scope="session")
def qwen_coder(load_with_template: Callable[..., PolicyTokenizer]) -> PolicyTokenizer:
    """In the style of Qwen3-Coder."""
    return load_with_template("qwen3", QWEN_CODER)


@pytest.fixture(scope="session")
def llama(load_with_template: Callable[..., PolicyTokenizer]) -> PolicyTokenizer:
    """In the style of Llama 3.1."""
    return load_with_template("llama3", LLAMA)
