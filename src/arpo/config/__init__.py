"""The base of every configuration class, and the loader: TOML files plus dotted overrides.

A configuration class is in the package that it configures; configurations of whole runs are composed at the top. The string
under each field documents its key; `arpo config docs` prints it.
"""

from arpo.config.base import SECRET, SECRET_ERROR, Config, merge_keys, with_long_forms, without_other_types
from arpo.config.functions import function_names, functions_within, map_functions
from arpo.config.keys import config_keys, dotted, value_at
from arpo.config.load import dump_config, load_config, parse_config, read_toml
from arpo.config.reference import Key, Section, all_sections

__all__ = [
    "SECRET",
    "SECRET_ERROR",
    "Config",
    "Key",
    "Section",
    "all_sections",
    "config_keys",
    "dotted",
    "dump_config",
    "function_names",
    "functions_within",
    "load_config",
    "map_functions",
    "merge_keys",
    "parse_config",
    "read_toml",
    "value_at",
    "with_long_forms",
    "without_other_types",
]
