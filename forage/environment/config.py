"""Defaults of the user: forage.toml in the working directory (or the file $FORAGE_CONFIG), and environment variables.

[sweep]
trials = 100
gpus-per-trial = 1

FORAGE_SWEEP_TRIALS=100 sets the same option. The command line goes before a variable, a variable before the file.
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

Defaults = dict[str, dict[str, Any]]
"""By command and parameter, as the command line takes them."""


def config(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the defaults that forage.toml and the environment set, and the other variables that forage reads."""
    file = config_file()
    group = context.find_root().command
    from_file = {} if file is None else read_defaults(group, file)
    from_environment = read_environment(group)
    variables = {name: os.environ.get(name) for name in VARIABLES}
    if as_json:
        print_json(
            {
                "file": str(file) if file else None,
                "defaults": from_file,
                "environment_defaults": from_environment,
                "environment": variables,
            }
        )
        return
    show(f"{file}:" if file else f"no {NAME} here")
    _show_defaults(group, from_file)
    if from_environment:
        show("environment, before the file:")
        _show_defaults(group, from_environment)
    for name, text in variables.items():
        show(f"{name}: {text or 'not set'}")


def _show_defaults(group: Any, defaults: Defaults) -> None:
    for command, options in defaults.items():
        words = {parameter.name: word for word, parameter in _options(group.commands[command]).items()}
        for name, value in options.items():
            show(f"  forage {command} --{words[name]}: {value}")


def read_all_defaults(group: Any) -> Defaults:
    """The defaults of the file, overridden by those of the environment.

    Raises:
        InputError: see `config_file`, `read_defaults` and `read_environment`.
    """
    defaults = read_defaults(group, file) if (file := config_file()) else {}
    for command, options in read_environment(group).items():
        defaults[command] = defaults.get(command, {}) | options
    return defaults


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


def read_defaults(group: Any, file: Path) -> Defaults:
    """Defaults of a file.

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
    result: Defaults = {}
    for name, options in content.items():
        command = group.commands.get(name)
        if command is None or hasattr(command, "commands") or not isinstance(options, dict):
            raise InputError(f"{file}: {name}: expected tables named after commands, such as [sweep]")
        known = _options(command)
        if unknown := [option for option in options if option not in known]:
            raise InputError(f"{file}: [{name}] {unknown[0]}: forage {name} has no option --{unknown[0]}")
        result[name] = {known[option].name: value for option, value in options.items()}
    return result


def read_environment(group: Any) -> Defaults:
    """Defaults of the variables FORAGE_<COMMAND>_<OPTION>, in capitals and with underscores for dashes.

    An empty variable counts as not set. An option that may be repeated takes several values, separated by spaces.

    Raises:
        InputError: a variable names an option that its command does not have.
    """
    result: Defaults = {}
    for name, command in group.commands.items():
        prefix = f"FORAGE_{name.upper().replace('-', '_')}_"
        if hasattr(command, "commands"):
            continue
        known = _options(command)
        for variable, text in os.environ.items():
            if not text or not variable.startswith(prefix):
                continue
            option = variable.removeprefix(prefix).lower().replace("_", "-")
            if option not in known:
                raise InputError(f"{variable}: forage {name} has no option --{option}; unset the variable")
            parameter = known[option]
            result.setdefault(name, {})[parameter.name] = text.split() if parameter.multiple else text
    return result


def _options(command: Any) -> dict[str, Any]:
    """The options of a command by their names without dashes in front."""
    return {word.removeprefix("--"): p for p in command.params for word in p.opts if word.startswith("--")}
