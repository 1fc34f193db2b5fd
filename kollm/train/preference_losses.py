"""The losses of preference tuning, from what a model says of two answers; the formulas are the papers'.

They are written out here, and TRL's own trainers are what the tests compare them with: TRL has four trainers, of which two are
experiments, and each averages over whatever a process happens to hold, so that a step would depend on their number.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.nn.functional import logsigmoid

from kollm.recipe.methods import METHODS


class Said(NamedTuple):
    """What a model says of the answers of some pairs; every tensor has the shape (pairs,).

    Attributes:
        chosen, rejected: summed log-probabilities of each answer's tokens, its end included.
        chosen_tokens, rejected_tokens: how many tokens that are.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor


class Given(NamedTuple):
    """What a loss is of: the policy's words, the reference's, and for KTO the mean divergence of mismatched answers.

    Attributes:
        policy: of the model that is trained.
        reference: (chosen, rejected) of the model that training starts from; zeros for a method that needs none.
        divergence: mean of log policy - log reference over the step's mismatched answers, not below 0; a scalar.
    """

    policy: Said
    reference: tuple[torch.Tensor, torch.Tensor]
    divergence: torch.Tensor


class Loss(NamedTuple):
    """The loss of some pairs, and by how much the chosen answers are ahead; both of shape (pairs,).

    Attributes:
        values: the loss of each pair.
        margins: the implicit reward of the chosen answer less that of the rejected one.
        likelihood: whether the likelihood of the step's chosen tokens is part of the loss, as ORPO has it.
    """

    values: torch.Tensor
    margins: torch.Tensor
    likelihood: bool = False


def dpo(given: Given, settings: Mapping[str, Any]) -> Loss:
    """Rafailov et al., equation 7; `hinge` of SLiC (arXiv 2305.10425), `ipo` (2310.12036, by the token as its authors do),
    and `robust` to flipped labels (2403.00409)."""
    policy, (chosen, rejected), beta = given.policy, given.reference, settings["beta"]
    ahead = (policy.chosen - chosen) - (policy.rejected - rejected)
    kind, flipped = settings["loss_type"], settings["label_smoothing"]
    if kind == "hinge":
        values = torch.relu(1 - beta * ahead)
    elif kind == "ipo":
        by_token = (policy.chosen - chosen) / policy.chosen_tokens - (
            policy.rejected - rejected
        ) / policy.rejected_tokens
        values = (by_token - 1 / (2 * beta)) ** 2
    elif kind == "robust":
        right, wrong = -logsigmoid(beta * ahead), -logsigmoid(-beta * ahead)
        values = ((1 - flipped) * right - flipped * wrong) / (1 - 2 * flipped)
    else:
        values = -logsigmoid(beta * ahead)
    return Loss(values, beta * ahead)


def kto(given: Given, settings: Mapping[str, Any]) -> Loss:
    """Ethayarajh et al., equations 7 and 8: the chosen answer is desirable, the rejected one undesirable; a pair's loss is the
    mean of both."""
    policy, (chosen, rejected), beta = given.policy, given.reference, settings["beta"]
    good = 1 - torch.sigmoid(beta * (policy.chosen - chosen - given.divergence))
    bad = 1 - torch.sigmoid(beta * (given.divergence - (policy.rejected - rejected)))
    values = (settings["desirable_weight"] * good + settings["undesirable_weight"] * bad) / 2
    return Loss(values, beta * ((policy.chosen - chosen) - (policy.rejected - rejected)))


def orpo(given: Given, settings: Mapping[str, Any]) -> Loss:
    """Hong et al., equations 4, 6 and 7: the log odds ratio of the answers' mean likelihoods; the likelihood of the chosen tokens
    is added by the trainer, which knows how many the step has."""
    policy = given.policy
    good, bad = policy.chosen / policy.chosen_tokens, policy.rejected / policy.rejected_tokens
    odds = (good - bad) - (_log1mexp(good) - _log1mexp(bad))
    return Loss(-settings["beta"] * logsigmoid(odds), odds, likelihood=True)


def simpo(given: Given, settings: Mapping[str, Any]) -> Loss:
    """Meng et al., equation 6: mean log-probabilities a token, no reference, and a margin that the chosen answer should have."""
    policy, beta = given.policy, settings["beta"]
    ahead = beta * (policy.chosen / policy.chosen_tokens - policy.rejected / policy.rejected_tokens)
    return Loss(-logsigmoid(ahead - settings["simpo_gamma"]), ahead)


def loss_of(method: str) -> Callable[[Given, Mapping[str, Any]], Loss]:
    """The loss of a method, from where the table of methods says that it is."""
    module, _, name = METHODS[method].loss.partition(":")
    found: Callable[[Given, Mapping[str, Any]], Loss] = getattr(importlib.import_module(module), name)
    return found


def _log1mexp(x: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(x)) for x below 0, without losing its digits near either end."""
    x = x.clamp(max=-1e-7)
    return torch.where(x > -0.6931471805599453, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
