"""Stores with results made up by a seed: what a page shows does not depend on who measured it."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, log_expit

from tests.plots.looking import sample_columns
from thinice.stats import separation
from thinice.store import open_store
from thinice.types import Outcome

SAME = (
    *("auc", "confidence", "u", "p_value", "log10_p", "p_value_two_sided", "log10_p_two_sided"),
    *("median_kept", "median_lost", "shift", "cliffs_delta", "notes"),
)


def natural_images(n, side=32, *, seed=0):
    """Colour pictures (N, 3, H, W) uint8 with the spectrum of photographs: amplitude falls as 1/frequency."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    amplitude = 1 / np.maximum(frequency, 1 / side)
    noise = np.fft.rfft2(rng.standard_normal((n, 3, side, side)).astype(np.float32))
    noise = noise + 1.5 * noise[:, :1]  # channels of a photograph go together
    images = np.fft.irfft2(noise * amplitude, s=(side, side))
    images = images / images.std(axis=(1, 2, 3), keepdims=True)
    return np.clip(128 + 60 * images, 0, 255).astype(np.uint8)


def write_store(path, samples, *, seed=0, pruned=("pruned",), names=("dense", "fmn"), adversarials=200, norm="linf"):
    """Return a store with one measurement of the samples and a comparison for each pruned network, all made up."""
    rng = np.random.default_rng(seed)
    n, classes = len(samples), len(samples.classes)
    labels, ids = samples.labels.numpy(), samples.sample_ids.numpy()
    epsilon, transition = sample_columns(n, seed=seed)
    outcomes = np.where(
        np.isnan(epsilon), Outcome.NOT_FOUND, np.where(epsilon == 0, Outcome.MISCLASSIFIED, Outcome.FOUND)
    )
    wrong = (labels + rng.integers(1, max(classes, 2), n)) % classes
    dense = np.where(np.isin(transition, ["S1,1", "S1,0"]), labels, wrong)
    far = np.where(outcomes == Outcome.NOT_FOUND, -1, (dense + 1) % classes)
    nearest = np.argsort(np.where(outcomes == Outcome.FOUND, epsilon, np.inf))[:adversarials]
    clean = samples.inputs[nearest.tolist()].numpy()
    shift = epsilon[nearest, None, None, None] * rng.choice([-1, 1], clean.shape)
    adversarials = np.clip(clean + shift, 0, 1).astype(np.float32)
    store = open_store(path, new=True)
    with store.run(
        ["thinice", "compare", "dense.pt", *pruned], device="cpu", seed=seed, settings={"norm": norm}
    ) as run:
        data = run.dataset(
            fingerprint=samples.fingerprint,
            name=samples.name,
            split=samples.split,
            shape=samples.inputs.shape[1:],
            classes=samples.classes,
            sample_ids=ids,
            labels=labels,
            digests=samples.digests,
            sources=samples.sources,
        )
        recipe = {"architecture": "made-up", "classes": classes}
        before = run.checkpoint(fingerprint=f"d{seed}", name=names[0], sparsity=0.0, **recipe)
        attack = run.attack(name=names[1], norm=norm, settings={"steps": 100})
        measurement = run.measurement(before, data, attack)
        run.add_epsilons(
            measurement,
            ids,
            epsilon=epsilon,
            outcomes=outcomes,
            predictions=far,
            clean_predictions=dense,
            evaluations=rng.integers(50, 100, n),
            adversarials=dict(zip(ids[nearest].tolist(), adversarials, strict=True)),
        )
        sure = np.where(np.isin(transition, ["S1,1", "S1,0"]), 1, -1) * rng.gamma(2, 1, n)
        run.add_predictions(
            before, data, ids, predictions=dense, margins=sure, confidences=expit(sure), losses=-log_expit(sure)
        )
        for k, name in enumerate(pruned):
            after = run.checkpoint(fingerprint=f"p{seed}{k}", name=name, sparsity=0.9 + 0.01 * k, **recipe)
            changed = transition if k == 0 else sample_columns(n, seed=seed + k)[1]
            right = np.isin(changed, ["S1,1", "S0,1"])
            margins = np.where(right, 1, -1) * rng.gamma(2, 1, n)
            run.add_predictions(after, data, ids, predictions=np.where(right, labels, wrong), margins=margins)
            if k == 0:  # its own distances too
                own = np.where(right, epsilon * rng.uniform(0.5, 1.2, n) + 0.001, 0)
                own_outcomes = np.where(right, np.where(np.isnan(own), Outcome.NOT_FOUND, Outcome.FOUND), 0)
                run.add_epsilons(
                    run.measurement(after, data, attack),
                    ids,
                    epsilon=own,
                    outcomes=own_outcomes,
                    predictions=np.where(own_outcomes == Outcome.NOT_FOUND, -1, wrong),
                    clean_predictions=np.where(right, labels, wrong),
                    evaluations=np.full(n, 70),
                )
            comparison = run.comparison(measurement, after)
            found = separation(epsilon[changed == "S1,1"], epsilon[changed == "S1,0"])
            interval = found.interval()
            run.add_statistics(
                comparison,
                **{name: getattr(found, name) for name in SAME},
                auc_low=interval and interval.low,
                auc_high=interval and interval.high,
            )
    return store
