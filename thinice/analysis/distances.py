"""The distances of samples to the boundary of a pruned network: negative for those that pruning loses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from thinice.analysis.certifying import certify
from thinice.analysis.measurement import TRYING, AttackTask, forward
from thinice.attacks import Attack, MinNormResult, concatenate
from thinice.data import as_samples
from thinice.models import Classifier
from thinice.models.inference import inference_form
from thinice.results import Measured, PrunedDistances
from thinice.store import Run, query
from thinice.types import CorrectionOutcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thinice.analysis.session import MeasurementSession, Shard

__all__ = ["CorrectionTask", "RightClass", "pruned_distances"]

TRANSFERRED = 1024
"""So many adversarials of the dense network are shown to the pruned one at a time, and stored."""
WRONG = 0
"""The class that `RightClass` gives inputs that are not given the label; it gives 1 to the others."""


class RightClass(nn.Module):
    """A network that answers whether another one gives its inputs a class: two logits, for wrong and right.

    An adversarial of a sample that is wrong is an input that is right. Where two classes are equally likely it says
    wrong, as nobody can say which of them a network would give.

    Examples
    --------
    >>> network = RightClass(nn.Identity(), 2)
    >>> network(torch.tensor([[3.0, 1.0, 2.0], [0.0, 1.0, 2.0]]))
    tensor([[3., 2.],
            [1., 2.]])
    """

    def __init__(self, network: nn.Module, label: int) -> None:
        super().__init__()
        self.network, self.label = network, label

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the largest logit of another class, and that of the class in question, (N, 2); NaN where one is."""
        logits = self.network(inputs)
        right = logits[:, self.label]
        others = torch.cat([logits[:, : self.label], logits[:, self.label + 1 :]], 1).amax(1)
        return torch.stack([others, torch.where(logits.isnan().any(1), torch.nan, right)], 1)


@dataclass(frozen=True, slots=True)
class CorrectionTask(AttackTask):
    """The search for the nearest input that the network has right, of samples that it has wrong.

    The attack sees a network that tells right from wrong (`RightClass`): the search, the verification and the fall-back
    are those of epsilons. Samples of one label go together: sort them.
    """

    def on(self, device: torch.device) -> Callable[[slice], MinNormResult]:
        """Return the search on a device, for a slice of the samples."""
        network = self.classifier.to(device)
        forms: list[Classifier] = []  # that of the search, once it is known
        pairs: dict[int, tuple[Classifier, Classifier]] = {}

        def nearest(part: slice) -> MinNormResult:
            inputs = self.samples.inputs[part].to(device, torch.float32).contiguous()
            labels, sample_ids = self.samples.labels[part], self.samples.sample_ids[part].to(device)
            if not forms:
                forms.append(inference_form(network, inputs[:TRYING], compiled=self.compiled))
            results, positions = [], []
            for label in sorted(set(labels.tolist())):
                if label not in pairs:
                    pairs[label] = right_class(network, label), right_class(forms[0], label)
                index = (labels == label).nonzero().squeeze(1).to(device)
                model, search_model = pairs[label]
                wrong = torch.full_like(index, WRONG)
                result = self.attack(model, inputs[index], wrong, sample_ids[index], search_model=search_model)
                results.append(result.to("cpu"))
                positions.append(index.cpu())
            return concatenate(results, like=results[0].adversarials).part(torch.cat(positions).argsort())

        return nearest


def right_class(classifier: Classifier, label: int) -> Classifier:
    """Return the classifier around `RightClass`, for a label."""
    return replace(classifier, module=RightClass(classifier.module, label).eval(), classes=2)


def pruned_distances(
    session: MeasurementSession,
    comparison_id: int,
    measured: Measured,
    pruned: Classifier,
    attack: Attack,
    *,
    bounded: bool = False,
) -> PrunedDistances:
    """Return the distances to the boundary of the pruned network itself: measured on it, by the same attack.

    Where it has a sample right, the dense network's adversarial is one more candidate: where it is adversarial for the
    pruned network too, and nearer than what the attack found there, its distance counts, and the stage is
    `FoundBy.DENSE`. It is left out where the store keeps only some of the adversarials, as of large images: which ones
    depends on how the work was divided.

    Where it has a sample wrong that the dense network has right, the sample lies behind its boundary: the attack looks
    for the nearest input that the pruned network has right (`CorrectionTask`). So every sample is searched once, and
    both together cost about what the dense network's epsilons do. `bounded` adds a lower bound for each epsilon.
    """
    own = session.measure(pruned, attack)
    if session.keeps_adversarials:
        _transfer(session, comparison_id, measured, pruned)
    rows = session.columns("pruned_epsilons", comparison_id=comparison_id)
    labels = session.samples.labels.numpy()
    behind = np.flatnonzero((measured.clean_predictions == labels) & (own.clean_predictions != labels))
    corrections = np.full(len(labels), np.nan, np.float32)
    outcomes = np.zeros(len(labels), np.int8)
    corrections[behind] = _corrections(session, own.measurement_id, pruned, attack, behind)
    outcomes[behind] = np.where(
        np.isnan(corrections[behind]), CorrectionOutcome.NOT_CORRECTED, CorrectionOutcome.CORRECTED
    )
    distances = PrunedDistances(
        rows["epsilon"].astype(np.float32),
        rows["outcome"].astype(np.int8),
        rows["found_by"].astype(np.int8),
        corrections,
        outcomes,
    )
    if not bounded:
        return distances
    nearest = replace(own, epsilon=distances.epsilon, outcomes=distances.outcomes)
    certified = certify(session, pruned, nearest, attack)
    return replace(distances, epsilon_lower=certified.epsilon_lower, second_epsilon=certified.second_epsilon)


def _transfer(session: MeasurementSession, comparison_id: int, measured: Measured, pruned: Classifier) -> None:
    """Show the dense network's adversarials to the pruned one, and store what it makes of them."""
    positions = session.running.untransferred(comparison_id, session.sample_ids)
    for start in range(0, len(positions), TRANSFERRED):
        examples = session.adversarials(measured, positions[start : start + TRANSFERRED])
        images = torch.from_numpy(np.stack([example.adversarial for example in examples]))
        labels = session.samples.labels[[example.position for example in examples]]
        logits = forward(pruned, as_samples(images, labels), session.engine)
        predictions = torch.where(logits.isnan().any(1), -1, logits.argmax(1))
        ids = [example.sample_id for example in examples]
        session.running.add_transfers(comparison_id, ids, predictions=predictions.numpy())


def _corrections(
    session: MeasurementSession, measurement_id: int, pruned: Classifier, attack: Attack, behind: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return how far (K,) samples at these positions lie behind the boundary, NaN where none is found: now, or read."""
    ids = session.sample_ids[behind]
    left = behind[session.running.uncorrected(measurement_id, ids)]
    if len(left):
        by_label = left[np.argsort(session.samples.labels.numpy()[left], kind="stable")]
        session.search(
            pruned,
            attack,
            by_label,
            partial(_add_corrections, session.running, measurement_id),
            title=f"{pruned.name}, lost samples, {attack.norm}, {attack.name}",
            total=len(behind),
            task=CorrectionTask,
        )
    rows = session.store.sql(query("corrections_of_samples"), {"measurement_id": measurement_id})
    return rows.set_index("sample_id")["correction"].reindex(ids).to_numpy(np.float32)


def _add_corrections(run: Run, measurement_id: int, shard: Shard) -> None:
    nearest = shard.nearest
    run.add_corrections(
        measurement_id,
        shard.sample_ids.numpy(),
        corrections=torch.where(nearest.found, nearest.epsilon, torch.nan).numpy(),
        evaluations=nearest.evaluations.numpy(),
        converged=nearest.converged.numpy(),
        found_by=nearest.found_by.numpy(),
        failure_reasons=nearest.failure_reasons.numpy(),
    )
