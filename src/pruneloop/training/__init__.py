"""Training on a device: what is minimised, a step, a round of steps, and the quick ways of both.

Nothing here knows about files, rounds or budgets.
"""

from pruneloop.training.fine_tuning import LOOK_EVERY, FineTuning, Progress, Recipe
from pruneloop.training.first_token import Shortcut
from pruneloop.training.objectives import (
    Batch,
    CrossEntropy,
    Distillation,
    Objective,
    group_losses,
)
from pruneloop.training.quick import Quick
from pruneloop.training.step_graphs import can_be_captured

__all__ = [
    "LOOK_EVERY",
    "Batch",
    "CrossEntropy",
    "Distillation",
    "FineTuning",
    "Objective",
    "Progress",
    "Quick",
    "Recipe",
    "Shortcut",
    "can_be_captured",
    "group_losses",
]
