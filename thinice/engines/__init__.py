"""Engines run a task on all its samples, shard by shard; one process takes what they compute, and stores it.

`LocalEngine` computes in this process, `ProcessEngine` in several of this machine, `RayEngine` on the nodes of a Ray
cluster, `SlurmEngine` in jobs of a Slurm cluster. A `Task` says what to compute and can be sent there, its results come
back on the CPU, and in any order. `ENGINES` is their registry.
"""

from collections.abc import Callable

from thinice.engines.deterministic import DeterministicEngine
from thinice.engines.local import BatchSize, LocalEngine
from thinice.engines.progress import Progress, ProgressCounter, Reporter, auto_reporter, duration, in_notebook
from thinice.engines.task import Engine, Result, Task
from thinice.registry import Registry

__all__ = [
    "ENGINES",
    "BatchSize",
    "DeterministicEngine",
    "Engine",
    "LocalEngine",
    "Progress",
    "ProgressCounter",
    "Reporter",
    "Result",
    "Task",
    "auto_reporter",
    "duration",
    "engine_name",
    "in_notebook",
]

ENGINES: Registry[Callable[..., Engine]] = Registry(
    "engine",
    {
        "local": ("thinice.engines.local:LocalEngine", "in this process, batch after batch"),
        "processes": ("thinice.engines.processes:ProcessEngine", "in several processes of this machine, see --workers"),
        "ray": ("thinice.engines.ray:RayEngine", "on a Ray cluster, see --address"),
        "slurm": ("thinice.engines.slurm:SlurmEngine", "in jobs of a Slurm cluster, see --slurm"),
    },
)
"""All engines by name: made of a ``device`` and a ``batch_size``, those of several processes also of ``workers``."""


def engine_name(engine: Engine) -> str:
    """Return the name of an engine; of one that is not in the registry, that of its class.

    >>> import torch
    >>> engine_name(LocalEngine(torch.device("cpu")))
    'local'
    """
    kind = type(engine)
    targets = {row[0]: name for name, row in ENGINES.rows.items()}
    return targets.get(f"{kind.__module__}:{kind.__qualname__}", kind.__name__)
