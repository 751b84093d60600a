"""`decide` lets labels choose what a file leaves open: which network its weights are of, and the normalisation.

Both change the function and neither has parameters. Every `Hypothesis` is tried on labelled samples, and one is chosen
only where it is clearly more accurate than all others; else an error names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from thinice.errors import InputError
from thinice.models.architectures.identify import WAYS_IN
from thinice.models.architectures.rebuild import rebuild
from thinice.models.architectures.variants import base_and_variant, change, is_own_change
from thinice.models.classifier import Classifier, OneByOne, assemble, usual_shape
from thinice.models.normalization import NORMALIZATIONS, Normalization, Normalized, normalization_text
from thinice.models.recorded import SURPRISING, chance_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from torch.nn import Module

__all__ = ["Hypothesis", "Inputs", "LabelledSamples", "choices", "decide", "deciding", "hypotheses"]

ALPHA = 0.05
"""Chance of choosing a hypothesis that is no better than another, over all comparisons together."""
BATCH = 250
DECIDING = 512
"""So many samples decide."""
SCREENINGS = (16, 64)
"""So many of them exclude hypotheses that are far off, one after the other, where there are variants to be tried."""
MOST_SHOWN = 6
"""Architectures whose accuracies a message tells."""
SAME = 1e-3
"""Normalisations whose numbers differ by less are one candidate: no data set tells them apart."""
EXPLAINED = 2 / 3
"""Share of the labels that a network must have right to be chosen by them; half of it, where its names tell it."""
DENSE = 0.05
"""Sparsity below which a network is not pruned."""
ROUNDING = 1e-4
"""Relative difference of logits up to which two hypotheses are one function."""


class Inputs(Protocol):
    """A tensor (N, C, H, W), or what decodes to one when it is indexed."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, C, H, W)."""
        ...

    def __getitem__(self, part: slice | Tensor, /) -> Tensor:
        """Return some of the samples."""
        ...


class LabelledSamples(Protocol):
    """Samples with their true classes, such as `thinice.Samples`."""

    @property
    def inputs(self) -> Inputs:
        """(N, C, H, W) in [0, 1]."""
        ...

    @property
    def labels(self) -> Tensor:
        """(N,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """A function that the weights of a file may mean, and how it answers samples.

    Attributes
    ----------
    architecture : str
        As `build` takes it.
    normalization_name : str
        As `parse_normalization` takes it.
    normalization : (mean, std), optional
        The numbers.
    correct : Tensor
        (N,) whether each sample is right.
    predictions, highest : Tensor
        (N,) predicted classes and their logits.
    """

    architecture: str
    normalization_name: str
    normalization: Normalization | None
    correct: Tensor
    predictions: Tensor
    highest: Tensor

    @property
    def accuracy(self) -> float:
        """Fraction of the samples that are right."""
        return float(self.correct.float().mean())

    def is_same_function(self, other: Hypothesis) -> bool:
        """Return whether two architectures answer every sample with the same logit, up to rounding.

        ``transform_input`` after ImageNet's normalisation is ``half``, for example. A network whose logits do not
        depend on the sample tells nothing.
        """
        tells = self.architecture != other.architecture and bool((self.highest != self.highest[:1]).any())
        return (
            tells
            and torch.equal(self.predictions, other.predictions)
            and torch.allclose(self.highest, other.highest, rtol=ROUNDING, atol=ROUNDING)
        )

    def chance(self, other: Hypothesis) -> float:
        """Return the p-value of the exact McNemar test: whether one is more accurate than the other.

        Of the samples that are right under only one of the two, the share of either would be a half.
        """
        from scipy.stats import binomtest  # noqa: PLC0415 - needed here alone

        only_mine, only_other = int((self.correct & ~other.correct).sum()), int((other.correct & ~self.correct).sum())
        return float(binomtest(only_mine, only_mine + only_other).pvalue) if only_mine + only_other else 1.0


def deciding(count: int) -> Tensor:
    """Return the positions of the samples that decide, of so many: spread over all, which may be sorted by class.

    Examples
    --------
    >>> deciding(2048)[:3].tolist(), deciding(3).tolist()
    ([0, 4, 8], [0, 1, 2])
    """
    few = min(count, DECIDING)
    return torch.arange(few) * count // max(few, 1)


def choices(architectures: Iterable[str]) -> str:
    """Return architectures as a message offers them: their names, and the variants with what is special to each.

    Examples
    --------
    >>> choices(["vgg16_bn_radmm", "vgg16_bn_radmm:average-pool"])
    'vgg16_bn_radmm, or vgg16_bn_radmm:VARIANT with average-pool (the last pool is an average)'
    """
    variants: dict[str, dict[str, str]] = {}
    for architecture in architectures:
        base, variant = base_and_variant(architecture)
        described = variants.setdefault(base, {})
        sentence = change(base, variant).sentence if variant and "+" not in variant else variant
        described[variant] = variant if sentence == variant else f"{variant} ({sentence})"
    offers = [", ".join(_quoted(base) for base, described in variants.items() if "" in described)]
    kinds = {frozenset(described) - {""} for described in variants.values()}
    if len(kinds) == 1:
        name = _quoted(next(iter(variants))) if len(variants) == 1 else "NAME"
        listed = {name: [text for text in next(iter(variants.values())).values() if text]}
    else:  # without what is special to each: a message has its limits
        listed = {_quoted(base): [variant for variant in described if variant] for base, described in variants.items()}
    offers += [f"{base}:VARIANT with {', '.join(texts)}" for base, texts in listed.items() if texts]
    return ", or ".join(offer for offer in offers if offer)


def _quoted(architecture: str) -> str:
    """Return a name as a shell takes it."""
    return f"'{architecture}'" if "(" in architecture else architecture


def hypotheses(
    classifier: Classifier,
    inputs: Inputs,
    labels: Tensor,
    normalizations: Sequence[tuple[str, Normalization | None]],
    architectures: Sequence[str] | None = None,
) -> tuple[Hypothesis, ...]:
    """Return every architecture with every normalisation as a hypothesis, the most accurate first.

    An architecture that cannot take the inputs is none. A normalisation that differs from another by less than any two
    data sets do is none either.
    """
    tried = [
        Hypothesis(architecture, name, normalization, predictions == labels.cpu(), predictions, highest)
        for architecture in architectures or (classifier.architecture, *classifier.alternatives)
        for name, normalization, predictions, highest in _answers(classifier, architecture, inputs, normalizations)
    ]
    return tuple(sorted(tried, key=lambda hypothesis: -hypothesis.accuracy))


def usual_normalizations(channels: int) -> list[tuple[str, Normalization | None]]:
    """Return the named normalisations for images of so many channels, without those that are another one's twin."""
    usual: list[tuple[str, Normalization | None]] = []
    for name in NORMALIZATIONS.names():
        normalization = NORMALIZATIONS.get(name)
        fits = normalization is None or name == "half" or len(normalization[0]) == channels
        if fits and not any(_alike(normalization, earlier) for _, earlier in usual):
            usual.append((name, normalization))
    return usual


def _alike(first: Normalization | None, second: Normalization | None) -> bool:
    if first is None or second is None:
        return first is second
    numbers = zip(first[0] + first[1], second[0] + second[1], strict=False)
    return len(first[0]) == len(second[0]) and all(abs(a - b) < SAME for a, b in numbers)


def _answers(
    classifier: Classifier,
    architecture: str,
    inputs: Inputs,
    normalizations: Sequence[tuple[str, Normalization | None]],
) -> Iterator[tuple[str, Normalization | None, Tensor, Tensor]]:
    """Yield the name and numbers of each normalisation, with the predicted classes and their logits under it."""
    network = _network(classifier, architecture)
    for name, normalization in normalizations:
        module = network
        if normalization is not None:
            module = Normalized(network, mean=normalization[0], std=normalization[1]).to(classifier.device)
        module = OneByOne(module) if classifier.one_by_one else module
        try:
            with torch.no_grad():
                parts = [
                    module(inputs[slice(start, start + BATCH)].to(classifier.device)).max(1)
                    for start in range(0, inputs.shape[0], BATCH)
                ]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            if not classifier.alternatives:
                raise
            return  # it takes images of another size
        highest, predictions = (torch.cat([part[index].cpu() for part in parts]) for index in (0, 1))
        yield name, normalization, predictions, highest


def _network(classifier: Classifier, architecture: str) -> Module:
    """Return the network that a classifier's weights are, in another architecture, ready for use."""
    if architecture == classifier.architecture:
        return classifier.network
    weights = classifier.network.state_dict()
    network = rebuild(architecture, classifier.classes or 0, classifier.arguments, weights, classifier.name)
    return network.to(classifier.device).eval().requires_grad_(requires_grad=False)


def decide(classifier: Classifier, inputs: Inputs, labels: Tensor, *, like: Classifier | None = None) -> Classifier:
    """Return the classifier with the architecture and normalisation that labels choose where its file leaves them open.

    Chosen is what is clearly more accurate than everything else: the exact McNemar test against each other hypothesis
    gives p < 0.05 divided by their number. Where the parameter names are those of one published program, its network
    stays unless another is clearly more accurate. What would be somebody's own change of published networks is chosen
    only where it is clearly more accurate than all of them. Nothing is chosen that explains the labels badly, or is
    clearly less accurate than the file records: then the network is probably none of those known. A classifier of which
    all is known comes back as it is, and so does one that cannot take the inputs in any form.

    Parameters
    ----------
    classifier
        As a file gave it.
    inputs, labels
        Samples (N, C, H, W) in [0, 1] and their true classes (N,).
    like
        A network of which all is known, the dense one of a comparison: what it is stays open of no other, unless labels
        are clearly against it. Of a pruned network with few samples right they decide little.

    Raises
    ------
    InputError
        Labels do not decide, or speak against all that is known; accuracies and the option to give are named.

    Examples
    --------
    >>> from thinice.models import as_classifier
    >>> classifier = as_classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)))
    >>> decide(classifier, torch.rand(8, 1, 2, 2), torch.zeros(8).long()) is classifier
    True
    """
    if classifier.normalization_known and not classifier.alternatives:
        return classifier
    tried, excluded, limit = _tried(classifier, inputs, labels, like)
    if not tried:
        return classifier
    everything = (*tried, *excluded)
    if like is not None and (same := _same_as(like, classifier, tried)) is not None and tried[0].chance(same) >= limit:
        return _chosen(classifier, same, everything, len(labels), like=like.name)
    tried = _published_first(classifier, tried, limit)
    best, runners_up = _best(tried, limit)
    undecided = dict.fromkeys(hypothesis.architecture for hypothesis in (best, *runners_up))
    if classifier.architecture_known and classifier.architecture in undecided:
        tried = [hypothesis for hypothesis in tried if hypothesis.architecture == classifier.architecture]
        best, runners_up = _best(tried, limit)
    if runner_up := next((runner_up for runner_up in runners_up if runner_up.architecture != best.architecture), None):
        equal = torch.equal(best.predictions, runner_up.predictions)
        reason = "all their predictions are equal" if equal else f"p = {best.chance(runner_up):.2g}"
        raise InputError(
            f"`architecture` is missing for {classifier.name!r}: several networks have its parameter names and shapes, "
            f"and {len(labels)} samples do not decide: accuracy is {_of_architectures(everything, undecided)}; "
            f"{best.architecture} and {runner_up.architecture} may differ by chance alone ({reason}): give "
            f"architecture= (--architecture), one of {choices(undecided)}; or your own code, FILE.py:CLASS"
        )
    if runners_up:
        first, second = best.normalization_name, runners_up[0].normalization_name
        raise InputError(
            f"`normalization` is missing for {classifier.name!r} and {len(labels)} samples do not decide: "
            f"accuracy is {_of_normalizations(everything, best)}; {first} and {second} may differ by chance alone "
            f"(p = {best.chance(runners_up[0]):.2g}): give one of them (--normalization)"
        )
    _refuse_unexplained(classifier, best, everything)
    return _chosen(classifier, best, everything, len(labels))


def _refuse_unexplained(classifier: Classifier, best: Hypothesis, everything: Sequence[Hypothesis]) -> None:
    """Refuse what labels speak against, only less than against the rest: people change more than any list has.

    What parameter names alone say is believed longer than what labels choose, and of a pruned network with few samples
    right it is all that there is.

    Raises
    ------
    InputError
        Too few samples are right, or clearly fewer than the file records.
    """
    if not classifier.alternatives:
        return
    right, count = int(best.correct.sum()), len(best.correct)
    recorded = classifier.recorded_accuracy
    told = f", where the file records {recorded[0]} {recorded[1]:.3f}" if recorded is not None else ""
    contradicted = recorded is not None and chance_of(right, count, recorded[1], only_less=True) < SURPRISING
    if classifier.architecture_known and best.architecture == classifier.architecture:
        hopeless = chance_of(right, count, EXPLAINED / 2, only_less=True) < SURPRISING
        if classifier.sparsity >= DENSE or not (contradicted or hopeless):
            return
    elif best.accuracy >= EXPLAINED and not contradicted:
        return
    accuracies = _of_architectures(everything, [best.architecture])
    raise InputError(
        f"`architecture` is missing for {classifier.name!r}: none of the known networks with its parameter names and "
        f"shapes explains {count} labels: accuracy is {accuracies}{told}: if it is one of them all the same, name it "
        f"(--architecture {_quoted(best.architecture)}); else {WAYS_IN}"
    )


def _same_as(like: Classifier, classifier: Classifier, tried: Sequence[Hypothesis]) -> Hypothesis | None:
    """Return the hypothesis that a network is what another is, under the same normalisation; ``None`` without one.

    A network that is known to be of another architecture has the normalisation alone of it.
    """
    if like.architecture in {classifier.architecture, *classifier.alternatives}:
        architecture = like.architecture
    else:
        architecture = "" if classifier.alternatives else classifier.architecture
    for hypothesis in tried:
        if hypothesis.architecture == architecture and hypothesis.normalization == like.normalization:
            return hypothesis
    return None


def _tried(
    classifier: Classifier, inputs: Inputs, labels: Tensor, like: Classifier | None
) -> tuple[Sequence[Hypothesis], Sequence[Hypothesis], float]:
    """Return the hypotheses on all samples, the best first; those that a few excluded before; the p-value that does."""
    its_own = [(normalization_text(classifier.normalization), classifier.normalization)]
    normalizations = its_own if classifier.normalization_known else usual_normalizations(inputs.shape[1])
    if like is not None and not classifier.normalization_known:
        others = [(name, usual) for name, usual in normalizations if not _alike(usual, like.normalization)]
        normalizations = [(normalization_text(like.normalization), like.normalization), *others]
    count = len(labels)
    sizes = [size for size in SCREENINGS if classifier.alternatives and 2 * size <= count] + [count]
    left = dict.fromkeys((classifier.architecture, *classifier.alternatives), normalizations)
    excluded: list[Hypothesis] = []
    for size in sizes:
        some = torch.arange(size) * count // max(size, 1)
        tried = [
            hypothesis
            for architecture, suited in left.items()
            for hypothesis in hypotheses(classifier, inputs[some], labels[some], suited, [architecture])
        ]
        if not tried:
            return (), (), ALPHA
        tried.sort(key=lambda hypothesis: -hypothesis.accuracy)
        limit = ALPHA / len(sizes) / max(1, len(tried) + len(excluded) - 1)
        if size == count:
            break
        near = [hypothesis for hypothesis in tried if tried[0].chance(hypothesis) >= limit]
        excluded += [hypothesis for hypothesis in tried if hypothesis not in near]
        left = {}
        for hypothesis in near:
            pair = (hypothesis.normalization_name, hypothesis.normalization)
            left[hypothesis.architecture] = [*left.get(hypothesis.architecture, []), pair]
    return tried, excluded, limit


def _published_first(classifier: Classifier, tried: Sequence[Hypothesis], limit: float) -> Sequence[Hypothesis]:
    """Return the hypotheses without somebody's own changes, or those alone that are clearly better than all others."""
    own = [hypothesis for hypothesis in tried if is_own_change(hypothesis.architecture, classifier.classes or 0)]
    published = [hypothesis for hypothesis in tried if hypothesis not in own]
    better = [change for change in own if all(_is_better(change, other, limit) for other in published)]
    return better or published


def _is_better(hypothesis: Hypothesis, other: Hypothesis, limit: float) -> bool:
    return hypothesis.accuracy > other.accuracy and hypothesis.chance(other) < limit


def _best(tried: Sequence[Hypothesis], limit: float) -> tuple[Hypothesis, list[Hypothesis]]:
    """Return the most accurate hypothesis, and the other functions that are not clearly worse."""
    best, *others = tried
    return best, [other for other in others if not best.is_same_function(other) and best.chance(other) >= limit]


def _of_architectures(tried: Sequence[Hypothesis], first: Collection[str] = ()) -> str:
    """Return the accuracy of each architecture, under its best normalisation; variants by theirs alone."""
    best: dict[str, float] = {}
    for hypothesis in tried:
        best[hypothesis.architecture] = max(best.get(hypothesis.architecture, 0), hypothesis.accuracy)
    alone = len({base_and_variant(architecture)[0] for architecture in best}) == 1
    ranked = sorted(best.items(), key=lambda pair: (pair[0] not in first, -pair[1]))
    told = [
        f"{(alone and base_and_variant(architecture)[1]) or architecture} {accuracy:.3f}"
        for architecture, accuracy in ranked[:MOST_SHOWN]
    ]
    rest = [accuracy for _, accuracy in ranked[MOST_SHOWN:]]
    others = [f"{len(rest)} others at most {max(rest):.3f}"] if rest else []
    return ", ".join(told + others)


def _of_normalizations(tried: Sequence[Hypothesis], best: Hypothesis) -> str:
    """Return the accuracy of each normalisation in the best architecture."""
    own = [hypothesis for hypothesis in tried if hypothesis.architecture == best.architecture]
    return ", ".join(f"{hypothesis.normalization_name} {hypothesis.accuracy:.3f}" for hypothesis in own)


def _chosen(
    classifier: Classifier, best: Hypothesis, tried: Sequence[Hypothesis], count: int, *, like: str | None = None
) -> Classifier:
    """Return the classifier as a hypothesis has it, with a note on what was chosen by labels, or because of another."""
    by = f"on {count} samples, clearly better than every other (exact paired test, p < {ALPHA:g} over all): accuracy is"
    notes = list(classifier.notes)
    if like is not None:
        by = f"as that of {like!r}, nothing else is clearly better on {count} samples: accuracy is"
    if best.architecture != classifier.architecture or not classifier.architecture_known:
        notes.append(f"architecture {best.architecture} chosen {by} {_of_architectures(tried)}")
    elif classifier.alternatives:
        notes.append(
            f"architecture {best.architecture} stays: no other with these parameter names is clearly better on {count} "
            f"samples: accuracy is {_of_architectures(tried)}"
        )
    if not classifier.normalization_known:
        notes = [note for note in notes if not note.startswith("normalisation is not known")]
        notes.append(f"normalisation {best.normalization_name} chosen {by} {_of_normalizations(tried, best)}")
    unchanged = {
        name: getattr(classifier, name)
        for name in ("class_names", "data", "input_shape", "recipe", "parent", "masks", "path", "recorded_accuracy")
    }
    if best.architecture != classifier.architecture:
        unchanged["input_shape"] = usual_shape(best.architecture, classifier.arguments)
    return assemble(
        _network(classifier, best.architecture),
        name=classifier.name,
        architecture=best.architecture,
        arguments=classifier.arguments,
        classes=classifier.classes,
        normalization=best.normalization,
        normalization_known=True,
        one_by_one=classifier.one_by_one,
        notes=tuple(notes),
        **unchanged,
    )
