"""`compare_populations`: what pruning does to networks as such, shown by several dense and several pruned ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import torch

from thinice.analysis.comparison import Network, as_network, as_samples_for, distinct
from thinice.analysis.measurement import in_network_classes, minimum_norm_attack, prepare_classifiers
from thinice.analysis.options import StoredMeasureOptions, chosen, search_options
from thinice.analysis.session import open_session
from thinice.data import Samples
from thinice.errors import InputError
from thinice.models import same_task
from thinice.results import Populations
from thinice.stats import class_tests, exemplars

__all__ = ["compare_populations"]


def compare_populations(
    dense: Sequence[Network],
    pruned: Sequence[Network],
    samples: Samples | str | None = None,
    **options: Unpack[StoredMeasureOptions],
) -> Populations:
    """Return the samples on which most pruned networks say otherwise than most dense ones, and how close they lay.

    The pruned networks are compared with the dense ones as groups: which pruned network came from which dense one does
    not matter. Every dense network is measured, so that it takes as long as measuring each alone; of pruned ones
    predictions are enough.

    Parameters
    ----------
    dense, pruned : sequence of Classifier, nn.Module, or path
        The networks before and after pruning, trained from several seeds; the literature takes 30 of each.
    samples : Samples or str, optional
        What to compare on, or a data set's name; by default the test split of the data that the first network names.
    **options
        As of `thinice.measure_all`.

    Raises
    ------
    InputError
        If a group is empty, networks answer different tasks, or the samples do not fit them.
    CheckpointError, DataError, StoreError
        For files that cannot be used.

    Examples
    --------
    >>> import thinice
    >>> paths, samples = thinice.example_checkpoints(), thinice.load_samples("digits", limit=20)
    >>> pruned = [paths["pruned-90"], paths["pruned-95"]]
    >>> result = thinice.compare_populations([paths["dense"]], pruned, samples, attack="fmn", steps=5, progress=False)
    >>> result.exemplars.n
    20

    """
    for name, group in (("dense", dense), ("pruned", pruned)):
        if isinstance(group, str) or not group:
            raise InputError(f"`{name}` must be a list of networks, with at least one, got {group!r}")
    with torch.inference_mode(mode=False):  # a copy made in a caller's inference mode could have no gradients
        networks = [as_network(network) for network in (*dense, *pruned)]
        for network in networks[1:]:
            same_task(networks[0], network)
        data = in_network_classes(as_samples_for(samples, networks[0]), networks)
        networks = prepare_classifiers(distinct(networks), data)
    before, after = networks[: len(dense)], networks[len(dense) :]
    attack = minimum_norm_attack(
        chosen(StoredMeasureOptions, options)["attack"], **search_options(options, StoredMeasureOptions)
    )
    with (
        open_session(data, options, networks) as session,
        session.run(attack, seed=attack.seed, command=options.get("command")),
    ):
        measured = [session.measure(network, attack) for network in before]
        dense_predictions = np.array([session.predict(network).predictions for network in before])
        pruned_predictions = np.array([session.predict(network).predictions for network in after])
        session.running.add_population(
            session.dataset_id,
            session.running.attack(name=attack.name, norm=attack.norm, settings=attack.settings),
            dense=map(session.checkpoint, before),
            pruned=map(session.checkpoint, after),
        )
    labels = data.labels.numpy()
    return Populations(
        dense=tuple(network.name for network in before),
        pruned=tuple(network.name for network in after),
        data=data.name,
        split=data.split,
        classes=data.classes,
        attack=attack,
        sample_ids=data.sample_ids.numpy(),
        labels=labels,
        exemplars=exemplars(
            labels, dense_predictions, pruned_predictions, np.array([result.epsilon for result in measured])
        ),
        class_tests=class_tests(labels, dense_predictions, pruned_predictions, classes=data.classes),
    )
