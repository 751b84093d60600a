"""`measure_all`: the epsilons of several networks, kept in a store; `thinice.measure` returns those of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import nn

from thinice.analysis.certifying import certify, refuse_hours, refuse_uncertifiable
from thinice.analysis.measurement import in_network_classes, minimum_norm_attack, prepare_classifiers
from thinice.analysis.options import MeasureAllOptions, chosen, search_options
from thinice.analysis.session import open_session
from thinice.data import Samples
from thinice.models import Classifier, as_classifier
from thinice.results import Measured

__all__ = ["measure_all"]


def measure_all(
    classifiers: Sequence[Classifier | nn.Module],
    samples: Samples,
    **options: Unpack[MeasureAllOptions],
) -> tuple[Measured, ...]:
    """Return the epsilons of every sample for each of several networks, in their order.

    Unlike `thinice.measure`, which returns the adversarials too, this keeps everything in a store: an interrupted run
    goes on where it stopped, and what the store holds already is read.

    Parameters
    ----------
    classifiers : sequence of Classifier or nn.Module
        The networks; where nobody said how one normalises its inputs, the labels decide.
    samples, attack, progress, **options
        As of `thinice.measure`.
    store : path or Store, optional
        The DuckDB file; None keeps nothing.
    certify : bool
        Prove a lower bound of each distance as well, as `thinice.lower_bounds`: `Measured.epsilon_lower`.
    certify_hours : float
        A network whose bounds would take longer is refused, before any is attacked.
    shard : str, optional
        ``"3/64"``, the third of 64 parts of the samples, is measured alone: `thinice.analysis.session.shard_positions`.
        A store keeps it as a part of the whole; `Store.merge` brings the parts together.
    command : sequence of str, optional
        What the store notes as the origin of the run; by default this process's command line.

    Raises
    ------
    InputError
        As of `thinice.measure`.

    Examples
    --------
    >>> import thinice
    >>> paths = thinice.example_checkpoints()
    >>> networks = [thinice.load_classifier(paths[name]) for name in ("dense", "pruned-95")]
    >>> samples = thinice.load_samples("digits", limit=20)
    >>> results = thinice.measure_all(networks, samples, attack="fmn", effort="quick", progress=False)
    >>> [(measured.network, measured.to_dict()["samples"]) for measured in results]
    [('dense', 20), ('pruned-95', 20)]

    """
    with torch.inference_mode(mode=False):  # a copy made in a caller's inference mode could have no gradients
        unprepared = [as_classifier(classifier) for classifier in classifiers]
        samples = in_network_classes(samples, unprepared)
        networks = prepare_classifiers(unprepared, samples)
    given = chosen(MeasureAllOptions, options)
    refuse_hours(options)
    bound = minimum_norm_attack(given["attack"], **search_options(options, MeasureAllOptions))
    with (
        open_session(samples, options, networks) as session,
        session.run(bound, seed=bound.seed, command=options.get("command")),
    ):
        if not given["certify"]:
            return tuple(session.measure(network, bound) for network in networks)
        for network in networks:
            refuse_uncertifiable(session, network, bound.norm, hours=given["certify_hours"])
        return tuple(certify(session, network, session.measure(network, bound), bound) for network in networks)
