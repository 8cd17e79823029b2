"""What a token of a model counts for, in the unit that budgets are kept in.

Without weights the unit is the token. With them it is whatever the operator likes: tokens of the
model that most calls go to, cents, minutes of a machine. An API's prices for what it reads, what it
had read before and what it writes differ, so a model may have a weight for each.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Weight", "Weights"]


@dataclass(frozen=True, slots=True)
class Weight:
    """What one token counts for: read by the model, written by it, and read out of a cache."""

    input: float = 1.0
    output: float = 1.0
    cached: float | None = None
    """None: as any other that is read"""

    def units(self, read: int, written: int, cached: int = 0) -> int:
        """Return what tokens count for, rounded up; `cached` is part of `read`."""
        of_cached = self.input if self.cached is None else self.cached
        sum_ = (read - cached) * self.input + cached * of_cached + written * self.output
        # What is 30 but for the last bit of a float is 30.
        return math.ceil(round(sum_, 6))


@dataclass(frozen=True)
class Weights:
    """The weights of models, by name; a name that ends in `*` stands for all that begin so.

    The longest that fits decides. A model without one has each token count for one.
    """

    by_model: Mapping[str, Weight] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A table of our own, and one that can be sent to a worker: a read-only view can't.
        object.__setattr__(self, "by_model", dict(self.by_model))

    def of(self, model: str | None) -> Weight:
        """Return the weight of a model; None for one whose name nobody knows."""
        name = model or ""
        exact = self.by_model.get(name)
        if exact is not None:
            return exact
        prefixes = [key for key in self.by_model if key.endswith("*") and name.startswith(key[:-1])]
        return self.by_model[max(prefixes, key=len)] if prefixes else Weight()

    def units(self, model: str | None, read: int, written: int, cached: int = 0) -> int:
        """Return what tokens count for, rounded up; `cached` of those `read` were in a cache."""
        if not self.by_model:
            return read + written
        return self.of(model).units(read, written, min(cached, read))

    def most(self, read: int, written: int) -> int:
        """Return what tokens count for with the model that has the greatest weight for them."""
        weights = list(self.by_model.values())
        if "*" not in self.by_model:
            weights.append(Weight())
        return max(weight.units(read, written) for weight in weights)
