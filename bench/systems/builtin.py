"""The systems of the paper's tables, and bare backbones. Nothing here imports torch before something is built."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING

from bench.systems.registry import Registry, System
from bench.systems.workloads import FLOW, IMAGE, WORKLOADS, Workload

if TYPE_CHECKING:
    from torch import nn

CROPS = range(4)
MAX_SKIPS = range(1, 5)


@cache
def registry() -> Registry:
    """All systems that are installed: ours, and those of entry points."""
    systems = Registry([*_backbones(), *_systems()])
    systems.add_entry_points()
    return systems


def _backbones() -> Iterator[System]:
    depths = ("san10", "san15", "san19")
    for name in (*depths, *(f"{depth}-patchwise" for depth in depths), "resnet50", "bninception"):
        yield _backbone(name, channels=3)


def _backbone(name: str, channels: int) -> System:
    return System(
        name,
        partial(_build_backbone, name, channels),
        {"x": IMAGE},
        title=name,
        backbone=name,
        resize=partial(_backbone, name),
    )


def _systems() -> Iterator[System]:
    for workload in WORKLOADS.values():
        yield System(
            f"{workload.name}/san19-base",
            partial(_build_san_base, workload),
            {name: (1, *shape) for name, shape in workload.inputs.items()},
            title="SAN19-base",
            backbone="SAN19",
        )
        for crops in CROPS:
            yield _adaptive(workload, crops, None)
        for max_skip in MAX_SKIPS:
            for crops in CROPS:
                yield _adaptive(workload, crops, max_skip)
    rgb, audio, flow = (1, *IMAGE), (1, 1, 256, 256), (1, *FLOW)
    yield System("ucf101/tsn-resnet50", _build_tsn, {"rgb": rgb}, title="TSN", backbone="ResNet-50")
    for name, inputs in (
        ("tbn-ra", {"rgb": rgb, "spectrogram": audio}),
        ("tbn-raf", {"rgb": rgb, "spectrogram": audio, "flow": flow}),
    ):
        yield System(f"epic/{name}", partial(_build_tbn, tuple(inputs)), inputs, title="TBN", backbone="BN-Inception")


def _adaptive(workload: Workload, crops: int, max_skip: int | None) -> System:
    name = f"s{crops}" if max_skip is None else f"s{crops}-t{max_skip}"
    title = f"S_{crops}" if max_skip is None else f"S_{crops},T_{max_skip}"
    return System(
        f"{workload.name}/{name}",
        partial(_build_adaptive, workload, crops, max_skip),
        workload.inputs,
        title=title,
        backbone="SAN19",
        crops=crops,
        max_skip=max_skip,
    )


def _build_backbone(name: str, channels: int) -> nn.Module:
    from adaptive_models import build_backbone
    from baselines.bninception import BNInception
    from baselines.resnet import ResNet50

    if name == "resnet50":
        return ResNet50(channels=channels)
    if name == "bninception":
        return BNInception(channels)
    return build_backbone(name, channels)


def _build_san_base(workload: Workload) -> nn.Module:
    from baselines.san_base import SANBase

    return SANBase(tuple(workload.inputs), workload.classes, workload.fusion)


def _build_adaptive(workload: Workload, crops: int, max_skip: int | None) -> nn.Module:
    from adaptive_models.system import AdaptiveSystem

    return AdaptiveSystem(crops, max_skip, workload.classes, workload.audio, workload.head_layers)


def _build_tsn() -> nn.Module:
    from baselines.tsn import TSN

    return TSN(classes=WORKLOADS["ucf101"].classes[0])


def _build_tbn(modalities: tuple[str, ...]) -> nn.Module:
    from baselines.tbn import TBN

    return TBN(modalities, WORKLOADS["epic"].classes)
