"""Pydantic validation with errors of one line."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pasture.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], content: Any, source: str) -> Model:
    """An instance of a pydantic model.

    Args:
        model: what is expected.
        content: plain values, as read from YAML, JSON or the command line.
        source: file or option that the content comes from; the error begins with it.

    Raises:
        InputError: naming the source, the field, its value and what is allowed.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{source}: {first_error(error)}") from None


def first_error(error: ValidationError) -> str:
    """`field=value: what is expected` of the first error; a validator's own message replaces the value."""
    first = error.errors()[0]
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    field = "".join(parts).removeprefix(".")
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
        return message if not field or message.startswith(field) else f"{field}: {message}"
    if first["type"] == "extra_forbidden":
        return f"unknown key {field!r}"
    if first["type"] == "missing":
        return f"{field} is missing"
    return f"{field}={first['input']!r}: {first['msg']}"
