"""What is wrong with a model, from what it answered and from losses measured beside it."""

from vivavoce.evaluation.diagnosis.checks import diagnose

__all__ = ["diagnose"]
