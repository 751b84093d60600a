"""What newcomers would write, a few lines each, and the registry line of each; for `tests/test_extensions.py`.

An objective and a pruning method are in `tests/pruning/toy.py`, a command is in `tests/cli/greet.py`.
"""

import torch
from torch import nn

from thinice.attacks import ATTACKS, Candidates
from thinice.attacks.rows import BudgetSearch, FixedBudgetRow, MinNormRow
from thinice.cli.app import COMMANDS
from thinice.data import DATASETS
from thinice.data.samples import build_samples
from thinice.models import ARCHITECTURES
from thinice.pruning import METHODS
from thinice.stats import statistic
from thinice.training import OBJECTIVES

LEVELS = torch.linspace(0.05, 0.95, 40)


class ToyNet(nn.Module):
    """Logits linear in a 2x2 image."""

    def __init__(self, classes=2):
        super().__init__()
        self.toy = nn.Linear(4, classes)

    def forward(self, inputs):
        return self.toy(inputs.flatten(1))

    def of_the_mean(self):
        """Return itself with the boundary where the mean level is one half."""
        self.toy.weight.data.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
        self.toy.bias.data.copy_(torch.tensor([2.0, -2.0]))
        return self


def toy_data(request):
    """Images of one level each, dark and bright ones."""
    images = LEVELS.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    labels = (LEVELS > 0.5).long()
    positions, notes = request.choose(labels)
    return build_samples(
        images[positions],
        labels[positions],
        sample_ids=positions,
        classes=("dark", "bright"),
        name=request.name,
        split=request.split,
        notes=notes,
    )


def to_the_other_end(model, inputs, labels, sample_ids, *, norm="linf", seed=0, share=0.52):  # noqa: ARG001
    """Go a share of the way from each image to its negative."""
    return Candidates(inputs + share * (1 - 2 * inputs), torch.zeros(len(inputs)))


NEAR = MinNormRow(
    search=to_the_other_end,
    version=1,
    defaults={"share": 0.52},
    efforts={"quick": {}, "standard": {}, "thorough": {}},
    ranges={"share": (0.0, 1.0)},
    norms=("linf",),
)


def _searches(*, norm, budget, seed, classes, shape):  # noqa: ARG001
    def shift(model, inputs, labels, sample_ids):  # noqa: ARG001
        towards = torch.where(labels == 0, 1.0, -1.0).view(-1, 1, 1, 1)
        return Candidates((inputs + budget * towards).clamp(0, 1), torch.zeros(len(inputs)))

    return (BudgetSearch(name="toy-ball", search=shift),)


BALL = FixedBudgetRow(searches=_searches, version=1, norms=("linf",))


def register():
    """Enter all of them: each line is the one line that a newcomer would add to a registry."""
    ATTACKS.add("toy-near", "tests.extensions:NEAR", "towards the negative", "minimum norm")
    ATTACKS.add("toy-ball", "tests.extensions:BALL", "a shift of all pixels", "fixed budget")
    ARCHITECTURES.add("toy-net", "tests.extensions:ToyNet", "linear")
    DATASETS.add("toy-data", "tests.extensions:toy_data", "images of one level each")
    OBJECTIVES.add("toy-margin", "tests.pruning.toy:ToyMargin", "a hinge on the margin")
    METHODS.add("toy-scores", "tests.pruning.toy:ToyScores", "learned scores")
    COMMANDS.add("greet", "tests.cli.greet:greet", "Say hello.")
    statistic("toy_median", "Median epsilon of the kept samples once more: a toy.", label="toy median", unit="epsilon")(
        lambda result: result.median_kept
    )
