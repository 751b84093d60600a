"""The figures of a report: those of `thinice.plots`, as SVG that weighs little and stands in the page itself."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
from PIL import Image, features

from thinice.plots import ComparisonColumns, figure_set
from thinice.plots.training import plot_training
from thinice.report.facts import ComparisonFacts
from thinice.report.pictures import CloseUps
from thinice.results import AdversarialExample
from thinice.types import Transition

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SvgFigure", "draw_figures"]

GALLERY = 8
DENSE = 500
"""Marks in one group that are drawn as an image: as vectors they would weigh megabytes."""
SCALE = 1.25
"""CSS pixels a point: text in figures is as large as small text of the page."""
SIZE = re.compile(r'\b(?:width|height)="([\d.]+)pt"')
PNG = "data:image/png;base64,"
SMALL_IMAGE = 4000
TAG = re.compile(r"<[^>]*>")
LARGE = re.compile(r"(?<![\d.])([1-9]\d*\.\d)\d+")
SMALL = re.compile(r"(?<!scale\()(?<![\d.])(0\.\d\d)\d+")
SPACES = re.compile(r"(\s)\s+")
"""What is cut to its first group: coordinates, in points, to what an eye can see; but never a scale."""
METADATA = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SvgFigure:
    """A figure as a data URI of SVG, and its size in CSS pixels."""

    uri: str
    width: int
    height: int


def draw_figures(compared: ComparisonFacts, close: CloseUps | None) -> dict[str, SvgFigure]:
    """Return the figures of a comparison by name, the gallery last, the same for the same store."""
    known, measured = compared.known, compared.measured
    figures = figure_set(
        ComparisonColumns(
            measured.epsilon[known],
            compared.transitions[known],
            measured.data.labels[known],
            norm=measured.norm,
            classes=measured.data.classes,
            budget=compared.budget,
            dense=measured.dense["name"],
            pruned=compared.pruned["name"],
            dense_predictions=measured.predictions[known],
            pruned_predictions=compared.pruned_predictions[known],
            sample_ids=measured.data.sample_ids[known],
            pruned_epsilon=None if compared.pruned_epsilon is None else compared.pruned_epsilon[known],
            closest=() if close is None else _examples(compared, close),
            predictors=compared.predictors,
            epsilon_lower=None if measured.epsilon_lower is None else measured.epsilon_lower[known],
        )
    )
    figures |= _training_figures(compared)
    return {name: as_svg(figures[name]) for name in sorted(figures, key=lambda name: name == "gallery")}


def _training_figures(compared: ComparisonFacts) -> dict[str, Figure]:
    """Return the learning curves of the networks, dense and pruned, whose training the store knows."""
    trainings = {
        "training-dense": (compared.measured.dense, compared.measured.training),
        "training-pruned": (compared.pruned, compared.training),
    }
    axes = {
        name: plot_training(history, name=network["name"]) for name, (network, history) in trainings.items() if history
    }
    figures = {name: ax.get_figure(root=True) for name, ax in axes.items()}
    return {name: figure for name, figure in figures.items() if figure is not None}


def _examples(compared: ComparisonFacts, close: CloseUps) -> list[AdversarialExample]:
    """Return the nearest samples with their adversarials for the gallery, lost ones first."""
    measured, known = compared.measured, compared.known
    if close.inputs is None:
        return []
    lost_last = compared.transitions[close.rows] != Transition.LOST
    order = np.lexsort((measured.epsilon[close.rows], lost_last))
    positions = np.cumsum(known) - 1
    return [
        AdversarialExample(
            sample_id=int(measured.data.sample_ids[close.rows[k]]),
            position=int(positions[close.rows[k]]),
            prediction=int(measured.far_predictions[close.rows[k]]),
            inputs=close.inputs[k],
            adversarial=close.adversarials[k],
        )
        for k in order[known[close.rows[order]]][:GALLERY]
    ]


def as_svg(figure: Figure) -> SvgFigure:
    """Return a figure as SVG; groups of very many marks become an image inside it."""
    for ax in figure.axes:
        for group in ax.collections:
            group.set_rasterized(len(np.atleast_1d(group.get_offsets())) > DENSE)
        for line in ax.lines:
            line.set_rasterized(line.get_marker() not in ("", "None", None) and np.size(line.get_xdata()) > DENSE)
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "thinice", "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", bbox_inches="tight", transparent=True, dpi=150, metadata={"Date": None})
    text = file.getvalue()
    text = TAG.sub(lambda tag: _shortened(tag[0]), METADATA.sub("", text))
    uri = "data:image/svg+xml," + quote(text, safe=" !$&'()*+,-./:;=?@_~[]^{|}")
    width, height = (round(float(points) * SCALE) for points in SIZE.findall(text)[:2])
    return SvgFigure(uri, width, height)


def _lighter(image: str) -> str:
    """Return an image inside a figure, in base64, as WebP where that weighs less: without loss where it is small."""
    plain = base64.b64decode(image)
    file = io.BytesIO()
    Image.open(io.BytesIO(plain)).save(file, "WEBP", lossless=len(plain) < SMALL_IMAGE, quality=75)
    if len(file.getvalue()) >= len(plain):
        return f"{PNG}{image}"
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _shortened(tag: str) -> str:
    """Return an SVG tag with short coordinates, or with a lighter image; text between tags is not its business."""
    if PNG in tag and features.check("webp"):
        start, rest = tag.split(PNG, 1)
        image, end = rest.split('"', 1)
        return f'{start}{_lighter(image)}"{end}'
    for long in (LARGE, SMALL, SPACES):
        tag = long.sub(lambda match: match[1], tag)
    return tag
