"""The norm of each sample's loss gradient with respect to the weights, one more predictor of what pruning loses.

C. Tran, F. Fioretto, J.-E. Kim and R. Naidu ("Pruning has a disparate impact on model accuracy", NeurIPS 2022) bound
what pruning costs a group by the norm of its gradient, and explain it by the group's distance to the decision boundary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from thinice.data import Samples
from thinice.engines import Engine
from thinice.models import Classifier

__all__ = ["gradient_norms"]


@dataclass(frozen=True, slots=True)
class GradientTask:
    """The gradient norms of samples, as an engine computes them: sample by sample, for a batch has but one gradient."""

    classifier: Classifier
    samples: Samples

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def values(self) -> int:
        """Values of one sample."""
        return self.samples.inputs.shape[1:].numel()

    def on(self, device: torch.device) -> Callable[[slice], Tensor]:
        """Return what computes the norms (N,) on a device, for a slice of the samples."""
        with torch.inference_mode(mode=False):
            module = copy.deepcopy(self.classifier.module).to(device)
        weights = [weight.requires_grad_() for weight in module.parameters() if weight.is_floating_point()]

        def norms(part: slice) -> Tensor:
            inputs, labels = self.samples.inputs[part].to(device, torch.float32), self.samples.labels[part].to(device)
            squares = []
            for k in range(len(inputs)):
                with torch.enable_grad():
                    loss = cross_entropy(module(inputs[k : k + 1].clone()), labels[k : k + 1])
                    parts = torch.autograd.grad(loss, weights, materialize_grads=True) if loss.requires_grad else ()
                squares.append(sum(float(gradient.double().square().sum()) for gradient in parts))
            return torch.tensor(squares, dtype=torch.float64).sqrt()

        return norms


def gradient_norms(classifier: Classifier, samples: Samples, engine: Engine) -> Tensor:
    """Return the l2 norm (N,) of the gradient of each sample's cross-entropy in all weights of a network, on the CPU.

    NaN or infinite where the gradient is; 0 for a network without weights.
    """
    parts = sorted(engine.run(GradientTask(classifier, samples)), key=lambda part: part[0].start)
    return torch.cat([norms for _, norms in parts])
