"""Backward passes, in functions that run them and in models that differentiate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, randn

from bench import count_flops


def forward_and_backward(model: nn.Module):
    def step(x: Tensor) -> None:
        model(x.requires_grad_()).sum().backward()

    return step


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Linear(3, 4), (2, 3)),
        (nn.Conv2d(3, 4, 3), (2, 3, 6, 5)),
        (nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2), (2, 4, 6, 5)),
        (nn.ConvTranspose2d(3, 4, 3, stride=2), (2, 3, 4, 4)),
        (nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.LayerNorm(5), nn.Linear(5, 4)), (2, 3)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten()), (2, 3, 6, 6)),
    ],
)
def test_forward_and_backward_are_three_times_the_forward_pass(model: nn.Module, shape: tuple[int, ...]) -> None:
    forward = count_flops(model, randn(shape))
    both = count_flops(forward_and_backward(model), randn(shape))
    assert both.macs == 3 * forward.macs
    assert both.unknown == []


def test_without_a_gradient_of_the_input_it_is_twice() -> None:
    model = nn.Conv2d(3, 4, 3)
    profile = count_flops(lambda x: model(x).sum().backward(), randn(2, 3, 6, 5))
    assert profile.macs == 2 * 96 * 27


def test_the_forward_pass_of_a_recurrent_layer_costs_the_same_below_autograd() -> None:
    model = nn.GRU(3, 4, num_layers=2)
    forward = count_flops(model, randn(5, 2, 3))
    both = count_flops(forward_and_backward(nn.Sequential(model, First())), randn(5, 2, 3))
    assert 2 * forward.macs < both.macs <= 3 * forward.macs  # the first state has no gradient
    assert both.unknown == []


def test_a_bilinear_layer_has_three_gradients() -> None:
    model = nn.Bilinear(3, 3, 4)

    def step(x: Tensor, y: Tensor) -> None:
        model(x.requires_grad_(), y.requires_grad_()).sum().backward()

    assert count_flops(step, randn(2, 3), randn(2, 3)).macs == 4 * 72


class First(nn.Module):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0]


def test_attention() -> None:
    # pairs 3*5*5; scores and aggregation forward, and for each both gradients
    def step(q: Tensor) -> None:
        q = q.requires_grad_()
        F.scaled_dot_product_attention(q, q, q).sum().backward()

    profile = count_flops(step, randn(2, 3, 5, 4))
    assert profile.macs == 3 * (2 * 3 * 25 * 8)
    assert profile.unknown == []


def test_a_training_step_is_counted_whole() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x: Tensor, y: Tensor) -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()

    profile = count_flops(step, randn(5, 3), torch.tensor([0, 1, 1, 0, 1]))
    # forward 12 + 8 a row, the gradients of both weights, and that of the second layer's input
    assert profile.macs == 5 * (20 + 20 + 8)
    assert profile.unknown == []


class Force(nn.Module):
    """The gradient of an energy, as in models of physics."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return -torch.autograd.grad(self.energy(x).sum(), x)[0]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_model_that_differentiates(mode) -> None:
    with mode():
        profile = count_flops(Force(), randn(5, 3))
    assert profile.macs == 5 * 2 * (12 + 4)  # forward, and the gradients of both layers' inputs
    assert (profile.device, profile.unknown, profile.params) == ("meta", [], 20)
    assert {row.name for row in profile.rows} == {"energy.0", "energy.1", "energy.2", ""}


def test_transforms_of_functions() -> None:
    weight = randn(3, 3)
    gradient = torch.func.grad(lambda x: (x @ weight).sum())
    profile = count_flops(lambda x: gradient(x), randn(2, 3))
    assert (profile.macs, profile.unknown) == (2 * 18, [])


def test_checkpointed_layers_are_run_again_in_the_backward_pass() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    def step(x: Tensor) -> None:
        torch.utils.checkpoint.checkpoint(model, x.requires_grad_(), use_reentrant=False).sum().backward()

    # torch runs the first layer again; then it has all that the backward pass needs
    assert count_flops(step, randn(2, 3)).macs == 3 * 36 + 18


def test_inputs_that_require_gradients_do_so_in_the_copy() -> None:
    x = randn(2, 3).requires_grad_()
    profile = count_flops(lambda x: torch.autograd.grad((x @ x.T).sum(), x), x)
    assert profile.macs == 3 * 12
    assert x.grad is None


@pytest.mark.parametrize(
    "layer",
    [
        nn.ELU(), nn.GELU(), nn.Hardshrink(), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(), nn.LeakyReLU(),
        nn.GLU(1), nn.LogSigmoid(), nn.Mish(), nn.PReLU(), nn.ReLU(), nn.RReLU(), nn.SELU(), nn.Sigmoid(), nn.SiLU(),
        nn.Softplus(), nn.Softshrink(), nn.Tanh(), nn.Softmax(1), nn.LogSoftmax(1), nn.Dropout(), nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm(6), nn.RMSNorm(6), nn.MaxPool2d(2), nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(2), nn.AdaptiveMaxPool2d(2), nn.ReflectionPad2d(1), nn.ReplicationPad2d(1),
        nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(scale_factor=2, mode="bicubic"), nn.PixelShuffle(2), nn.Unfold(2),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_the_backward_passes_of_common_layers_are_known(layer: nn.Module) -> None:
    x = randn(2, 4, 6, 6)
    both = count_flops(forward_and_backward(layer), x)
    assert both.unknown == []
    # the sum that is differentiated costs as many operations as there are outputs
    outputs = layer(x).numel()
    assert both.flops >= count_flops(layer, x).flops + outputs
    if isinstance(layer, (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.Hardswish, nn.LeakyReLU, nn.SiLU)):
        assert both.flops == 3 * x.numel()


@pytest.mark.parametrize(
    "loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy_with_logits]
)
def test_the_backward_passes_of_losses_are_known(loss) -> None:
    profile = count_flops(lambda x, y: loss(x.requires_grad_(), y).backward(), randn(2, 3), randn(2, 3).sigmoid())
    assert profile.unknown == []
    assert profile.flops > count_flops(loss, randn(2, 3), randn(2, 3)).flops
