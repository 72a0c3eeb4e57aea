"""The law L(N, D) = E + A / N^a + B / D^b, and what follows from it.

N parameters, D tokens, L nats a token, C = 6 N D FLOPs.

Source: Hoffmann et al. 2022 (arXiv 2203.15556), approach 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FLOPS = 6.0  # of a parameter and token, forwards and backwards
NAMES = ("E", "A", "B", "a", "b")


@dataclass(frozen=True)
class Law:
    """Numbers of a law, or arrays of them: one law for each refit.

    Attributes:
        E: What no model gets below, nats.
        A, a: Of the parameters.
        B, b: Of the tokens.
    """

    E: Any
    A: Any
    B: Any
    a: Any
    b: Any

    def loss(self, n: Any, d: Any) -> Any:
        """Nats a token at N and D, which spread over the laws."""
        return self.E + self.A * np.exp(-self.a * np.log(n)) + self.B * np.exp(-self.b * np.log(d))

    def best(self, flops: Any) -> tuple[Any, Any, Any]:
        """N*, D* and L* of a budget: G (C/6)^(b/(a+b)) and (C/6)^(a/(a+b)) / G, G = (aA/bB)^(1/(a+b)).

        Laws that do not fall with both have none: nan.
        """
        a, b = np.asarray(self.a), np.asarray(self.b)
        with np.errstate(all="ignore"):
            log_g = (np.log(a * self.A) - np.log(b * self.B)) / (a + b)
            log_n = log_g + np.log(np.asarray(flops) / FLOPS) * b / (a + b)
            n = np.where((a > 0) & (b > 0), np.exp(log_n), np.nan)
        d = flops / FLOPS / n
        return n, d, self.loss(n, d)

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {name: float(getattr(self, name)) for name in NAMES}


CHINCHILLA = Law(1.69, 406.4, 410.7, 0.34, 0.28)
"""Hoffmann et al. 2022, text."""
BESIROGLU = Law(1.82, 482.0, 2085.0, 0.348, 0.366)
"""The same data fitted again by Besiroglu et al. 2024 (arXiv 2404.10102)."""
