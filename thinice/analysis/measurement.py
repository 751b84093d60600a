"""`measure`: the nearest adversarial of every sample, without files or SQL; `measure_all` stores them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import torch
from torch import Tensor, nn

from thinice.analysis.doubts import doubts
from thinice.analysis.options import MeasureOptions, RunOptions, SearchOptions, chosen, search_options
from thinice.attacks import Attack, MinNormResult, concatenate, make_attack
from thinice.data import Samples, as_samples
from thinice.data.wordnet import IMAGENET_CLASSES, as_imagenet
from thinice.engines import ENGINES, DeterministicEngine, Engine, LocalEngine, ProgressCounter, auto_reporter
from thinice.errors import DoubtfulWarning, InputError
from thinice.models import Classifier, as_classifier, decide
from thinice.models.architectures.variants import base_and_variant
from thinice.models.hypotheses import deciding
from thinice.models.inference import inference_form
from thinice.models.normalization import normalization_text
from thinice.models.outputs import output_doubts, refuse_other_outputs
from thinice.numerics import pick_device
from thinice.types import DEFAULT_ATTACK

__all__ = [
    "TRYING",
    "AttackTask",
    "Interrupted",
    "check_fit",
    "data_of",
    "forward",
    "in_network_classes",
    "make_engine",
    "measure",
    "minimum_norm_attack",
    "prepare_classifier",
    "prepare_classifiers",
    "warn",
]

PROBING = 32
"""So many samples tell what keeps attacks from measuring a network."""
OWN_SETTINGS = ("workers", "address", "slurm", "jobs")
"""Options that only some engines have."""
TRYING = 8
"""So many samples tell whether the inference form of the network gives the same logits."""


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
    **options: Unpack[MeasureOptions],
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
    effort : {"quick", "standard", "thorough", "exhaustive"}
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
    deterministic : bool
        Hold torch to operations that give the same bits each time; an operation without such a form on the device is
        an error.
    engine : str or Engine
        A name in `thinice.engines.ENGINES`: ``"local"`` computes in this process. Or an engine of your own.
    workers : int, optional
        So many processes of this machine compute, batch by batch: the engine ``"processes"``. The results are the same
        to the bit at the same batch size.
    address : str, optional
        The cluster that the engine ``"ray"`` joins.
    slurm : mapping, optional
        Options of `sbatch` for the jobs of the engine ``"slurm"``: ``{"partition": "gpu"}``; `workers` is how many run
        at a time.
    jobs : path, optional
        The folder through which these jobs answer: one that all nodes see, by default the current one.
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
        unprepared = as_classifier(classifier)
        data = in_network_classes(data_of(samples, labels), [unprepared])
        network = prepare_classifier(unprepared, data)
    given = chosen(MeasureOptions, options)
    bound = minimum_norm_attack(given["attack"], **search_options(options, MeasureOptions))
    engine = make_engine(options)
    progress = options.get("progress", True)
    report = auto_reporter() if progress is True else progress or None
    counter = ProgressCounter(f"{network.name}, {bound.norm}, {bound.name}", len(data), bound.norm, report)
    finished: list[tuple[slice, MinNormResult]] = []
    try:
        for part, nearest in engine.run(AttackTask(network, data, bound, given["compiled"])):
            finished.append((part, nearest))
            counter.add(nearest.outcomes, nearest.epsilon)
    except KeyboardInterrupt:
        first = _without_a_gap(finished)
        if not first:
            raise
        raise Interrupted(concatenate(first, like=data.inputs[:0]), len(data)) from None
    return concatenate(_without_a_gap(finished), like=data.inputs[:0])


def _without_a_gap(finished: Sequence[tuple[slice, MinNormResult]]) -> list[MinNormResult]:
    """Return the results of an engine, which come in any order, in that of the samples, up to the first that lacks."""
    results, end = list[MinNormResult](), 0
    for part, result in sorted(finished, key=lambda shard: shard[0].start):
        if part.start != end:
            break
        results.append(result)
        end = part.stop
    return results


def make_engine(options: Mapping[str, object]) -> Engine:
    """Return the engine that options of `RunOptions` name, or bring.

    Raises
    ------
    InputError
        For an unknown engine or device, and for options that an engine of the caller's own would ignore.

    """
    given = chosen(RunOptions, options)
    engine, workers = given["engine"], given["workers"]
    if isinstance(engine, str):
        settings: dict[str, object] = {"device": pick_device(given["device"]), "batch_size": given["batch_size"]}
        settings |= {name: value for name, value in given.items() if name in OWN_SETTINGS and value is not None}
        engine = ENGINES.make("processes" if engine == "local" and workers is not None else engine, **settings)
        return DeterministicEngine(engine) if given["deterministic"] else engine
    for name in ("device", "batch_size", *OWN_SETTINGS):
        if name in options:
            raise InputError(f"`{name}` goes with the name of an engine; this `engine` has its own: leave it out")
    return DeterministicEngine(engine) if given["deterministic"] else engine


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


def prepare_classifier(classifier: Classifier, samples: Samples, *, like: Classifier | None = None) -> Classifier:
    """Return the classifier ready for these samples: they fit, and it is known what the network computes.

    Where no file says how the network normalises its inputs, or which of several networks with the same parameters it
    is, the labels decide between the candidates, and the classifier's notes say with which accuracies; it is what
    another is that is `like` it, unless labels are clearly against that. What keeps
    attacks from measuring it, or speaks against its being the one that is meant, is noted too (`output_doubts`,
    `doubts`); what is grave is a `DoubtfulWarning` as well.

    Raises
    ------
    InputError
        Where the samples do not fit, or no candidate is clearly better than the others.

    """
    if len(samples) == 0 or not classifier.alternatives:  # else one of the alternatives may fit
        check_fit(classifier, samples)
    some = samples[deciding(len(samples))]
    ready = decide(classifier, some.inputs[:], some.labels, like=like)
    check_fit(ready, samples)
    logits = forward(ready, some, LocalEngine(ready.device))
    probed = some.inputs[: min(len(some), PROBING)].to(ready.device)
    grave, notes = doubts(ready, logits, some)
    reasons = [doubt for doubt in (*output_doubts(ready, probed), *grave) if doubt not in ready.notes]
    if reasons:
        warn(DoubtfulWarning(reasons, ready.name))
    all_notes = tuple(dict.fromkeys((*ready.notes, *reasons, *notes)))
    return ready if all_notes == ready.notes else replace(ready, notes=all_notes)


def prepare_classifiers(classifiers: Sequence[Classifier], samples: Samples) -> list[Classifier]:
    """Return the classifiers ready for these samples, as `prepare_classifier`; what the labels decide must agree.

    What files leave open of the others is as of the first, the dense one, unless labels are clearly against it.

    Raises
    ------
    InputError
        Also where normalisations, or variants of one architecture, that nobody stated come out different: a loss would
        be one of preprocessing, or of a network that was not meant.

    """
    ready: list[Classifier] = []
    for classifier in classifiers:
        ready.append(prepare_classifier(classifier, samples, like=ready[0] if ready else None))
    for before, classifier in zip(classifiers, ready, strict=True):
        if not before.normalization_known and classifier.normalization != ready[0].normalization:
            first, own = (normalization_text(network.normalization) for network in (ready[0], classifier))
            raise InputError(
                f"`normalization` of {classifier.name!r} looks like {own}, that of {ready[0].name!r} is {first}, and "
                f"the file of {classifier.name!r} does not say it: give it (--normalization {first})"
            )
        first, own = ready[0].architecture, classifier.architecture
        if not before.architecture_known and first != own and base_and_variant(first)[0] == base_and_variant(own)[0]:
            raise InputError(
                f"`architecture` of {classifier.name!r} looks like {own}, that of {ready[0].name!r} like {first}, and "
                "no file says it: give it (--architecture)"
            )
    return ready


def in_network_classes(samples: Samples, classifiers: Sequence[Classifier]) -> Samples:
    """Return the samples with the labels that the networks give: of Imagenette, ImageNet's, where all know 1000.

    Examples
    --------
    >>> import thinice
    >>> dense = thinice.load_classifier(thinice.example_checkpoints()["dense"])
    >>> samples = thinice.load_samples("digits", limit=20)
    >>> in_network_classes(samples, [dense]) is samples
    True
    """
    if all(classifier.classes == IMAGENET_CLASSES for classifier in classifiers):
        return as_imagenet(samples)
    return samples


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
