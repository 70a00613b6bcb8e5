"""Defaults of the user: forage.toml in the working directory, or the file that $FORAGE_CONFIG names.

[sweep]
trials = 100
gpus-per-trial = 1
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Final

import typer

from forage.terminal.messages import print_json, show
from forage.terminal.options import JsonOption
from pasture.errors import InputError

NAME: Final = "forage.toml"
VARIABLES: Final = ("FORAGE_CONFIG", "FORAGE_CACHE", "FORAGE_CACHE_LIMIT")


def config(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the defaults that forage.toml sets, and the environment variables that forage reads."""
    file = config_file()
    group = context.find_root().command
    defaults = {} if file is None else read_defaults(group, file)
    variables = {name: os.environ.get(name) for name in VARIABLES}
    if as_json:
        print_json({"file": str(file) if file else None, "defaults": defaults, "environment": variables})
        return
    show(f"{file}:" if file else f"no {NAME} here")
    for command, options in defaults.items():
        for name, value in options.items():
            show(f"  forage {command} --{name.replace('_', '-')}: {value}")
    for name, text in variables.items():
        show(f"{name}: {text or 'not set'}")


def config_file() -> Path | None:
    """The file with the user's defaults; None if there is none.

    Raises:
        InputError: $FORAGE_CONFIG names a file that does not exist.
    """
    if named := os.environ.get("FORAGE_CONFIG"):
        if not Path(named).is_file():
            raise InputError(f"FORAGE_CONFIG={named}: no such file")
        return Path(named)
    return Path(NAME) if Path(NAME).is_file() else None


def read_defaults(group: Any, file: Path) -> dict[str, dict[str, Any]]:
    """Defaults by command and parameter, as the command line takes them.

    Args:
        group: the commands of forage.
        file: a TOML file: a table for each command, a key for each option, without the dashes in front.

    Raises:
        InputError: not a TOML file, or it names a command or an option that does not exist.
    """
    try:
        content = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{file}: not a readable TOML file ({error})") from None
    result: dict[str, dict[str, Any]] = {}
    for name, options in content.items():
        command = group.commands.get(name)
        if command is None or hasattr(command, "commands") or not isinstance(options, dict):
            raise InputError(f"{file}: {name}: expected tables named after commands, such as [sweep]")
        known = {word.removeprefix("--"): p.name for p in command.params for word in p.opts if word.startswith("--")}
        if unknown := [option for option in options if option not in known]:
            raise InputError(f"{file}: [{name}] {unknown[0]}: forage {name} has no option --{unknown[0]}")
        result[name] = {known[option]: value for option, value in options.items()}
    return result
