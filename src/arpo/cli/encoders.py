"""The protocol and tokenizer with which `arpo data` reads rows: those of a run, or of a model alone."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from arpo.cli.output import progress
from arpo.errors import ConfigError

if TYPE_CHECKING:
    from arpo.data.check import Encoder, Kind
    from arpo.protocols.encoding import PolicyTokenizer

_KINDS = {"conversations": ("sft",), "tasks": ("rl", "rollout", "eval")}
"""What rows are -> recipes that read such rows, the first of which counts."""


class Encoders:
    """Encoders by what rows are, made when a file needs them."""

    def __init__(self, recipe: str | None, model: Path | None) -> None:
        """Use protocol, tools and model of a recipe or TOML file; `model` replaces its model; alone: the tag protocol."""
        self._recipe, self._model = recipe, model
        self._made = cache(self._make)

    def of_file(self, path: Path) -> "Encoder | None":
        """The encoder for the rows of a file; None without a recipe and without a model.

        Raises:
            ConfigError, DataError, ModelError, ToolError: as their messages say.
        """
        from arpo.data.conversations import holds_conversations
        from arpo.files.sources import open_source

        if self._recipe is None and self._model is None:
            return None
        return self._made("conversations" if holds_conversations(open_source(path), or_both=True) else "tasks")

    def _make(self, kind: "Kind") -> "Encoder":
        from arpo.data.check import Encoder
        from arpo.protocols.build import build_protocol
        from arpo.protocols.config import TagProtocolConfig
        from arpo.tools.build import tool_schemas

        if self._recipe is None:
            tokenizer = self._tokenizer(self._model)
            return Encoder(build_protocol(TagProtocolConfig(), tokenizer, {}), tokenizer)
        run = _load_run(self._recipe, kind)
        protocol, tools = (run.protocol, run.tools) if run.agent is None else (run.agent.protocol, run.agent.tools)
        tokenizer = self._tokenizer(self._model or (run.model and run.model.path), run.model and run.model.revision)
        read_as: Kind = "conversations" if run.agent is None else "tasks"
        return Encoder(build_protocol(protocol, tokenizer, tool_schemas(tools)), tokenizer, protocol, read_as)

    def _tokenizer(self, model: Path | None, revision: str | None = None) -> "PolicyTokenizer":
        from arpo.models.source import find_model
        from arpo.protocols.encoding import PolicyTokenizer

        if model is None:
            raise ConfigError(f"--config {self._recipe}: it names no model; add --model DIR, whose tokenizer is used")
        label, revision = (f"--model {model}", None) if model is self._model else ("model.path", revision)
        return PolicyTokenizer.load(find_model(model, revision, label=label, progress=progress(), needs_weights=False))


def _load_run(recipe: str, kind: "Kind"):
    """Protocol, tools and model of any run's configuration."""
    from arpo.config import Config, load_config
    from arpo.models.config import TrainedModelConfig
    from arpo.protocols.config import ProtocolConfig, TagProtocolConfig
    from arpo.recipes import find_recipe, recipe_names
    from arpo.rollout.config import AgentConfig
    from arpo.tools.config import ToolsConfig

    class Run(Config, extra="ignore"):
        model: TrainedModelConfig | None = None
        agent: AgentConfig | None = None
        protocol: ProtocolConfig = TagProtocolConfig()
        tools: ToolsConfig = ToolsConfig()

    kinds = _KINDS[kind]
    of_recipe = next((name for name in kinds if recipe in recipe_names(name)), kinds[0])
    return load_config(Run, find_recipe(recipe, of_recipe))
