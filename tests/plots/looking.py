"""What a test can see of a figure: texts that collide or leave it, and samples to draw."""

from itertools import combinations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg


def texts(figure):
    """Every visible text of the drawn figure with its box in pixels."""
    FigureCanvasAgg(figure).draw()
    return [(text.get_text(), text.get_window_extent()) for text in _drawn_texts(figure)]


def _drawn_texts(figure):
    drawn = []
    for ax in figure.axes:
        drawn += [*ax.texts, ax.title, ax._left_title, ax._right_title]
        if ax.axison:
            drawn += [ax.xaxis.label, ax.yaxis.label, ax.xaxis.get_offset_text(), ax.yaxis.get_offset_text()]
            for axis in (ax.xaxis, ax.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
                drawn += [tick.label1 for tick in ticks if low - 1e-9 <= tick.get_loc() <= high + 1e-9]
        if ax.get_legend():
            drawn += ax.get_legend().get_texts()
    return [text for text in drawn if text.get_visible() and text.get_text().strip()]


def assert_readable(figure):
    """No two texts overlap, and none leaves the figure."""
    boxes = texts(figure)
    assert boxes
    for text, box in boxes:
        inside = box.x0 >= -0.5 and box.y0 >= -0.5 and box.x1 <= figure.bbox.x1 + 0.5 and box.y1 <= figure.bbox.y1 + 0.5
        assert inside, f"{text!r} leaves the figure: {box} of {figure.bbox.x1:.0f} x {figure.bbox.y1:.0f}"
    for (one, a), (other, b) in combinations(boxes, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide <= 0.5 or high <= 0.5, f"{one!r} and {other!r} overlap by {wide:.1f} x {high:.1f} pixels"


def sample_columns(n, *, seed=0, spread=0.5, not_found=0.01, lost=0.08, median=4 / 255):
    """Epsilons and transitions as a comparison of n samples gives them: lost ones nearer, wrong ones at 0."""
    rng = np.random.default_rng(seed)
    transition = rng.choice(["S1,1", "S1,0", "S0,1", "S0,0"], size=n, p=[0.9 - lost, lost, 0.02, 0.08])
    epsilon = median * rng.lognormal(np.where(transition == "S1,0", -1.2, 0.0) * spread / 0.5, spread, n)
    epsilon[rng.random(n) < not_found] = np.nan
    epsilon[(transition == "S0,1") | (transition == "S0,0")] = 0.0
    return epsilon.astype(np.float32), transition


def images(n, channels, height, width, *, seed=0):
    """Smooth pictures in [0, 1] and neighbours of them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = rng.uniform(1, 9, (n, channels, 1, 1)) * x + rng.uniform(1, 9, (n, channels, 1, 1)) * y
    clean = 0.5 + 0.45 * np.sin(waves + rng.uniform(0, 6, (n, channels, 1, 1)))
    near = np.clip(clean + 0.01 * rng.choice([-1, 1], clean.shape), 0, 1)
    return clean.astype(np.float32), near.astype(np.float32)
