"""Reading YAML that a person has written."""

from __future__ import annotations

import re
from typing import Any

import yaml

from pasture.errors import InputError


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; YAML's own loader silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := [key for key in keys if keys.count(key) > 1]:
            problem = f"the key {twice[0]!r} stands twice in one mapping"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-4 as text, because it has no point; YAML 1.2 and people who write it mean a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(content: str | bytes, source: str) -> Any:
    """The values of a YAML text; None for an empty one.

    Raises:
        InputError: not YAML, or a key that stands twice.
    """
    try:
        return yaml.load(content, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # an impossible date is a ValueError
        raise InputError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from None
