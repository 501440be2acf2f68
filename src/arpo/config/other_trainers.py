"""Keys of TRL and verl beside ours: errors answer them, and docs/coming_from.md prints them."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class OtherKey:
    """A key of another trainer."""

    names: tuple[str, ...]
    """Its spellings; a dotted one is the end of the whole key, e.g. `rollout.n` of `actor_rollout_ref.rollout.n`."""
    trainer: str
    """`TRL` (with transformers and PEFT), `verl`, or `TRL and verl`."""
    ours: tuple[str, ...]
    """Our dotted keys, of `arpo train`, `arpo sft` or `arpo eval`; empty: there is none."""
    note: str
    """What differs; without a key of ours, what arpo does instead. May be empty beside a key."""

    def covers(self, section: str) -> bool:
        """Whether it answers every key of a section of that name: arpo needs none of them."""
        return not self.ours and not any(name.startswith(f"{section}.") for rows in other_keys().values() for r in rows
                                         for name in r.names)  # fmt: skip


@cache
def other_keys() -> dict[str, tuple[OtherKey, ...]]:
    """The rows of `other_trainers.toml` by subject."""
    text = (resources.files("arpo.config") / "other_trainers.toml").read_text(encoding="utf-8")
    return {
        subject: tuple(
            OtherKey(tuple(r["names"]), r.get("of", "TRL and verl"), tuple(r.get("ours", ())), r.get("note", "")) for r in rows
        )
        for subject, rows in tomllib.loads(text).items()
    }


def find_other_key(key: str) -> OtherKey | None:
    """The row of a dotted key, that of its longest ending; None: it is no key of another trainer.

    Example: find_other_key("actor_rollout_ref.rollout.n").ours -> ("rollout.group_size",)
    """
    by_name = {name: row for rows in other_keys().values() for row in rows for name in row.names}
    parts = key.split(".")
    endings = (".".join(parts[start:]) for start in range(len(parts)))
    return next((by_name[ending] for ending in endings if ending in by_name), None)


def other_keys_markdown() -> str:
    """The tables of docs/coming_from.md, one per subject."""
    lines = list[str]()
    for subject, rows in other_keys().items():
        lines += [f"### {subject}", "", "| there | of | here | what differs |", "|---|---|---|---|"]
        for row in rows:
            there, here = (", ".join(f"`{name}`" for name in names) for names in (row.names, row.ours))
            lines.append(f"| {there} | {row.trainer} | {here or 'none'} | {row.note} |")
        lines.append("")
    return "\n".join(lines)
