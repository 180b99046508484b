"""Losses: against plain loops, with positions that do not count, twice differentiable."""

import math

import numpy as np
import pytest
import torch

from modgap.errors import InputError, UsageError
from modgap.targets import manifest_names, named_manifest
from modgap.targets.manifest import LossName
from modgap.training.losses import LOSSES, loss, task_loss

VALUES = ["mean squared error", "relative L2", "nRMSE", "RMSE"]
REAL = [*VALUES, "binary cross-entropy"]


def drawn(name, shape=(3, 2, 4, 5), seed=0):
    """Outputs, y and mask for a loss, in double precision."""
    random = torch.Generator().manual_seed(seed)
    outputs = torch.randn(shape, generator=random, dtype=torch.float64)
    mask = torch.rand(shape, generator=random) < 0.6
    if name == "cross-entropy":
        positions = (shape[0], *shape[2:])
        return outputs, torch.randint(shape[1], positions, generator=random), mask[:, 0]
    y = torch.randn(shape, generator=random, dtype=torch.float64)
    return outputs, (y > 0).double() if name == "binary cross-entropy" else y, mask


def term(name, x, y, weight):
    if name == "binary cross-entropy":
        return -weight * y * math.log(1 / (1 + math.exp(-x))) - (1 - y) * math.log(1 - 1 / (1 + math.exp(-x)))
    return (x - y) ** 2


def naive(name, x, y, mask, weight=1.0):
    """One sample's loss by plain loops; all (channels, positions), y and mask of classes (positions,)."""
    if name == "cross-entropy":
        terms = [
            math.log(sum(math.exp(v - x[y[p], p]) for v in x[:, p])) for p in range(x.shape[1]) if mask[p]
        ]  # fmt: skip
        return sum(terms) / len(terms)
    places = [[p for p in range(x.shape[1]) if mask[c, p]] for c in range(len(x))]
    errors = [[term(name, x[c, p], y[c, p], weight) for p in places[c]] for c in range(len(x))]
    squares = [[y[c, p] ** 2 for p in places[c]] for c in range(len(x))]
    if name == "relative L2":
        return math.sqrt(sum(sum(row) for row in errors) / sum(sum(row) for row in squares))
    if name == "nRMSE":
        return float(np.mean([math.sqrt(sum(e) / sum(s)) for e, s in zip(errors, squares, strict=True)]))
    if name == "RMSE":
        return float(np.mean([math.sqrt(sum(e) / len(e)) for e in errors]))
    return sum(sum(row) for row in errors) / sum(len(row) for row in errors)


def test_the_manifest_knows_the_same_names():
    assert set(LossName.__args__) == set(LOSSES)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_values_are_those_of_plain_loops(name, masked):
    outputs, y, mask = drawn(name)
    found = loss(name)(outputs, y, mask) if masked else loss(name)(outputs, y)
    valid = (mask if masked else torch.ones_like(mask)).numpy()
    for i in range(len(outputs)):
        shape = (-1,) if name == "cross-entropy" else (2, -1)
        one = (outputs[i].reshape(2, -1).numpy(), y[i].reshape(shape).numpy(), valid[i].reshape(shape))
        assert found[i].item() == pytest.approx(naive(name, *one), rel=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_of_both_orders(name, masked):
    outputs, y, mask = drawn(name, (2, 2, 3))
    outputs.requires_grad_()

    def function(x):
        return loss(name)(x, y, mask if masked else None)

    assert torch.autograd.gradcheck(function, outputs)
    assert torch.autograd.gradgradcheck(function, outputs)


@pytest.mark.parametrize("name", VALUES)
def test_a_perfect_fit_has_finite_derivatives_of_both_orders(name):
    y = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(0))
    for outputs in (y.clone(), y + 1e-18):
        outputs.requires_grad_()
        (slope,) = torch.autograd.grad(loss(name)(outputs, y).sum(), outputs, create_graph=True)
        (curve,) = torch.autograd.grad((slope * torch.arange(6)).sum(), outputs)
        assert torch.isfinite(slope).all()
        assert torch.isfinite(curve).all()


@pytest.mark.parametrize("name", LOSSES)
def test_what_does_not_count_changes_nothing_whatever_it_holds(name):
    outputs, y, mask = drawn(name)
    plain = loss(name)(outputs, y, mask)
    hidden = ~(mask.unsqueeze(1) if name == "cross-entropy" else mask).expand_as(outputs)
    broken = outputs.masked_fill(hidden, math.nan).requires_grad_()
    spoiled = y.masked_fill(~mask, 10**6) if name == "cross-entropy" else y.masked_fill(~mask, math.nan)
    found = loss(name)(broken, spoiled, mask.float())
    assert torch.equal(found, plain)
    found.sum().backward()
    assert torch.isfinite(broken.grad).all()
    assert (broken.grad[hidden] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_sample_without_positions_is_zero_and_others_are_as_before(name):
    outputs, y, _ = drawn(name)
    outputs.requires_grad_()
    found = loss(name)(outputs, y, torch.tensor([1, 0, 1]))
    assert found[1] == 0
    assert torch.equal(found[::2], loss(name)(outputs, y)[::2])
    found.sum().backward()
    assert (outputs.grad[1] == 0).all()
    assert (outputs.grad[0] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_broken_outputs_are_not_passed_over(name):
    outputs, y, _ = drawn(name)
    outputs[1, 0, 0, 0] = math.nan
    assert torch.isnan(loss(name)(outputs, y)).tolist() == [False, True, False]


def test_an_ignored_class_does_not_count():
    outputs, y, mask = drawn("cross-entropy")
    marked = torch.where(mask, y, 255)
    assert torch.equal(loss("cross-entropy", ignore=255)(outputs, marked), loss("cross-entropy")(outputs, y, mask))
    both = loss("cross-entropy", ignore=255)(outputs, marked, torch.tensor([1, 1, 0]))
    assert both[2] == 0
    assert both[0] > 0


def test_cross_entropy_of_single_labels_is_the_librarys():
    outputs, y, _ = drawn("cross-entropy", (5, 7))
    expected = torch.nn.functional.cross_entropy(outputs, y, reduction="none")
    torch.testing.assert_close(loss("cross-entropy")(outputs, y), expected, rtol=0, atol=0)


def test_positive_weight():
    outputs, y, mask = drawn("binary cross-entropy", (3, 4))
    found = loss("binary cross-entropy", positive_weight=10)(outputs, y.long(), mask)
    for i in range(3):
        one = [part[i : i + 1].numpy() for part in (outputs, y, mask)]
        assert found[i].item() == pytest.approx(naive("binary cross-entropy", *one, weight=10), rel=1e-12)


def test_clipped_targets():
    outputs, y = torch.tensor([[10.0, 10.0]]), torch.tensor([[100.0, 12.0]])
    assert loss("mean squared error", clip=16)(outputs, y).item() == (36 + 4) / 2


def test_without_anything_to_be_relative_to_a_sample_or_channel_is_left_out():
    outputs, y = torch.ones(2, 2, 3), torch.zeros(2, 2, 3)
    y[0, 0] = 1
    assert loss("relative L2")(outputs, y).tolist() == [1, 0]
    outputs[0, 0] = 3
    assert loss("nRMSE")(outputs, y).tolist() == [2, 0]


def test_relative_l2_is_nrmse_of_one_channel():
    outputs, y, mask = drawn("nRMSE", (3, 1, 7))
    torch.testing.assert_close(loss("nRMSE")(outputs, y, mask), loss("relative L2")(outputs, y, mask))


SCALES = {
    "number": (np.array(3.0), np.array(2.0)),
    "channel": (np.array([3.0, -1.0]), np.array([2.0, 0.5])),
    "point": (np.arange(40.0).reshape(2, 4, 5), 1 + np.arange(40.0).reshape(2, 4, 5)),
}


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("name", VALUES)
def test_a_scale_gives_the_loss_in_the_original_unit(name, kind):
    mean, sd = SCALES[kind]
    outputs, y, mask = drawn(name)
    shaped = [torch.from_numpy(part.reshape(-1, 1, 1) if kind == "channel" else part) for part in (mean, sd)]
    original = [values * shaped[1] + shaped[0] for values in (outputs, y)]
    torch.testing.assert_close(loss(name, (mean, sd))(outputs, y, mask), loss(name)(*original, mask))


def test_half_precision_is_summed_in_single():
    y = torch.zeros(1, 1, 4096, dtype=torch.bfloat16)
    found = loss("mean squared error")(y + 1, y)
    assert found.dtype == torch.float32
    assert found.item() == 1


def test_one_channel_may_be_missing_in_y():
    outputs, y, _ = drawn("RMSE", (3, 1, 5))
    assert torch.equal(loss("RMSE")(outputs, y[:, 0]), loss("RMSE")(outputs, y))
    assert loss("mean squared error")(outputs[:, :, 0], y[:, 0, 0]).shape == (3,)


@pytest.mark.parametrize("name", manifest_names())
def test_every_manifest_has_a_loss(name):
    assert callable(task_loss(named_manifest(name)))


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("classification", "cross-entropy"),
        ("multi-label", "binary cross-entropy"),
        ("regression", "mean squared error"),
    ],
)
def test_without_a_loss_the_task_says_which(task, name):
    manifest = named_manifest("digits").model_copy(update={"task": task, "loss": None})
    outputs, y, _ = drawn(name)
    assert torch.equal(task_loss(manifest)(outputs, y), loss(name)(outputs, y))


def test_the_benchmarks_losses_are_made_as_they_say():
    outputs, y, mask = drawn("binary cross-entropy")
    weighted = loss("binary cross-entropy", positive_weight=4)(outputs, y)
    assert torch.equal(task_loss(named_manifest("deepsea"))(outputs, y), weighted)
    with pytest.raises(InputError, match="needs a mask"):
        task_loss(named_manifest("cosmic"))(outputs, y)
    found = task_loss(named_manifest("cosmic"))(outputs, y, mask)
    assert torch.equal(found, loss("binary cross-entropy")(outputs, y, mask))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: loss("cross entropy"), "Did you mean cross-entropy"),
        (lambda: loss("RMSE", clip=1), r"has no option 'clip'\. Its options are: none"),
        (lambda: loss("mean squared error", ignore=1), "options are: clip"),
        (lambda: loss("cross-entropy", (np.zeros(()), np.ones(()))), "have no scale"),
        (lambda: loss("binary cross-entropy", positive_weight=0), "is 0, but it must be a number of more than 0"),
        (lambda: loss("binary cross-entropy", positive_weight="a"), "is 'a', but it must be a number"),
    ],
)
def test_wrong_requests(call, said):
    with pytest.raises(UsageError, match=said):
        call()


def test_shapes_that_do_not_fit():
    outputs, y, mask = drawn("RMSE")
    with pytest.raises(InputError, match=r"outputs have shape .* but y has shape"):
        loss("RMSE")(outputs, y[:, :, :2])
    with pytest.raises(InputError, match="mask has shape"):
        loss("RMSE")(outputs, y, mask[:, :1])
    with pytest.raises(InputError, match="Expected classes as integers"):
        loss("cross-entropy")(outputs, y[:, 0])
    with pytest.raises(InputError, match="mean or sd has shape"):
        loss("RMSE", (np.zeros(3), np.ones(3)))(outputs, y)
