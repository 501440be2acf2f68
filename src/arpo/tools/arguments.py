"""Checks the arguments of calls by the JSON schemas of the tools, for every tool and protocol."""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import Draft202012Validator, extend, validator_for
from referencing import Registry

from arpo.errors import ToolError

_MOST_CHARACTERS = 300


class ArgumentChecker:
    """Says what a call's arguments break in a tool's schema.

    Regular expressions are not checked: one that never ends would stop every trajectory. The tool, or its server, checks them.

    Args:
        whose: words for errors, such as "tool 'search'".
        schema: JSON schema of the arguments.

    Raises:
        ToolError: the schema is not a JSON schema.

    Example:
        ArgumentChecker("tool 'python'", {"properties": {"code": {"type": "string"}}}).fault({"code": 3})
        # -> "argument 'code': 3 is not of type 'string'. The arguments are: code (string, optional)."
    """

    def __init__(self, whose: str, schema: Mapping[str, Any]) -> None:
        cls = validator_for(schema, default=Draft202012Validator)
        try:
            cls.check_schema(dict(schema))
        except SchemaError as error:
            raise ToolError(f"{whose}: the arguments have no valid schema: {error.message}") from error
        self._validator = extend(cls, _WITHOUT_PATTERNS)(schema, registry=Registry())  # empty: nothing is fetched
        self._schema = schema

    def fault(self, arguments: Mapping[str, Any]) -> str:
        """What the arguments break and what the tool takes, in words for the model; empty when they fit."""
        try:
            fault = best_match(self._validator.iter_errors(dict(arguments)))
        except Exception as error:  # a reference that leads nowhere or in a circle: foreign schemas must not stop us
            return f"its schema cannot be followed: {type(error).__name__}: {error}"
        if fault is None:
            return ""
        where = ".".join(str(part) for part in fault.absolute_path)
        message = f"argument {where!r}: {fault.message}" if where else fault.message
        if len(message) > _MOST_CHARACTERS:
            message = f"{message[: _MOST_CHARACTERS // 2]} ... {message[-_MOST_CHARACTERS // 2 :]}"
        return f"{message}. {self._expected()}"

    def _expected(self) -> str:
        required = self._schema.get("required", ())
        kinds = {name: about.get("type", "") for name, about in self._schema.get("properties", {}).items()}
        facts = {
            name: [kind if isinstance(kind, str) else " or ".join(kind), "" if name in required else "optional"]
            for name, kind in kinds.items()
        }
        shown = [f"{name} ({', '.join(filter(None, known))})" if any(known) else name for name, known in facts.items()]
        return f"The arguments are: {', '.join(shown)}." if shown else "It takes no arguments."


def _allow(*_: Any) -> Iterator[ValidationError]:
    yield from ()


def _additional_properties(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if "patternProperties" not in schema:
        yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, value, instance, schema)


_WITHOUT_PATTERNS = {
    "pattern": _allow,
    "patternProperties": _allow,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _allow,
}
