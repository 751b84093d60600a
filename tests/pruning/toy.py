"""What a newcomer would write: an objective and a pruning method that searches, with one registry line each.

The method is HYDRA in small (Sehwag et al., NeurIPS 2020), and has a bit of everything that others need besides:
scores in the model, a learned number of its own, duals that enter a penalty, chance, a count of epochs.
"""

# ruff: noqa: ARG002 - the loop hands over more than a toy uses

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize

from thinice.models import prunable_weights
from thinice.pruning import METHODS, Masks, PruningMethod
from thinice.pruning.magnitude import lowest_masks
from thinice.training import OBJECTIVES, Losses, Objective, stream

ROWS = (
    (OBJECTIVES, "toy-margin", "tests.pruning.toy:ToyMargin"),
    (METHODS, "toy-scores", "tests.pruning.toy:ToyScores"),
)


@dataclass(frozen=True)
class ToyMargin(Objective):
    """A hinge on the margin, on noisy inputs."""

    noise: float = 0.05

    def craft(self, model, inputs, labels, generator):
        noise = torch.randn(inputs.shape, generator=generator).to(inputs.device)
        return (inputs + self.noise * noise).clamp(0, 1)

    def losses(self, model, inputs, crafted, labels):
        logits = model(crafted)
        true = logits.gather(1, labels[:, None])
        others = logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
        return Losses((1 - true + others).relu()[:, 0], logits)


class TopScores(nn.Module):
    """A weight under the mask of its best scores; gradients pass straight through the mask."""

    def __init__(self, weight, sparsity):
        super().__init__()
        self.scores = nn.Parameter(weight.detach().abs())
        self.sparsity = sparsity

    def mask(self):
        return lowest_masks({"": self.scores.detach()}, sparsity=self.sparsity)[""]

    def forward(self, weight):
        return weight * (self.mask() + self.scores - self.scores.detach())


@dataclass(kw_only=True)
class ToyScores(PruningMethod):
    """Scores are trained while the weights are frozen; the lowest of each layer go."""

    searches = True
    search_recipe = "finetune"
    strength: float = 0.1
    seed: int = 0

    def prepare(self, model):
        model.requires_grad_(requires_grad=False)
        self.names = list(prunable_weights(model))
        for name in self.names:
            layer = model.get_submodule(name.rpartition(".")[0])
            parametrize.register_parametrization(layer, "weight", TopScores(layer.weight, self.sparsity))
        self.rate = nn.Parameter(torch.tensor(1.0))
        self.duals = {name: torch.zeros(()) for name in self.names}
        self.generator = stream(self.seed, "toy")
        self.epochs = 0

    def layers(self, model):
        layers = {name: model.get_submodule(name.rpartition(".")[0]) for name in self.names}
        return {name: layer.parametrizations["weight"][0] for name, layer in layers.items()}

    def parameters(self):
        return [self.rate]

    def penalty(self, model):
        parts = [self.duals[name] * layer.scores.square().sum() for name, layer in self.layers(model).items()]
        return self.strength * self.rate.square() * sum(parts) + self.rate.square()

    def after_step(self, model):
        for layer in self.layers(model).values():
            layer.scores.data.clamp_(min=0)

    def after_epoch(self, model, done):
        self.epochs += 1
        for name in self.names:
            self.duals[name] += self.epochs * done * torch.rand((), generator=self.generator)

    def masks(self, model):
        return Masks({name: layer.mask() for name, layer in self.layers(model).items()})

    def finish(self, model):
        for name in self.names:
            layer = model.get_submodule(name.rpartition(".")[0])
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)

    def state_dict(self):
        return {
            "rate": self.rate.detach(),
            "duals": self.duals,
            "generator": self.generator.get_state(),
            "epochs": self.epochs,
        }

    def load_state_dict(self, state):
        self.rate.data.copy_(state["rate"])
        self.duals = {name: state["duals"][name] for name in self.names}
        self.generator.set_state(state["generator"])
        self.epochs = state["epochs"]
