"""S2AP: scores go down the gradient at the worst scores nearby, so that small changes leave masks good ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thinice.errors import InputError
from thinice.pruning import PruningMethod
from thinice.training.perturbation import backward_at_worst

if TYPE_CHECKING:
    from torch import nn

    from thinice.training import Recipe
    from thinice.training.loop import Backward, Batch

__all__ = ["ScorePerturbation"]


@dataclass(kw_only=True)
class ScorePerturbation(PruningMethod):
    """A search for scores that can be made sharpness-aware (S2AP); at radius 0 it is the search itself, to the bit.

    In each step the scores of each layer climb the loss within a ball around them, the gradient is taken there, and
    applied at the scores themselves. Running statistics of batch norm are those of the pass before the climb.

    Attributes
    ----------
    s2ap : float
        The radius of the ball, as a part of the length (L2) of a layer's scores; 0: no perturbation.
    s2ap_warmup : int
        Epochs of the plain search before.
    s2ap_steps : int
        Steps of the climb, each of one gradient and an equal part of the radius.

    Notes
    -----
    Score-space sharpness-aware adversarial pruning takes 5 epochs of warm-up. Its radii and its exact update are not
    public: this is the update of SAM and AWP, and radii of 0.001 to 0.05 are worth a try.

    """

    s2ap: float = 0.0
    s2ap_warmup: int = 5
    s2ap_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        number = isinstance(self.s2ap, int | float) and not isinstance(self.s2ap, bool)
        if not number or not 0 <= self.s2ap < 1:
            raise InputError(
                f"`s2ap` must be a radius from 0 to below 1, as a part of the scores' length, got {self.s2ap!r}: give "
                "0.01, say"
            )
        for name, least in (("s2ap_warmup", 0), ("s2ap_steps", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"`{name}` must be a whole number of at least {least}, got {value!r}")

    @abstractmethod
    def perturbed(self, model: nn.Module) -> Sequence[nn.Parameter]:
        """Return the scores that climb, one tensor a layer."""

    def prepare(self, model: nn.Module) -> None:  # noqa: ARG002 - for those that search
        """Begin to count epochs."""
        self.epochs = 0

    def around_backward(self, model: nn.Module, backward: Backward) -> Batch:
        """Leave the gradients at the perturbed scores; the scores are put back to the bit."""
        if not self.s2ap or self.epochs < self.s2ap_warmup:
            return backward()
        return backward_at_worst(model, backward, self.perturbed(model), self.s2ap, steps=self.s2ap_steps)

    def after_epoch(self, model: nn.Module, done: float) -> None:  # noqa: ARG002 - for those that search
        """Count the epoch."""
        self.epochs += 1

    def check_search(self, recipe: Recipe, steps: int) -> None:  # noqa: ARG002 - epochs are counted
        """Raise InputError where the search would be over before its warm-up is."""
        if self.s2ap and recipe.epochs <= self.s2ap_warmup:
            raise InputError(
                f"`s2ap_warmup` {self.s2ap_warmup} leaves nothing of a search of {recipe.epochs} epochs to perturb "
                f"scores in: give a smaller one (--set s2ap_warmup={recipe.epochs // 4}), or search longer"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return how many epochs there were."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the number of epochs."""
        self.epochs = int(state["epochs"])
