"""Tasks put to systems: a folder of answers that any stopped run goes on filling."""

from vivavoce.evaluation.run.runner import Progress, run_evaluation, run_evaluations
from vivavoce.evaluation.run.settings import RunSettings

__all__ = ["Progress", "RunSettings", "run_evaluation", "run_evaluations"]
