"""`import_claims`: bounds that other programs claim, beside what was found and proved here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thinice.analysis.measurement import in_network_classes, prepare_classifier
from thinice.analysis.session import MeasurementSession
from thinice.certification.ada_verona import ClaimedBounds, choose, read_results
from thinice.data import Samples
from thinice.errors import InputError
from thinice.models import Classifier, as_classifier
from thinice.printable import shown
from thinice.store import Store, open_store, query

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

__all__ = ["import_claims"]


def import_claims(
    path: str | Path,
    classifier: Classifier | nn.Module,
    samples: Samples,
    *,
    network: str | None = None,
    store: Store | str | Path = "thinice.duckdb",
) -> pd.DataFrame:
    """Return what a CSV file of ada-verona claims of samples, beside what the store has found and proved of them.

    The claims are stored as such (``claimed_bounds``): nothing here counts on them. Published bounds were found to be
    wrong. The view ``claims``, and `thinice.check`, say which are refuted by an adversarial in the store.

    Parameters
    ----------
    path : path
        The file, ``result_df.csv``.
    classifier, samples : Classifier or nn.Module, Samples
        What the claims are about; images are matched by `sample_id`, and must have the same labels.
    network : str, optional
        Which network of the file it is; needed where there are several.
    store : Store or path
        Where the claims go.

    Returns
    -------
    DataFrame
        Rows of the view ``claims`` in the order of the samples: ``claimed_lower``, ``claimed_upper``, ``epsilon``,
        ``epsilon_lower``, ``lower_refuted``, ``upper_refuted``.

    Raises
    ------
    DataError
        A file that is no result of ada-verona.
    InputError
        A network that the file does not have; images that are not among the samples, or have other labels.

    """
    chosen = choose(read_results(path), network)
    unprepared = as_classifier(classifier)
    samples = in_network_classes(samples, [unprepared])
    prepared = prepare_classifier(unprepared, samples)
    for claim in chosen:
        _refuse_others(claim, samples)
    opened = store if isinstance(store, Store) else open_store(store, new=True)
    session = MeasurementSession(opened, samples, progress=False)
    with session.record(settings={"claims": str(path)}, seed=None) as run:
        checkpoint_id = session.checkpoint(prepared)
        for claim in chosen:
            run.add_claimed_bounds(
                checkpoint_id,
                session.dataset_id,
                "linf",
                claim.sample_ids,
                verifier=claim.verifier,
                source=str(path),
                claimed_lower=claim.lower,
                claimed_upper=claim.upper,
                seconds=claim.seconds,
            )
        keys = {"checkpoint_id": checkpoint_id, "dataset_id": session.dataset_id}
    return opened.sql(query("claims_of_network"), keys)


def _refuse_others(claim: ClaimedBounds, samples: Samples) -> None:
    """Raise `InputError` for images that are not the samples."""
    ids = samples.sample_ids.numpy()
    order = np.argsort(ids)
    places = order[np.searchsorted(ids, claim.sample_ids, sorter=order).clip(max=len(ids) - 1)]
    absent = ids[places] != claim.sample_ids
    if absent.any():
        raise InputError(
            f"`samples` has no sample {claim.sample_ids[absent][0]}, of which {shown(claim.verifier)} claims something:"
            " take the data set, split and selection that were verified"
        )
    labels = samples.labels.numpy()[places]
    other = labels != claim.labels
    if other.any():
        raise InputError(
            f"`samples` gives sample {claim.sample_ids[other][0]} the label {labels[other][0]}, the file "
            f"{claim.labels[other][0]}: the data sets differ"
        )
