"""`measure`: the nearest adversarial of every sample, without files or SQL; `thinice.analysis.session` stores them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import torch
from torch import Tensor, nn

from thinice.analysis.options import SearchOptions
from thinice.attacks import Attack, MinNormResult, concatenate, make_attack
from thinice.data import Samples, as_samples
from thinice.engines import BatchSize, Engine, LocalEngine, ProgressCounter, Reporter, auto_reporter
from thinice.errors import DoubtfulWarning, InputError
from thinice.models import Classifier, as_classifier, infer_normalization, looks_like_probabilities
from thinice.models.inference import inference_form
from thinice.models.outputs import output_doubts, refuse_other_outputs
from thinice.numerics import pick_device
from thinice.types import DEFAULT_ATTACK

__all__ = [
    "AttackTask",
    "Interrupted",
    "check_fit",
    "data_of",
    "forward",
    "measure",
    "minimum_norm_attack",
    "prepare_classifier",
    "prepare_classifiers",
    "warn",
]

DECIDING = 512
"""So many samples decide between candidates of normalisation."""
PROBING = 32
"""So many samples tell whether the outputs are probabilities, and whether labels count from another number."""
ENOUGH = 8
"""Fewer samples than these do not tell the latter."""
TRYING = 8
"""So many samples tell whether the inference form of the network gives the same logits."""
PROBABILITIES = (
    "the outputs look like probabilities, not logits: a softmax inside starves attacks of gradients, and epsilons come "
    "out too large; export the network without it"
)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `measure`; the results of the finished samples are in `nearest`, in the order of the samples.

    Attributes
    ----------
    nearest : MinNormResult
        The finished ones: the first ``len(nearest)`` of the samples.

    """

    def __init__(self, nearest: MinNormResult, total: int) -> None:
        done = len(nearest)
        super().__init__(
            f"stopped after {done} of {total} samples: the finished ones are in the exception's `.nearest`; "
            f"`measure(classifier, samples[{done}:], …)` goes on"
        )
        self.nearest = nearest


def measure(
    classifier: Classifier | nn.Module,
    samples: Samples | Tensor,
    *,
    labels: Tensor | None = None,
    attack: str | Attack = DEFAULT_ATTACK,
    device: str | torch.device = "auto",
    batch_size: BatchSize = "auto",
    compiled: bool = False,
    progress: Reporter | bool = True,
    **search: Unpack[SearchOptions],
) -> MinNormResult:
    """Return the nearest adversarial of every sample that the attack finds, on the CPU, in the samples' order.

    Parameters
    ----------
    classifier : Classifier or nn.Module
        Takes inputs in [0, 1]. A plain module is copied, put into eval mode and frozen; the original is untouched.
    samples : Samples or Tensor
        What to measure; a tensor of shape (N, C, H, W) in [0, 1] needs `labels`. Any memory layout.
    labels : Tensor, optional
        True classes (N,), with a tensor of inputs.
    norm : {"l0", "l1", "l2", "linf"}
        The norm of the perturbation, in its own unit on the [0, 1] scale.
    attack : str or Attack
        A name in the registry (``"tmn"``, ``"fmn"``), ``"foolbox:NAME"``, or an attack made by `make_attack`.
    effort : {"quick", "standard", "thorough"}
        How much to spend on each sample.
    seed : int
        Repeats the result. A sample's result depends on it, on its sample_id, and not on the other samples.
    device : str
        ``"auto"`` takes a CUDA device where there is one.
    batch_size : int or "auto"
        Auto suits the device and halves when memory runs out.
    precision : {"float32", "tf32", "bf16"}
        Arithmetic of the search: less is faster on hardware that has it. Verification is in IEEE float32 in any case.
    compiled : bool
        Search in a network compiled by `torch.compile`: about a minute before the first sample, less for each.
    progress : bool or callable
        True shows a bar where that makes sense; a callable gets each `Progress`.
    **settings
        Settings of the attack that replace those of the effort, for example ``steps=300``.

    Raises
    ------
    InputError
        For inputs outside [0, 1], labels that are no class of the network, or settings that the attack does not know.
    Interrupted
        On Ctrl-C, with what was finished.

    Examples
    --------
    >>> import torch, thinice
    >>> layer = torch.nn.Linear(4, 2)  # class 0 where the four pixels add up to more than 2
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0] * 4, [0.0] * 4]))
    >>> _ = layer.bias.data.copy_(torch.tensor([0.0, 2.0]))
    >>> inputs, labels = torch.full((1, 1, 2, 2), 0.6), torch.tensor([0])
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), layer)
    >>> nearest = thinice.measure(network, inputs, labels=labels, norm="linf", progress=False)
    >>> f"{nearest.epsilon.item():.3f}"
    '0.100'

    """
    with torch.inference_mode(mode=False):  # a copy made in a caller's inference mode could have no gradients
        data = data_of(samples, labels)
        network = prepare_classifier(as_classifier(classifier), data)
    bound = minimum_norm_attack(attack, **search)
    engine = LocalEngine(pick_device(device), batch_size)
    report = auto_reporter() if progress is True else progress or None
    counter = ProgressCounter(f"{network.name}, {bound.norm}, {bound.name}", len(data), bound.norm, report)
    finished: list[MinNormResult] = []
    try:
        for _, nearest in engine.run(AttackTask(network, data, bound, compiled)):
            finished.append(nearest)
            counter.add(nearest.outcomes, nearest.epsilon)
    except KeyboardInterrupt:
        if not finished:
            raise
        raise Interrupted(concatenate(finished, like=data.inputs[:0]), len(data)) from None
    return concatenate(finished, like=data.inputs[:0])


@dataclass(frozen=True, slots=True)
class AttackTask:
    """The search for the nearest adversarial of each sample, as an engine runs it.

    An attack that minimises the norm searches in the inference form of the network (`inference_form`), compiled where
    that is asked for; one at a budget searches the network itself. What they find is verified on the network itself.
    """

    classifier: Classifier
    samples: Samples
    attack: Attack
    compiled: bool = False

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def values(self) -> int:
        """Values of one sample."""
        return self.samples.inputs.shape[1:].numel()

    def on(self, device: torch.device) -> Callable[[slice], MinNormResult]:
        """Return the search on a device, for a slice of the samples."""
        network = self.classifier.to(device)
        search_model: Classifier | None = None

        def nearest(part: slice) -> MinNormResult:
            nonlocal search_model
            inputs = self.samples.inputs[part].to(device, torch.float32).contiguous()
            labels, sample_ids = self.samples.labels[part].to(device), self.samples.sample_ids[part].to(device)
            if self.attack.budget is not None:  # in another form, all that it does not break would be searched again
                return self.attack(network, inputs, labels, sample_ids).to("cpu")
            if search_model is None:
                search_model = inference_form(network, inputs[:TRYING], compiled=self.compiled)
            return self.attack(network, inputs, labels, sample_ids, search_model=search_model).to("cpu")

        return nearest


@dataclass(frozen=True, slots=True)
class ForwardTask:
    """The logits of clean samples, as an engine computes them."""

    classifier: Classifier
    samples: Samples

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def values(self) -> int:
        """Values of one sample."""
        return self.samples.inputs.shape[1:].numel()

    def on(self, device: torch.device) -> Callable[[slice], Tensor]:
        """Return the network on a device, for a slice of the samples."""
        network = self.classifier.to(device)

        def logits(part: slice) -> Tensor:
            with torch.no_grad():
                return network(self.samples.inputs[part].to(device, torch.float32).contiguous()).cpu()

        return logits


def forward(classifier: Classifier, samples: Samples, engine: Engine) -> Tensor:
    """Return the logits (N, K) of the clean samples, on the CPU."""
    parts = sorted(engine.run(ForwardTask(classifier, samples)), key=lambda part: part[0].start)
    return torch.cat([logits for _, logits in parts])


def data_of(samples: Samples | Tensor, labels: Tensor | None) -> Samples:
    """Return the samples that were given as such, or as a tensor with labels.

    Raises
    ------
    InputError
        Where labels are missing, or given twice.

    """
    if isinstance(samples, Samples):
        if labels is not None:
            raise InputError("`labels` goes with a tensor of inputs; `Samples` bring their own: leave it out")
        return samples
    if labels is None:
        raise InputError("`labels` is missing: a tensor of inputs needs the true classes, `labels=` of shape (N,)")
    return as_samples(samples, labels)


def minimum_norm_attack(attack: str | Attack = DEFAULT_ATTACK, **search: Unpack[SearchOptions]) -> Attack:
    """Return an attack that minimises the norm: made from its name and settings, or itself where it is bound already.

    Raises
    ------
    InputError
        For settings that the attack does not know, and for those beside a bound attack that it does not have.

    """
    if not isinstance(attack, Attack):
        return make_attack(attack, **search)
    refuse_beside(attack, search)
    return attack


def refuse_beside(attack: Attack, search: Mapping[str, object]) -> None:
    """Raise `InputError` for search options that a bound attack would ignore: all but those that it has already.

    >>> refuse_beside(make_attack("fmn", norm="l2"), {"norm": "l2", "seed": 0})
    >>> refuse_beside(make_attack("fmn", norm="l2"), {"steps": 5})
    Traceback (most recent call last):
    ...
    thinice.errors.InputError: `steps` goes with the name of an attack; fmn is bound
    """
    bound = {"norm": attack.norm, "precision": attack.precision, "seed": attack.seed, "effort": "standard"}
    for name, value in search.items():
        if name not in bound or value != bound[name]:
            raise InputError(f"`{name}` goes with the name of an attack; {attack.name} is bound")


def prepare_classifier(classifier: Classifier, samples: Samples) -> Classifier:
    """Return the classifier ready for these samples: they fit, and its normalisation is known.

    Where no file says how the network normalises its inputs, the labels decide between the candidates, and the
    classifier's notes say with which accuracies. What keeps attacks from measuring it is noted too, with a
    `DoubtfulWarning`: logits that are random, depend on the batch, have no gradient, look like probabilities, or are
    NaN; labels that seem to count from another number.

    Raises
    ------
    InputError
        Where the samples do not fit, or no candidate is clearly better than the others.

    """
    check_fit(classifier, samples)
    some = samples[: min(len(samples), DECIDING)]
    ready = infer_normalization(classifier, some.inputs[:], some.labels)
    probed = some[: min(len(some), PROBING)]
    logits = forward(ready, probed, LocalEngine(ready.device))
    doubts = [
        *output_doubts(ready, probed.inputs[:].to(ready.device)),
        *([PROBABILITIES] if looks_like_probabilities(logits) else []),
        *_undefined_logits(logits),
        *_shifted_labels(logits, probed.labels),
    ]
    doubts = [doubt for doubt in doubts if doubt not in ready.notes]
    if doubts:
        warn(DoubtfulWarning(doubts, ready.name))
    return replace(ready, notes=(*ready.notes, *doubts)) if doubts else ready


def _undefined_logits(logits: Tensor) -> tuple[str, ...]:
    """Return a sentence where logits are no numbers.

    >>> _undefined_logits(torch.tensor([[0.0, torch.nan], [1.0, -torch.inf]]))
    ('1 of 2 samples have logits that are NaN, and so no class: they count as wrong, and have no epsilon',)
    """
    count = int(logits.isnan().any(1).sum())
    told = f"{count} of {len(logits)} samples have logits that are NaN, and so no class"
    return (f"{told}: they count as wrong, and have no epsilon",) if count else ()


def _shifted_labels(logits: Tensor, labels: Tensor) -> tuple[str, ...]:
    """Return a sentence where a network is right on labels that count from another number, and not on these.

    >>> _shifted_labels(torch.eye(12), torch.arange(12) + 1)
    ('0 of 12 samples are right with the labels as they are, and 12 with labels - 1: where do labels count from?',)
    """
    count, predictions = len(labels), logits.argmax(1)
    as_is, *shifted = (int((predictions == labels + shift).sum()) for shift in (0, -1, 1))
    if count < ENOUGH or len(torch.unique(labels)) < 3 or max(shifted) <= count / 2 or as_is >= count / 4:
        return ()
    sign = "-" if shifted[0] > shifted[1] else "+"
    right = f"{as_is} of {count} samples are right with the labels as they are, and {max(shifted)} with labels {sign} 1"
    return (f"{right}: where do labels count from?",)


def prepare_classifiers(classifiers: Sequence[Classifier], samples: Samples) -> list[Classifier]:
    """Return the classifiers ready for these samples, as `prepare_classifier`; what the labels decide must agree.

    Raises
    ------
    InputError
        Also where normalisations that nobody stated come out different: a loss would be one of preprocessing.

    """
    ready = [prepare_classifier(classifier, samples) for classifier in classifiers]
    for before, classifier in zip(classifiers, ready, strict=True):
        if not before.normalization_known and classifier.normalization != ready[0].normalization:
            raise InputError(
                f"`normalization` of {classifier.name!r} looks different from that of {ready[0].name!r}, and no file "
                "says it: give it (--normalization)"
            )
    return ready


def check_fit(classifier: Classifier, samples: Samples) -> None:
    """Refuse samples that the network cannot take, outputs that are no logits, or labels that are no classes of it.

    Raises
    ------
    InputError
        Naming the shape or label, and the way out.

    """
    if len(samples) == 0:
        raise InputError("`samples` is empty: choose a larger `limit` or other `sample_ids`")
    inputs = samples.inputs[: min(len(samples), PROBING)].to(classifier.device)
    named = f"`samples` {samples.name!r} of shape {tuple(inputs.shape[1:])}"
    classes = refuse_other_outputs(classifier, inputs, named)
    lowest, highest = int(samples.labels.min()), int(samples.labels.max())
    if highest >= classes:
        from_one = lowest == 1 and highest == classes
        way_out = "they count from 1, give labels - 1" if from_one else "choose the data set that it was trained on"
        raise InputError(
            f"`samples` {samples.name!r} have label {highest}, but the network {classifier.name!r} knows {classes} "
            f"classes (0 to {classes - 1}): {way_out}"
        )


def warn(warning: DoubtfulWarning) -> None:
    """Give a warning, with the line that called this package as its place."""
    depth, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("thinice."):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(warning, stacklevel=depth)
