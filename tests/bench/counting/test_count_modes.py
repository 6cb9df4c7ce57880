"""A compiled model counts as its plain version, and nothing of it is compiled to find out."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn, randn

from bench import Profile, count_flops


def model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(2),
        nn.GRU(9, 5, batch_first=True),
    ).eval()


def facts(profile: Profile) -> tuple:
    return profile.macs, profile.flops, profile.params, [(row.name, row.type, row.flops) for row in profile.rows]


def never_called(*_: object) -> None:
    raise AssertionError("the model was compiled")


COMPILED = {"backend": never_called}


def test_compiled_by_function() -> None:
    assert facts(count_flops(torch.compile(model(), **COMPILED), randn(2, 3, 5, 5))) == facts(
        count_flops(model(), randn(2, 3, 5, 5))
    )


def test_compiled_in_place() -> None:
    compiled = model()
    compiled.compile(**COMPILED)
    assert facts(count_flops(compiled, randn(2, 3, 5, 5))) == facts(count_flops(model(), randn(2, 3, 5, 5)))
    assert compiled._compiled_call_impl is not None


def test_compiled_inside() -> None:
    outer, plain = model(), model()
    outer[0] = torch.compile(outer[0], **COMPILED)
    outer[4].compile(**COMPILED)
    assert facts(count_flops(outer, randn(2, 3, 5, 5))) == facts(count_flops(plain, randn(2, 3, 5, 5)))


def test_compiled_functions() -> None:
    def gram(x: Tensor) -> Tensor:
        return x @ x.T

    assert count_flops(torch.compile(gram, **COMPILED), randn(2, 3)).macs == 12

    module = nn.Linear(3, 4)
    module.forward = torch.compile(module.forward, **COMPILED)
    profile = count_flops(module, randn(2, 3))
    assert (profile.macs, profile.device) == (24, "meta")


class CompiledMethod(nn.Linear):
    @torch.compile(**COMPILED)
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_a_method_that_is_compiled_in_its_class() -> None:
    assert count_flops(CompiledMethod(3, 4), randn(2, 3)).macs == 24


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_types(dtype: torch.dtype) -> None:
    assert facts(count_flops(model().to(dtype), randn(2, 3, 5, 5, dtype=dtype))) == facts(
        count_flops(model(), randn(2, 3, 5, 5))
    )


def test_autocast() -> None:
    expected = facts(count_flops(model(), randn(2, 3, 5, 5)))
    with torch.autocast("cpu", torch.bfloat16):
        assert facts(count_flops(model(), randn(2, 3, 5, 5))) == expected


def test_channels_last() -> None:
    images = randn(2, 3, 5, 5).to(memory_format=torch.channels_last)
    convolution = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    assert facts(count_flops(convolution.to(memory_format=torch.channels_last), images)) == facts(
        count_flops(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()), randn(2, 3, 5, 5))
    )


def test_training_mode_counts_what_training_mode_does() -> None:
    trained, evaluated = (count_flops(model().train(mode), randn(2, 3, 5, 5)) for mode in (True, False))
    assert trained.macs == evaluated.macs
    assert trained.flops - evaluated.flops == 4 * 2 * 4 * 9  # batch normalisation takes its own statistics


def test_under_an_inference_mode_that_the_model_itself_opens() -> None:
    class Careful(nn.Linear):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            with torch.inference_mode(), torch.enable_grad():
                return super().forward(x)

    assert count_flops(Careful(3, 4), randn(2, 3)).macs == 24


def test_scripted() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    profile = count_flops(scripted, randn(2, 3))
    assert (profile.macs, profile.flops, profile.params, profile.unknown) == (24, 2 * 24 + 8 + 8, 16, [])


def test_traced_to_a_graph() -> None:
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))
    profile = count_flops(torch.fx.symbolic_trace(plain), randn(2, 3))
    assert (profile.macs, profile.params, profile.device) == (64, 16 + 25, "meta")
    assert [row.name for row in profile.rows] == ["0", "1", "2"]


LOADS_THE_COMPILER = """
import sys, torch
from torch import nn
from bench import count_flops
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(2), nn.GRU(1, 5))
print(count_flops(net.eval(), torch.randn(1, 3, 5, 5)).device, "torch._dynamo" in sys.modules)
"""


def test_counting_does_not_load_the_compiler() -> None:
    result = subprocess.run([sys.executable, "-c", LOADS_THE_COMPILER], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["meta", "False"]
