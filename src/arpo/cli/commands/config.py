"""`arpo config docs`: every configuration key with its type, default and meaning."""

import argparse
import re
from collections.abc import Iterator, Mapping
from typing import Any

from arpo.cli.kinds import KINDS, config_class
from arpo.cli.output import add_command, result_console
from arpo.config import Section, all_sections, config_keys
from arpo.errors import ConfigError

_EXAMPLES = """\
  arpo config docs rl --common                             the twenty keys of a first run of `arpo train`
  arpo config docs rl                                      all its keys
  arpo config docs                                         every key of every command
  arpo config docs rl --markdown > rl.md
"""

COMMON: Mapping[str, tuple[str, ...]] = {
    "rl": (
        "out", "algorithm", "seed", "model.path", "model.dtype", "model.lora.rank", "tasks", "num_steps", "tasks_per_step",
        "rollout.group_size", "agent.protocol.type", "agent.protocol.tools", "agent.limits.max_turn_tokens",
        "agent.limits.max_trajectory_tokens", "batching.max_tokens", "engine.type", "reward.rule", "loss.kl.coefficient",
        "optimizer.learning_rate", "validation.tasks", "checkpoint.every", "tracking.sinks",
    ),
    "sft": (
        "out", "seed", "model.path", "model.dtype", "model.lora.rank", "model.gradient_checkpointing", "data", "protocol.type",
        "protocol.tools", "num_epochs", "max_seconds", "batch_tokens", "max_tokens", "batching.max_tokens",
        "optimizer.learning_rate", "optimizer.schedule", "optimizer.warmup_steps", "validation.fraction", "checkpoint.every",
        "tracking.sinks",
    ),
    "eval": (
        "out", "seed", "model.path", "model.dtype", "tasks", "num_tasks", "benchmark", "grader", "greedy", "num_samples",
        "temperature", "agent.protocol.type", "agent.protocol.tools", "agent.limits.max_turn_tokens",
        "agent.limits.max_trajectory_tokens", "engine.type", "engine.base_url", "engine.model", "reward.rule",
        "max_live_trajectories",
    ),
}  # fmt: skip
"""Command -> the keys of a first run."""

_HEADING = """\
# Configuration

Every key of every command; `make docs` writes this page from the code. A key that is a section links to the section's keys;
behind `=` is the default. `arpo config docs rl --common` prints the twenty keys of a first run.

A value in place of a section sets its short key, where it has one: `model = "path"` is `model.path`, `loss = "gspo"` is
`loss.type`. One value stands for a list of one: `tracking.sinks = "wandb"`. On the command line a key is `--model.path=VALUE`.
"""

_FIRST = ("rl", "sft", "eval")
"""Commands whose places name the sections."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "config", "explain configuration keys", _EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    docs = add_command(actions, "docs", "print every key with its type, default and meaning", _EXAMPLES)
    docs.add_argument("section", nargs="?", choices=list(KINDS), help="one command's keys (default: all)")
    docs.add_argument("--common", action="store_true", help=f"the keys of a first run alone, of {', '.join(COMMON)}")
    docs.add_argument("--markdown", action="store_true", help="print docs/config.md, or its part on the command")
    docs.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the keys.

    Raises:
        ConfigError: `--common` with a command that has no such list.
    """
    if args.common and args.section not in (None, *COMMON):
        raise ConfigError(f"--common with {args.section}: there is no such list; leave it out, or name {', '.join(COMMON)}")
    names = [args.section] if args.section else list(COMMON if args.common else KINDS)
    if args.common:
        lines = [line for name in names for line in _common(name, is_markdown=args.markdown)]
    elif args.markdown:
        lines = list(_page(names))
    else:
        lines = [line for name in names for line in _plain(name)]
    result_console().out("\n".join(lines))
    return 0


def _common(name: str, *, is_markdown: bool) -> Iterator[str]:
    """The common keys; a key that types declare apart is of the first of them, and `type` names them all."""
    rows = dict[str, list[tuple[str, str, str, str]]]()
    for key, kind, default, meaning in config_keys(config_class(name)):
        rows.setdefault(key, []).append((key, kind, "none" if default is None else str(default), meaning))
    first = [rows[key][0] for key in COMMON[name]]
    chosen = [
        (key, " | ".join(row[1] for row in rows[key]), default, " ".join(row[3] for row in rows[key]))
        if key.endswith(".type")
        else (key, kind, default, meaning)
        for key, kind, default, meaning in first
    ]
    if is_markdown:
        yield from (f"## {name}: `{KINDS[name][0]}`, the common keys", "")
        yield from (_item(f"`{key}` `{kind}`", default, meaning) for key, kind, default, meaning in chosen)
        yield ""
        return
    yield from (f"{name}: the common keys of `{KINDS[name][0]}`; all of them: `arpo config docs {name}`", "")
    for row in chosen:
        yield from _entry(*row)
    yield ""


def _plain(name: str) -> Iterator[str]:
    """The keys of a command, every section with its whole dotted keys; a section that comes again is named alone."""
    seen = dict[tuple[type, ...], Section]()
    listed = list(all_sections(config_class(name), seen))
    yield from (f"{name}: the keys of `{KINDS[name][0]}`", "")
    for section in listed:
        prefix = f"{section.place}." if section.place else ""
        if section.place:
            yield f"[{section.place}]{_words(section)}"
        for group in section.groups:
            if group.types:
                yield f"  -- {_types(section, group.types)}{_one_line(group.about, ': ')}"
            for key in group.keys:
                if not key.classes:
                    yield from _entry(f"{prefix}{key.name}", key.type, key.default, key.meaning(prefix))
                elif (place := seen[key.classes].place) != f"{prefix}{key.name}":
                    default = f"  [{key.default}]" if key.default else ""
                    yield f"  --{prefix}{key.name}.*  as {place}{default}"
        yield ""


def _words(section: Section) -> str:
    """What a section is, and its short form."""
    short = f" ({section.place} = VALUE sets {section.short_key})" if section.short_key else ""
    return f"{_one_line(section.about, '  ')}{short}"


def _entry(key: str, kind: str, default: str, meaning: str) -> Iterator[str]:
    yield f"  --{key}=  {kind}  [{default}]"
    yield from (f"      {line}" for line in meaning.splitlines())


def _page(names: list[str]) -> Iterator[str]:
    """The keys of the commands, then those of their sections, each once."""
    seen, titles = dict[tuple[type, ...], Section](), dict[tuple[type, ...], str]()
    for name in dict.fromkeys(name for name in (*_FIRST, *KINDS) if name in names):
        for section in all_sections(config_class(name), seen):
            is_taken = section.place in titles.values()
            titles[section.classes] = f"{section.place} ({name})" if is_taken else section.place
    yield from [_HEADING] if len(names) > 1 else []
    for name in names:
        yield f"## {name}: `{KINDS[name][0]}`"
        yield from _items(seen[(config_class(name),)], titles)
    yield from ("## Sections", "")
    for section in seen.values():
        if section.place:
            yield from (f"### {titles[section.classes]}", _introduction(section))
            yield from _items(section, titles)


def _introduction(section: Section) -> str:
    short = f" Short: `{section.place.rsplit('.', 1)[-1]} = VALUE` sets `{section.short_key}`." if section.short_key else ""
    also = [place for place in dict.fromkeys(section.also) if place != section.place]
    places = f" Also {', '.join(f'`{place}`' for place in also)}." if also else ""
    return _one_line(f"{section.about or 'One of several types.'}{short}{places}")


def _items(section: Section, titles: Mapping[tuple[type, ...], str]) -> Iterator[str]:
    yield ""
    for group in section.groups:
        if group.types:
            yield f"#### {_types(section, group.types)}"
        yield from [_one_line(group.about), *([""] if group.keys else [])] if group.about else []
        for key in group.keys:
            name = f"[`{key.name}`](#{_anchor(titles[key.classes])})" if key.classes else f"`{key.name}` `{key.type}`"
            yield _item(name, key.default, key.meaning())
        yield ""


def _item(name: str, default: str, meaning: str) -> str:
    return f"- {name}{f' = `{default}`' if default else ''}: {_one_line(meaning)}"


def _anchor(title: str) -> str:
    """The address of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _types(section: Section, types: tuple[str, ...]) -> str:
    name = f"{section.place.rsplit('.', 1)[-1]}.type"
    return f"{name} = {' or '.join(f'{type_!r}' for type_ in types)}"


def _one_line(text: str, before: str = "") -> str:
    return f"{before}{' '.join(text.split())}" if text else ""
