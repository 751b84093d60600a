"""The measurement itself: any layout, any batch, any device that is there; refusals; out of memory; Ctrl-C."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch
from torch import nn

import thinice
from thinice.analysis import measurement
from thinice.analysis.measurement import Interrupted, check_fit, forward
from thinice.attacks import make_attack
from thinice.attacks.result import FORWARD
from thinice.data.digits import example_checkpoints
from thinice.engines import LocalEngine
from thinice.errors import InputError
from thinice.models import as_classifier
from thinice.norms import NORM_TABLE
from thinice.numerics import _switches, exact, lowered, pick_device
from thinice.types import NORMS, Outcome

pytestmark = pytest.mark.sampled

CPU = torch.device("cpu")


def network(features=48, classes=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, classes))


@pytest.fixture
def case():
    module = network()
    inputs = torch.rand(13, 3, 4, 4)
    with torch.no_grad():
        labels = module(inputs).argmax(1)
    labels[3] = (labels[3] + 1) % 4  # one that is wrong from the start
    return module, inputs, labels


def measured(case, **options):
    module, inputs, labels = case
    return thinice.measure(module, inputs, labels=labels, **{"progress": False, "steps": 30, **options})


def test_outcomes_and_order(case):
    nearest = measured(case)
    module, inputs, labels = case
    assert nearest.outcomes[3] == Outcome.MISCLASSIFIED
    assert nearest.epsilon[3] == 0
    others = torch.arange(13) != 3
    assert (nearest.outcomes[others] == Outcome.FOUND).all()
    with torch.no_grad():  # the caller's own network agrees with every claim
        seen = module(nearest.adversarials).argmax(1)
    assert (seen != labels).all()
    length = (nearest.adversarials - inputs).flatten(1).abs().amax(1)
    torch.testing.assert_close(nearest.epsilon[others], length[others], rtol=0, atol=0)


@pytest.mark.parametrize("batch_size", [1, 5, 13, 100, "auto"])
def test_batch_size_changes_nothing(case, batch_size):
    torch.testing.assert_close(
        measured(case, batch_size=batch_size).epsilon, measured(case, batch_size=13).epsilon, rtol=1e-4, atol=1e-7
    )


def test_memory_layout_changes_nothing(case):
    module, inputs, labels = case
    permuted = inputs.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not permuted.is_contiguous()
    for other in (permuted, inputs.contiguous(memory_format=torch.channels_last), inputs.double()):
        torch.testing.assert_close(measured((module, other, labels)).epsilon, measured(case).epsilon)


def test_the_callers_network_and_flags_are_left_as_they_were(case):
    module, _, _ = case
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = torch.backends.cudnn.conv.fp32_precision, torch.is_grad_enabled()
    with torch.inference_mode():
        measured(case)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert (torch.backends.cudnn.conv.fp32_precision, torch.is_grad_enabled()) == flags
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_out_of_memory_halves_the_batch_and_goes_on(case):
    class Small(nn.Module):
        def __init__(self, inner, sizes):
            super().__init__()
            self.inner, self.sizes = inner, sizes

        def __deepcopy__(self, memo):
            return self

        def forward(self, inputs):
            self.sizes.append(len(inputs))
            if len(inputs) > 3:
                raise torch.OutOfMemoryError("pretended")
            return self.inner(inputs)

    module, inputs, labels = case
    sizes: list[int] = []
    nearest = measured((Small(module, sizes), inputs, labels), batch_size=13)
    torch.testing.assert_close(nearest.epsilon, measured(case).epsilon, rtol=1e-4, atol=1e-7)
    assert {13, 7, 4, 2, 1} <= set(sizes)
    assert set(sizes) <= {13, measurement.TRYING, 7, 4, 3, 2, 1}


def test_a_sample_that_never_fits_is_an_error(case):
    class Never(nn.Module):
        def forward(self, inputs):
            if len(inputs) and torch.is_grad_enabled():
                raise torch.OutOfMemoryError("pretended")
            return inputs.flatten(1)[:, :4]

    _, inputs, labels = case
    with pytest.raises(InputError, match="not hold even one sample"):
        measured((Never(), inputs, labels))


def test_other_runtime_errors_are_not_swallowed(case):
    class Broken(nn.Module):
        def forward(self, inputs):
            if torch.is_grad_enabled():
                raise RuntimeError("a bug in the network")
            return inputs.flatten(1)[:, :4]

    _, inputs, labels = case
    with pytest.raises(RuntimeError, match="a bug in the network"):
        measured((Broken(), inputs, labels))


def test_ctrl_c_keeps_what_is_finished(case):
    def stop(progress):
        if progress.done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        measured(case, batch_size=4, progress=stop)
    assert len(caught.value.nearest) == 8
    assert "8 of 13" in str(caught.value)
    torch.testing.assert_close(caught.value.nearest.epsilon, measured(case).epsilon[:8], rtol=1e-4, atol=1e-7)


class Backwards:
    """An engine whose shards come in any order, and whose last one may never come."""

    device = CPU

    def __init__(self, lost=()):
        self.lost = lost

    def run(self, task):
        compute = task.on(self.device)
        for part in (slice(8, 13), slice(0, 4), slice(4, 8)):
            if part.start in self.lost:
                raise KeyboardInterrupt
            yield part, compute(part)


def test_an_engine_of_the_callers_own_computes_and_its_order_does_not_matter(case):
    torch.testing.assert_close(measured(case, engine=Backwards()).epsilon, measured(case).epsilon, rtol=1e-4, atol=1e-7)
    with pytest.raises(Interrupted) as caught:
        measured(case, engine=Backwards(lost=(4,)))
    assert len(caught.value.nearest) == 4  # 8 to 12 are finished too, but not the first of the samples
    with pytest.raises(KeyboardInterrupt) as caught:
        measured(case, engine=Backwards(lost=(0,)))
    assert not isinstance(caught.value, Interrupted)


def test_an_unknown_engine_and_options_that_one_would_ignore_are_refused(case):
    with pytest.raises(InputError, match="`engine` 'lokal' is unknown: did you mean local"):
        measured(case, engine="lokal")
    with pytest.raises(InputError, match="`batch_size` goes with the name of an engine; this `engine` has its own"):
        measured(case, engine=Backwards(), batch_size=4)
    with pytest.raises(InputError, match="attack 'tmn' has no setting 'distances'"):
        measured(case, distances="both")


def test_ctrl_c_before_the_first_batch_has_nothing_to_keep(case, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalEngine, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        measured(case)


def test_progress_ends_complete_and_counts_everything(case):
    seen = []
    measured(case, batch_size=5, progress=seen.append)
    assert [moment.done for moment in seen] == [5, 10, 13]
    last = seen[-1]
    assert (last.found, last.misclassified, last.not_found, last.total) == (12, 1, 0, 13)
    assert last.median == pytest.approx(float(measured(case).epsilon[measured(case).found].median()), rel=1e-4)


def test_forward_is_the_network(case):
    module, inputs, labels = case
    samples = thinice.as_samples(inputs, labels)
    with torch.no_grad():
        torch.testing.assert_close(forward(as_classifier(module), samples, LocalEngine(CPU, 4)), module(inputs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l3"}, "l3"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "many"}, "batch_size"),
        ({"device": "tpu"}, "device"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"attack": "nothing"}, "nothing"),
        ({"speed": 3}, "speed"),
        ({"effort": "heroic"}, "heroic"),
    ],
)
def test_wrong_options_are_named(case, options, message):
    with pytest.raises(InputError, match=message):
        measured(case, **options)


def test_inputs_that_do_not_fit_are_named():
    classifier = as_classifier(network(), name="net")
    with pytest.raises(InputError, match="labels"):
        thinice.measure(classifier, torch.rand(2, 3, 4, 4))
    with pytest.raises(InputError, match="do not fit the network 'net'"):
        check_fit(classifier, thinice.as_samples(torch.rand(2, 3, 5, 5), torch.tensor([0, 1])))
    with pytest.raises(InputError, match="label 7"):
        check_fit(classifier, thinice.as_samples(torch.rand(2, 3, 4, 4), torch.tensor([0, 7])))
    with pytest.raises(InputError, match="empty"):
        check_fit(classifier, thinice.as_samples(torch.rand(2, 3, 4, 4), torch.tensor([0, 1]))[:0])


def test_pick_device():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(case):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.testing.assert_close(
        measured(case, device="cuda").epsilon, measured(case, device="cpu").epsilon, rtol=1e-3, atol=1e-6
    )


class Normalising(nn.Module):
    """Normalises its input in place, as networks in the wild do."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, inputs):
        return self.inner(inputs.sub_(0.5).div_(0.5))


def test_a_network_that_writes_into_its_input_harms_nobody(case):
    _, inputs, _ = case
    module = Normalising()
    before = inputs.clone()
    with torch.no_grad():
        labels = module(inputs.clone()).argmax(1)
    nearest = measured((module, inputs, labels))
    assert torch.equal(inputs, before)
    assert nearest.found.all()
    with torch.no_grad():
        assert (module(nearest.adversarials.clone()).argmax(1) != labels).all()


def test_an_output_that_is_no_tensor_is_named(case):
    class Wrapped(nn.Module):
        def forward(self, inputs):
            return {"logits": inputs.flatten(1)}

    _, inputs, labels = case
    with pytest.raises(InputError, match="returns a dict, not logits"):
        measured((Wrapped(), inputs, labels))


# -- the fast form, and less than float32 ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return thinice.load_classifier(example_checkpoints()["dense"]), thinice.load_samples("digits", limit=128)


@pytest.fixture(scope="module")
def own(digits):
    """What an attack finds that sees the network in its own form only, by norm."""
    classifier, samples = digits

    @cache
    def found(norm):
        with exact(torch.device("cpu")):
            return make_attack("tmn", norm=norm)(classifier, samples.inputs[:], samples.labels, samples.sample_ids)

    return found


def confirmed(digits, nearest, norm):
    """Every adversarial fools the network itself, lies in the box, and has the length that is told."""
    classifier, samples = digits
    found = nearest.found
    with torch.no_grad():
        seen = classifier(nearest.adversarials[found]).argmax(1)
    assert torch.equal(seen, nearest.predictions[found])
    assert (seen != samples.labels[found]).all()
    assert ((nearest.adversarials >= 0) & (nearest.adversarials <= 1)).all()
    lengths = NORM_TABLE[norm].length((nearest.adversarials - samples.inputs[:])[found].flatten(1))
    torch.testing.assert_close(nearest.epsilon[found], lengths, rtol=1e-5, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l2", "linf", "l0"])
def test_the_fast_form_changes_nothing(digits, own, norm):
    classifier, samples = digits
    nearest = thinice.measure(classifier, samples, attack="tmn", norm=norm, progress=False)
    confirmed(digits, nearest, norm)
    assert torch.equal(nearest.outcomes, own(norm).outcomes)
    ratio = (nearest.epsilon / own(norm).epsilon)[nearest.found]
    assert abs(float(ratio.median()) - 1) < 1e-5
    assert float((ratio - 1).abs().mean()) < 1e-3
    torch.testing.assert_close(nearest.evaluations.mean(), own(norm).evaluations.mean(), rtol=0.01, atol=0)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.slow
def test_a_search_in_bfloat16_finds_what_float32_confirms(digits, own, norm):
    classifier, samples = digits
    nearest = thinice.measure(classifier, samples, attack="tmn", norm=norm, precision="bf16", progress=False)
    confirmed(digits, nearest, norm)
    assert torch.equal(nearest.outcomes, own(norm).outcomes)
    ratio = (nearest.epsilon / own(norm).epsilon)[nearest.found]
    assert not torch.equal(nearest.epsilon, own(norm).epsilon)  # it did search otherwise
    assert abs(float(ratio.median()) - 1) < 0.01
    assert abs(float(ratio.mean()) - 1) < 0.005
    assert float(ratio.max()) < 1.2
    assert float(ratio.min()) > 0.8


@pytest.mark.parametrize(("shift", "looks"), [(0.0, 0), (2e-3, 2), (5e-2, None)])
def test_claims_that_the_network_refuses_are_pushed_out_or_searched_again(shift, looks):
    inputs, labels, ids = torch.rand(7, 1, 4, 4) / 4 + 0.5, torch.zeros(7, dtype=torch.int64), torch.arange(7)

    def network(inputs, nearer=0.0):  # the boundary lies where the mean is 0.2
        ahead = inputs.flatten(1).mean(1, keepdim=True) - 0.2
        return torch.cat([ahead - nearer * 0.4, torch.zeros_like(ahead)], 1)

    attack = make_attack("fmn", norm="l2", steps=60)
    plain = attack(network, inputs, labels, ids)
    nearest = attack(network, inputs, labels, ids, search_model=lambda inputs: network(inputs, shift))
    assert nearest.found.all()
    assert (network(nearest.adversarials).argmax(1) == 1).all()
    truth = 4 * (inputs.flatten(1).mean(1) - 0.2)
    assert (nearest.epsilon >= truth * (1 - 1e-5)).all()
    torch.testing.assert_close(nearest.epsilon, truth, rtol=0.005, atol=0)
    spent = nearest.evaluations - plain.evaluations
    if looks is None:  # the whole search again
        assert (spent > 60).all()
        torch.testing.assert_close(nearest.epsilon, plain.epsilon)
    elif looks:
        assert ((spent > 0) & (spent < (looks + 1.5) * FORWARD)).all()
    else:
        assert not spent.any()


@pytest.mark.parametrize(
    "beside", [{"steps": 3}, {"norm": "linf"}, {"precision": "bf16"}, {"restarts": 2}, {"seed": 9}, {"effort": "quick"}]
)
def test_what_a_bound_attack_would_ignore_is_refused(digits, beside):
    classifier, samples = digits
    bound, (name,) = make_attack("fmn", norm="l2", steps=5), beside
    message = f"`{name}` goes with the name of an attack; fmn is bound"
    jobs = {
        "measure": lambda: thinice.measure(classifier, samples[:4], attack=bound, progress=False, **beside),
        "measure_all": lambda: thinice.measure_all([classifier], samples[:4], attack=bound, progress=False, **beside),
        "compare": lambda: thinice.compare(classifier, classifier, samples[:4], attack=bound, progress=False, **beside),
        "evaluate": lambda: thinice.evaluate(
            classifier, samples[:4], attack=bound, budget=0.1, progress=False, **beside
        ),
    }
    for job in jobs.values():
        with pytest.raises(InputError, match=message):
            job()
    same = {"norm": "l2", "precision": "float32", "seed": 0, "effort": "standard"}
    nearest = thinice.measure(classifier, samples[:4], attack=bound, progress=False, **same)
    assert len(nearest) == 4


def test_precision_is_a_setting_that_the_store_tells_apart():
    plain, less = make_attack("fmn"), make_attack("fmn", precision="bf16")
    assert "precision" not in plain.settings
    assert (plain.precision, less.precision) == ("float32", "bf16")
    assert less.settings == {**plain.settings, "precision": "bf16", "boundary": 1}
    with pytest.raises(InputError, match="`precision` must be one of float32, tf32, bf16, got 'fp8'"):
        make_attack("fmn", precision="fp8")


def test_tf32_is_refused_where_there_is_none(case):
    with pytest.raises(InputError, match="tf32 is arithmetic of CUDA devices"):
        measured(case, precision="tf32", device="cpu")


@pytest.mark.parametrize("precision", ["float32", "bf16", "tf32"])
def test_flags_are_put_back_whatever_happens_inside(precision):
    switches = _switches()
    before = [switch.fp32_precision for switch in switches]
    device = torch.device("cuda" if precision == "tf32" else "cpu")

    seen = []

    def search():
        with exact(CPU), lowered(torch.nn.Identity(), precision, device):
            seen.extend(switch.fp32_precision for switch in switches)
            raise RuntimeError("a search that fails")

    with pytest.raises(RuntimeError, match="fails"):
        search()
    assert seen == (["tf32", "tf32"] if precision == "tf32" else ["ieee", "ieee"]) + ["ieee", "ieee"]
    assert [switch.fp32_precision for switch in switches] == before
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.slow
def test_a_run_records_the_precision_of_its_search(digits, tmp_path):
    classifier, samples = digits
    store = thinice.open_store(tmp_path / "thinice.duckdb", new=True)
    for precision in ("float32", "bf16"):
        thinice.compare(
            classifier, classifier, samples[:20], effort="quick", precision=precision, store=store, progress=False
        )
    assert store.sql('select "precision" from runs order by run_id')["precision"].tolist() == ["float32", "bf16"]
    assert len(store.sql("from measurements")) == 2


@pytest.mark.slow
def test_a_compiled_network_gives_the_same(digits, own, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # as traced; needs no compiler
    classifier, samples = digits
    nearest = thinice.measure(classifier, samples, attack="tmn", norm="l2", compiled=True, progress=False)
    confirmed(digits, nearest, "l2")
    ratio = (nearest.epsilon / own("l2").epsilon)[nearest.found]
    assert abs(float(ratio.median()) - 1) < 1e-5


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ["tmn", "fmn"])
def test_gpu_and_cpu_find_the_same(digits, attack, norm):
    classifier, samples = digits
    here, there = (
        thinice.measure(classifier, samples, attack=attack, norm=norm, device=device, progress=False)
        for device in ("cpu", "cuda")
    )
    confirmed(digits, there, norm)
    assert torch.equal(here.outcomes, there.outcomes)
    ratio = (there.epsilon / here.epsilon)[here.found]
    assert abs(float(ratio.median()) - 1) < 1e-3
    assert float((ratio - 1).abs().median()) < 1e-3


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_less_precision_on_a_gpu_is_verified_in_float32(digits, own, norm, precision):
    classifier, samples = digits
    options = {"attack": "tmn", "norm": norm, "device": "cuda", "precision": precision, "progress": False}
    nearest = thinice.measure(classifier, samples, **options)
    confirmed(digits, nearest, norm)
    assert torch.equal(nearest.outcomes, own(norm).outcomes)
    ratio = (nearest.epsilon / own(norm).epsilon)[nearest.found]
    assert abs(float(ratio.median()) - 1) < (0.002 if precision == "tf32" else 0.01)
