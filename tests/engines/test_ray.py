"""What the Ray engine refuses before any cluster is asked: no Ray is needed here."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace

import pytest
import torch

from thinice.analysis.measurement import make_engine
from thinice.engines import LocalEngine, ray, sending
from thinice.errors import InputError, MissingExtraError

CPU = torch.device("cpu")


def test_without_ray_the_way_out_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"^`engine` 'ray' needs an extra .*: pip install 'thinice\[ray\]'$"):
        make_engine({"engine": "ray", "device": "cpu"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "`workers` must be a whole number of at least 1, got 0"),
        ({"device": torch.device("cuda", 1)}, "`device` cuda:1: Ray tells each worker which GPU is its own: take cuda"),
        ({"address": "ray://head:10001"}, "`address` must be HOST:PORT of a Ray cluster, or auto, got 'ray://head:"),
        ({"address": ""}, "`address` must be HOST:PORT of a Ray cluster, or auto, got ''"),
    ],
)
def test_what_can_never_work_is_refused(settings, message):
    with pytest.raises(InputError) as caught:
        ray.RayEngine(**{"device": CPU} | settings)
    assert str(caught.value).startswith(message)


def test_an_address_is_one_of_ray():
    with pytest.raises(InputError, match="`engine` 'local' has no setting 'address'"):
        make_engine({"address": "auto", "device": "cpu"})
    with pytest.raises(InputError, match="`address` goes with the name of an engine"):
        make_engine({"engine": LocalEngine(CPU), "address": "auto"})


def test_a_cluster_without_the_device_is_refused():
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"GPU": 8.0, "CPU": 4.0}}]
    ray._refuse_without_place(nodes, "CPU")
    with pytest.raises(InputError, match="none of the cluster's 1 nodes has a GPU: let one join that has"):
        ray._refuse_without_place(nodes, "GPU")


def test_a_node_with_other_versions_is_refused():
    sending.refuse_other_versions("ray", sending.versions())
    with pytest.raises(InputError, match=r"a node has thinice 0\.0\.1, torch 1\.0, and this process thinice "):
        sending.refuse_other_versions("ray", "thinice 0.0.1, torch 1.0")


def test_a_cluster_that_does_not_start_is_one_line():
    """Ray's own error is of no class of its own, where the machine has too much to do."""

    def init(**settings):
        assert settings["address"] == "local"
        raise Exception("The current node timed out during startup. This could\nhappen because")  # noqa: TRY002 - so it is

    busy = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    with pytest.raises(
        InputError, match=r"does not start on this machine \(The current node timed out during startup\)"
    ):
        ray._connect(busy, None, None)


def test_an_address_where_nobody_listens_is_one_line_within_seconds():
    away = SimpleNamespace(is_initialized=lambda: False)  # is not asked
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=f"^`address` '{address}': no Ray cluster can be joined there .*refused"):
            ray._connect(away, address, None)


class RayError(Exception):
    """Stands for that of Ray: a worker or a node died."""


class RayTaskError(RayError):
    """Stands for that of Ray: what a worker raised before it computed anything."""


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (RayTaskError("traceback\nModuleNotFoundError: No module named 'thinice'"), InputError, "every node .* needs"),
        (ValueError("no matter of Ray's"), ValueError, "no matter of Ray's"),
    ],
)
def test_a_worker_that_cannot_begin_is_told_and_not_tried_again(error, kind, message):
    errors = [error, RayError("The worker died unexpectedly. Check logs.\nmore")]

    def get(_):
        raise errors.pop(0)

    away = SimpleNamespace(get=get, exceptions=SimpleNamespace(RayTaskError=RayTaskError, RayError=RayError))
    with pytest.raises(kind, match=message):
        ray._next_answer(away, iter(["answer"]))
    assert ray._next_answer(away, iter(["answer"])) == (None, "RayError: The worker died unexpectedly")
    assert ray._next_answer(away, iter([])) == (None, "")
