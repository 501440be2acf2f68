"""`arpo config docs`: every key is there, every section once, every type under a heading."""

import re
from collections import Counter
from typing import get_args, get_origin

import pytest

from arpo.cli.commands.config import COMMON
from arpo.cli.kinds import KINDS, config_class
from arpo.cli.main import main
from arpo.config import Config, config_keys
from arpo.config.base import sections, type_of


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> str:
        assert main(["config", "docs", *arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_stands_there_once_or_its_section_is_said_to_be_as_another(printed, kind: str) -> None:
    text = printed(kind)
    written = re.findall(r"^  --(\S+)=  ", text, re.MULTILINE)
    repeated = dict(re.findall(r"^  --(\S+)\.\*  as (\S+)", text, re.MULTILINE))
    assert set(repeated.values()) <= set(re.findall(r"^\[([^]]+)\]", text, re.MULTILINE))
    for key, *_ in config_keys(config_class(kind)):
        is_named = any(name.startswith(f"{key}.<name>.") for name in [*written, *repeated])  # sections by names of one's own
        assert key in written or key.endswith(".type") or is_named or any(key.startswith(f"{n}.") for n in repeated), key
    for key, count in Counter(written).items():
        declared = {meaning for k, _, _, meaning in config_keys(config_class(kind)) if k == key}
        assert count <= max(1, len(declared) + 1), "apart for types that declare it apart"


def test_the_page_has_every_section_once_and_every_link_a_heading(printed) -> None:
    page = printed("--markdown")
    headings = re.findall(r"^#{2,3} (.+)$", page, re.MULTILINE)
    assert [title for title, count in Counter(headings).items() if count > 1] == []
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert len(links) > 40
    assert set(links) <= anchors
    for kind in KINDS:
        open_, seen = [config_class(kind)], set[type[Config]]()
        while open_:
            cls = open_.pop()
            if cls in seen:
                continue
            seen.add(cls)
            for name, field in cls.model_fields.items():
                named = get_origin(field.annotation) is dict
                classes = sections(get_args(field.annotation)[1] if named else field.annotation)
                assert f"`{name}`" in page or f"`{name}.<name>`" in page or name == "type"
                open_ += classes
                if len(classes) > 1:
                    for section in classes:
                        assert f"#### {name}.type = {type_of(section)!r}\n" in page, section


def test_the_page_is_short(printed) -> None:
    """A table of all dotted keys, as there was, has 227,000 characters."""
    assert len(printed("--markdown")) < 227_000 / 3


@pytest.mark.parametrize("kind", COMMON)
def test_the_common_keys_are_about_twenty_and_keys_of_the_command(printed, kind: str) -> None:
    text = printed(kind, "--common")
    assert re.findall(r"^  --(\S+)=  ", text, re.MULTILINE) == list(COMMON[kind])
    assert set(COMMON[kind]) <= {key for key, *_ in config_keys(config_class(kind))}
    assert 18 <= len(COMMON[kind]) <= 23
    required = {n for n, f in config_class(kind).model_fields.items() if f.is_required() and not sections(f.annotation)}
    assert required <= set(COMMON[kind])
    assert "'transformers' | 'vllm' | 'openai'" in text or kind == "sft"


def test_common_keys_of_all_and_of_a_command_that_has_none(printed, capsys: pytest.CaptureFixture[str]) -> None:
    assert all(f"{kind}: the common keys" in printed("--common") for kind in COMMON)
    assert "- `model.path` `Path` = `(required)`: " in printed("rl", "--common", "--markdown")
    assert main(["config", "docs", "world", "--common"]) == 2
    assert "--common with world: there is no such list; leave it out, or name rl, sft, eval" in capsys.readouterr().err


def test_keys_of_types_stand_under_the_types_and_shared_ones_before(printed) -> None:
    text = printed("rl")
    rule = text[text.index("[rollout.rule]") : text.index("[reward]")]
    assert "  -- rule.type = 'none': Independent trajectories" in rule
    assert (
        rule.index("-- rule.type = 'arpo' or 'aepo'\n")
        < rule.index("--rollout.rule.alpha=")
        < rule.index("-- rule.type = 'none'")
    )
    assert "[model]  A policy to train. (model = VALUE sets path)" in text
    assert "--agent.tools.browse.summary.*  as agent.tools.search.summary" in text
