"""The main measurement: a classifier, samples and an attack in, the nearest adversarials out, batch by batch.

Knows nothing of files or SQL: `thinice.campaign` stores what comes out of `batches`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from thinice.attacks import Attack, MinNormResult, concatenate, make_attack
from thinice.data import Samples, as_samples
from thinice.engines import Progress, Reporter, auto_reporter
from thinice.errors import InputError
from thinice.models import Classifier, as_classifier, infer_normalization, looks_like_probabilities
from thinice.models.inference import inference_form
from thinice.numerics import exact, pick_device
from thinice.types import DEFAULT_ATTACK, Effort, Norm, Outcome, Precision

__all__ = [
    "Interrupted",
    "ProgressCounter",
    "batches",
    "check_fit",
    "forward",
    "measure",
    "prepare_classifier",
    "prepare_classifiers",
]

BatchSize = int | Literal["auto"]
Result = TypeVar("Result")

# 32 to 64 samples of CIFAR size use a processor's caches best; a GPU wants as many as keep it busy. Of smaller samples
# more go into a batch, up to a limit: 512 digits take half the time of 8 batches of 64.
CPU_BATCH, CPU_MOST = 128, 512
CUDA_BATCH, CUDA_MOST = 1024, 8192
CIFAR_VALUES = 3 * 32 * 32
DECIDING = 512
"""So many samples decide between hypotheses of normalisation."""
PROBING = 32
TRYING = 8
"""So many samples tell whether a faster form of the network answers as it does."""
PROBABILITIES = (
    "the outputs look like probabilities, not logits: a softmax inside starves attacks of gradients, and epsilons come "
    "out too large; export the network without it"
)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `measure`: what was finished is in `nearest`, in the order of the samples.

    Attributes
    ----------
    nearest : Nearest
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
    norm: Norm = "linf",
    attack: str | Attack = DEFAULT_ATTACK,
    effort: Effort = "standard",
    seed: int = 0,
    device: str | torch.device = "auto",
    batch_size: BatchSize = "auto",
    precision: Precision = "float32",
    compiled: bool = False,
    progress: Reporter | bool = True,
    **settings: str | float | bool | None,
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
        Arithmetic of the search: less is faster on hardware that has it. The judge's is IEEE float32 in any case.
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
        data = _samples(samples, labels)
        network = prepare_classifier(as_classifier(classifier), data)
    chosen: dict[str, Any] = {"precision": precision, **settings}
    bound = attack if isinstance(attack, Attack) else make_attack(attack, norm=norm, effort=effort, seed=seed, **chosen)
    report = auto_reporter() if progress is True else progress or None
    tally = ProgressCounter(f"{network.name}, {bound.norm}, {bound.name}", len(data), bound.norm, report)
    finished: list[MinNormResult] = []
    try:
        for _, nearest in batches(network, data, bound, device=device, batch_size=batch_size, compiled=compiled):
            finished.append(nearest)
            tally.add(nearest)
    except KeyboardInterrupt:
        if not finished:
            raise
        raise Interrupted(concatenate(finished, like=data.inputs[:0]), len(data)) from None
    return concatenate(finished, like=data.inputs[:0])


def batches(
    classifier: Classifier,
    samples: Samples,
    attack: Attack,
    *,
    device: str | torch.device = "auto",
    batch_size: BatchSize = "auto",
    compiled: bool = False,
) -> Iterator[tuple[slice, MinNormResult]]:
    """Yield the position of each finished batch in `samples` and its result, on the CPU.

    The attack searches in the network's fast form; its judge sees the network itself. When memory runs out, the batch
    is halved and tried again; one sample that does not fit is an error.
    """
    fast: Classifier | None = None

    def nearest(network: Classifier, part: slice, where: torch.device) -> MinNormResult:
        nonlocal fast
        inputs = samples.inputs[part].to(where, torch.float32).contiguous()
        labels, sample_ids = samples.labels[part].to(where), samples.sample_ids[part].to(where)
        if fast is None:
            fast = inference_form(network, inputs[:TRYING], compiled=compiled)
        return attack(network, inputs, labels, sample_ids, search_model=fast).to("cpu")

    yield from _in_batches(classifier, samples, nearest, device, batch_size)


def forward(
    classifier: Classifier,
    samples: Samples,
    *,
    device: str | torch.device = "auto",
    batch_size: BatchSize = "auto",
) -> Tensor:
    """Return the logits (N, K) of the clean samples, on the CPU."""

    def logits(network: Classifier, part: slice, where: torch.device) -> Tensor:
        with torch.no_grad():
            return network(samples.inputs[part].to(where, torch.float32).contiguous()).cpu()

    return torch.cat([found for _, found in _in_batches(classifier, samples, logits, device, batch_size)])


def _in_batches(
    classifier: Classifier,
    samples: Samples,
    compute: Callable[[Classifier, slice, torch.device], Result],
    device: str | torch.device,
    batch_size: BatchSize,
) -> Iterator[tuple[slice, Result]]:
    """Yield what is computed of each batch; halve the batch when memory runs out, and go on."""
    where = pick_device(device)
    size = _first_batch_size(batch_size, samples, where)
    network = classifier.to(where)
    start = 0
    while start < len(samples):
        part = slice(start, min(start + size, len(samples)))
        try:
            with exact(where):
                result = compute(network, part, where)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            if size == 1:
                message = f"`device` {where}: memory does not hold even one sample of this network"
                raise InputError(message) from error
            size = (part.stop - part.start + 1) // 2
            if where.type == "cuda":
                torch.cuda.empty_cache()
            continue
        yield part, result
        start = part.stop


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _first_batch_size(batch_size: BatchSize, samples: Samples, where: torch.device) -> int:
    if batch_size == "auto":
        values = max(1, samples.inputs.shape[1:].numel())
        base, most = (CPU_BATCH, CPU_MOST) if where.type == "cpu" else (CUDA_BATCH, CUDA_MOST)
        if values < CIFAR_VALUES:
            return min(most, base * CIFAR_VALUES // values)
        return max(1, min(base, base * 4 * CIFAR_VALUES // values))
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f'`batch_size` must be "auto" or a whole number of at least 1, got {batch_size!r}')
    return batch_size


def _samples(samples: Samples | Tensor, labels: Tensor | None) -> Samples:
    if isinstance(samples, Samples):
        if labels is not None:
            raise InputError("`labels` goes with a tensor of inputs; `Samples` bring their own: leave it out")
        return samples
    if labels is None:
        raise InputError("`labels` is missing: a tensor of inputs needs the true classes, `labels=` of shape (N,)")
    return as_samples(samples, labels)


def prepare_classifier(classifier: Classifier, samples: Samples) -> Classifier:
    """Return the classifier ready for these samples: they fit, and its normalisation is known.

    Where nobody said how the network normalises its inputs, the labels decide between the hypotheses, and the
    classifier's notes say with which accuracies. The notes also warn of outputs that look like probabilities.

    Raises
    ------
    InputError
        Where the samples do not fit, or no hypothesis is clearly better than the others.

    """
    check_fit(classifier, samples)
    some = samples[: min(len(samples), DECIDING)]
    ready = infer_normalization(classifier, some.inputs[:], some.labels)
    logits = forward(ready, some[: min(len(some), PROBING)], device=ready.device)
    if looks_like_probabilities(logits) and PROBABILITIES not in ready.notes:
        return replace(ready, notes=(*ready.notes, PROBABILITIES))
    return ready


def prepare_classifiers(classifiers: Sequence[Classifier], samples: Samples) -> list[Classifier]:
    """Return the classifiers ready for these samples, as `prepare_classifier`; what the labels decide must agree.

    Raises
    ------
    InputError
        Also where normalisations that nobody stated come out different: a loss would be one of preprocessing.

    """
    ready = [prepare_classifier(classifier, samples) for classifier in classifiers]
    guessed = [after for before, after in zip(classifiers, ready, strict=True) if not before.normalization_known]
    for one in guessed:
        if one.normalization != ready[0].normalization:
            raise InputError(
                f"`normalization` of {one.name!r} looks different from that of {ready[0].name!r}, and no file says it: "
                "give it (--normalization)"
            )
    return ready


def check_fit(classifier: Classifier, samples: Samples) -> None:
    """Refuse samples that the network cannot take, or labels that are none of its classes.

    Raises
    ------
    InputError
        Naming the shape or label, and the way out.

    """
    if len(samples) == 0:
        raise InputError("`samples` is empty: choose a larger `limit` or other `sample_ids`")
    shape = tuple(samples.inputs.shape[1:])
    try:
        with torch.no_grad():
            logits = classifier(samples.inputs[:1].to(classifier.device))
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"`samples` {samples.name!r} of shape {shape} do not fit the network {classifier.name!r}: {reason}"
        ) from None
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the network {classifier.name!r} returns a {type(logits).__name__}, not logits (N, classes): wrap it in a "
            "module that does"
        )
    if logits.ndim != 2:
        raise InputError(
            f"the network {classifier.name!r} returns shape {tuple(logits.shape)}, not logits (N, classes)"
        )
    if logits.shape[1] < 2:
        raise InputError(
            f"the network {classifier.name!r} has one output, and attacks compare the logits of classes: let it return "
            "two, torch.cat([-logit, logit], 1)"
        )
    highest = int(samples.labels.max())
    if highest >= logits.shape[1]:
        raise InputError(
            f"`samples` {samples.name!r} have label {highest}, but the network {classifier.name!r} knows "
            f"{logits.shape[1]} classes (0 to {logits.shape[1] - 1}): choose the data set that it was trained on"
        )


class ProgressCounter:
    """Counts what is finished and reports it; `resumed` samples were there before the start."""

    def __init__(self, title: str, total: int, norm: Norm, report: Reporter | None, resumed: int = 0) -> None:
        self._title, self._total, self._norm, self._report, self._resumed = (
            title,
            total,
            norm,
            report,
            resumed,
        )
        self._outcomes: list[Tensor] = []
        self._epsilons: list[Tensor] = []
        self._start = time.monotonic()

    def add(self, nearest: MinNormResult) -> None:
        """Take a finished batch into account and report."""
        self._outcomes.append(nearest.outcomes)
        self._epsilons.append(nearest.epsilon)
        if self._report is not None:
            self._report(self._progress())

    def _progress(self) -> Progress:
        outcomes, epsilons = torch.cat(self._outcomes), torch.cat(self._epsilons)
        found = outcomes == Outcome.FOUND
        return Progress(
            title=self._title,
            done=self._resumed + len(outcomes),
            total=self._total,
            resumed=self._resumed,
            found=int(found.sum()),
            not_found=int((outcomes == Outcome.NOT_FOUND).sum()),
            misclassified=int((outcomes == Outcome.MISCLASSIFIED).sum()),
            median=float(epsilons[found].median()) if found.any() else float("nan"),
            seconds=time.monotonic() - self._start,
            norm=self._norm,
        )
