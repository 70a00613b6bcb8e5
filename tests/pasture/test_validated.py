"""Pydantic errors as one line."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pasture.errors import InputError
from pasture.validated import validated


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = Field(ge=1)

    @model_validator(mode="after")
    def _odd(self) -> Part:
        if self.size % 2 == 0:
            raise ValueError("expected an odd size")
        return self


class Whole(BaseModel):
    parts: list[Part] = []


def test_valid_content_is_returned() -> None:
    assert validated(Whole, {"parts": [{"size": 3}]}, "file").parts == [Part(size=3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"parts": [{"size": 3}, {"size": 0}]}, "file: parts[1].size=0: Input should be greater than or equal to 1"),
        ({"parts": [{"size": 2}]}, "file: parts[0]: expected an odd size"),
        ({"parts": [{"size": 3, "sise": 4}]}, "file: unknown key 'parts[0].sise'"),
        ({"parts": [{}]}, "file: parts[0].size is missing"),
    ],
)
def test_an_error_is_one_line(content: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        validated(Whole, content, "file")
    assert str(caught.value) == message
