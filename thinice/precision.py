"""Exact arithmetic while it matters: IEEE float32 on every backend, with the caller's flags put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["exact"]


def _switches() -> tuple[object, ...]:
    cudnn, cuda, mkldnn = torch.backends.cudnn, torch.backends.cuda, torch.backends.mkldnn
    # torch makes some of these at run time, where a type checker cannot see them
    return getattr(cudnn, "conv"), cuda.matmul, getattr(mkldnn, "conv"), getattr(mkldnn, "matmul")  # noqa: B009


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Compute in IEEE float32 with gradients, whatever the caller had switched on.

    Minimum-norm adversarials sit on the boundary: under TF32, the default of cuDNN convolutions since Ampere, about
    half of them are none in IEEE float32. Autocast and inference mode of a caller are left for the duration too.

    >>> with exact(torch.device("cpu")):
    ...     torch.backends.cudnn.conv.fp32_precision
    'ieee'
    """
    switches = _switches()
    before = [switch.fp32_precision for switch in switches]  # type: ignore[attr-defined]  # set at run time by torch
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"  # type: ignore[attr-defined]  # as above
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value  # type: ignore[attr-defined]  # as above
