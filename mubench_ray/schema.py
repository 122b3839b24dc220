"""What the parts of a suite file are made of: strict mappings, lists that may be single values, names in short, seeds and rates."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def listed(value: Any) -> Any:
    """A single value as a list of it."""
    return value if isinstance(value, list) else [value]


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Listed = BeforeValidator(listed)
Named = BeforeValidator(_named)
Ratio = Annotated[float, Field(gt=0, lt=100)]
Rate = Annotated[float, Field(gt=0)]
#: What numpy and scikit-learn take as a seed.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Part(BaseModel):
    """A part of a suite: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
