"""Exact pruning of a model's weights: scope, selection, methods, masks, schedule.

Masks live beside the model, not in it: pruning writes zeros into ordinary parameters,
and `Masks.zero_gradients` before each optimiser step keeps them zero. Nothing here
knows about data or training.
"""

from pruneloop.pruning.blocks import Blocks
from pruneloop.pruning.criteria import Absence, Evidence, Magnitude, Movement, Random, Taylor, Wanda
from pruneloop.pruning.groups import Groups, Lines, Single
from pruneloop.pruning.layers import LayerGroups, Layers, names_by_layer
from pruneloop.pruning.masks import Masks
from pruneloop.pruning.methods import GlobalL1, LayerL1, Method, RandomGlobal, StructuredLn
from pruneloop.pruning.pruned_model import PrunedModel
from pruneloop.pruning.schedule import drops_by_amount, drops_to_target
from pruneloop.pruning.scope import check_scope, kind_of, layer_of, prunable_weights
from pruneloop.pruning.units import UnitGroups, UnitMethod

__all__ = [
    "Absence",
    "Blocks",
    "Evidence",
    "GlobalL1",
    "Groups",
    "LayerGroups",
    "LayerL1",
    "Layers",
    "Lines",
    "Magnitude",
    "Masks",
    "Method",
    "Movement",
    "PrunedModel",
    "Random",
    "RandomGlobal",
    "Single",
    "StructuredLn",
    "Taylor",
    "UnitGroups",
    "UnitMethod",
    "Wanda",
    "check_scope",
    "drops_by_amount",
    "drops_to_target",
    "kind_of",
    "layer_of",
    "names_by_layer",
    "prunable_weights",
]
