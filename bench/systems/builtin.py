"""The systems of the paper's tables, and bare backbones. Nothing here imports torch before something is built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UsageError
from bench.systems.registry import Registry, System
from bench.systems.workloads import FLOW, IMAGE, SPECTROGRAM, WORKLOADS, Workload

if TYPE_CHECKING:
    from torch import nn

DEPTHS = ("san10", "san15", "san19")
VITS = ("vit-tiny", "vit-small", "vit-base")
TITLES = {"san19": "SAN19", "san-mini": "SAN-mini"}
BACKBONES = (*DEPTHS, *(f"{depth}-patchwise" for depth in DEPTHS), "san-mini", *VITS, "resnet50", "bninception")
CROPS = range(4)
MAX_SKIPS = range(1, 5)
WEIGHTS = Path(__file__).parents[2] / "adaptive_models" / "weights"
"""Trained weights that come with the package, a folder of parts for each workload that has some."""


def registry(adapters: Iterable[str] = ()) -> Registry:
    """All systems: ours, those of entry points, and adapters as "module:name" or "path/to/file.py:name".

    Raises:
        UsageError: an adapter that cannot be added.
    """
    systems = Registry([*map(backbone, BACKBONES), *_systems()])
    systems.add_entry_points()
    for adapter in adapters:
        systems.add_adapter(adapter)
    return systems


def backbone(name: str, shape: tuple[int, ...] = IMAGE) -> System:
    """A bare backbone, one of `BACKBONES`, on inputs of a shape (channels, height, width)."""
    return System(name, partial(_build_backbone, name, shape[0]), {"x": shape}, title=name, backbone=name)


def resized(found: System, size: int | None, modality: str | None) -> System:
    """A backbone at another size of its input, in pixels, or for another modality, "rgb", "spec" or "flow".

    Raises:
        UsageError: a whole system, whose inputs are fixed, or a size below 32.
    """
    if size is None and modality is None:
        return found
    if found.id not in BACKBONES:
        raise UsageError(f"{found.id} has fixed inputs: --size and --modality are for bare backbones such as san19")
    if size is not None and size < 32:
        raise UsageError(f"--size {size}: the side of an input is at least 32 pixels")
    channels, side, _ = {"spec": SPECTROGRAM, "flow": FLOW}.get(modality or "rgb", IMAGE)
    return backbone(found.id, (channels, size or side, size or side))


def _systems() -> Iterator[System]:
    for workload in WORKLOADS.values():
        yield System(
            f"{workload.name}/san19-base",
            partial(_build_san_base, workload),
            {name: (1, *shape) for name, shape in workload.inputs.items()},
            title="SAN19-base",
            backbone=TITLES[workload.backbone],
            weights=_weights(workload.name),
        )
        for crops in CROPS:
            yield _adaptive(workload, crops, None)
        for max_skip in MAX_SKIPS:
            for crops in CROPS:
                yield _adaptive(workload, crops, max_skip)
    # TSN and TBN take segments, here a single one
    rgb, spectrogram, flow = (1, *IMAGE), (1, *SPECTROGRAM), (1, *FLOW)
    for name in ("ucf101", "mini"):
        build = partial(_build_tsn, WORKLOADS[name])
        weights = _weights(name)
        yield System(f"{name}/tsn-resnet50", build, {"rgb": rgb}, title="TSN", backbone="ResNet-50", weights=weights)
    both, all_three = {"rgb": rgb, "spectrogram": spectrogram}, {"rgb": rgb, "spectrogram": spectrogram, "flow": flow}
    for id, inputs in (("epic/tbn-ra", both), ("epic/tbn-raf", all_three), ("mini/tbn-ra", both)):
        workload = WORKLOADS[id.partition("/")[0]]
        build, weights = partial(_build_tbn, workload, tuple(inputs)), _weights(workload.name)
        yield System(id, build, inputs, title="TBN", backbone="BN-Inception", weights=weights)

    # The published figures of SlowFast are of a clip over the 8 frames of its Slow pathway; the Fast one sees 32
    clip, log_mel = (32, 3, 256, 256), (1, 80, 128)
    epic, ucf101 = WORKLOADS["epic"], WORKLOADS["ucf101"]
    seen: dict[str, tuple[int, ...]] = {"rgb": clip}
    for title, make_clip_network, clip_inputs in (
        ("SlowFast", _build_slowfast, seen),
        ("AVSlowFast", _build_avslowfast, seen | {"log_mel": log_mel}),
    ):
        name, build_clip_network = f"epic/{title.lower()}-r101-8x8", partial(make_clip_network, epic)
        yield System(name, build_clip_network, clip_inputs, frames=8, title=title, backbone="ResNet-101, 8x8")
    clips = {"rgb": (8, 3, 112, 112)}
    yield System("ucf101/res3d-18", partial(_build_res3d, ucf101), clips, frames=8, title="Res3D", backbone="Res3D-18")
    # Both choose among the 16 sampled frames of a video
    for title, make, network in (
        ("DSN", _build_dsn, "Res2D-18 + Res3D-18"),
        ("SMART", _build_smart, "MobileNetV2 + ResNet-152"),
    ):
        yield System(
            f"ucf101/{title.lower()}",
            partial(make, ucf101),
            {"rgb": (ucf101.frames, *IMAGE)},
            frames=ucf101.frames,
            title=title,
            backbone=network,
            stepwise=True,
        )


def _weights(workload: str) -> Path | None:
    folder = WEIGHTS / workload
    return folder if folder.is_dir() else None


def _adaptive(workload: Workload, crops: int, max_skip: int | None) -> System:
    return System(
        f"{workload.name}/s{crops}" + (f"-t{max_skip}" if max_skip else ""),
        partial(_build_adaptive, workload, crops, max_skip),
        workload.inputs,
        title=f"S_{crops}" + (f",T_{max_skip}" if max_skip else ""),
        backbone=TITLES[workload.backbone],
        crops=crops,
        max_skip=max_skip,
        weights=_weights(workload.name),
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

    return SANBase(workload.classes, workload.audio, workload.fusion, workload.backbone)


def _build_adaptive(workload: Workload, crops: int, max_skip: int | None) -> nn.Module:
    from adaptive_models import build_backbone
    from adaptive_models.system import AdaptiveSystem

    make_backbone = partial(build_backbone, workload.backbone)
    return AdaptiveSystem(
        crops,
        max_skip,
        workload.classes,
        workload.audio,
        workload.head_layers,
        make_backbone,
        workload.hidden,
        workload.sampler_hidden,
        workload.hallucinator_hidden,
    )


def _build_tsn(workload: Workload) -> nn.Module:
    from baselines.tsn import TSN

    return TSN(workload.classes, workload.width)


def _build_tbn(workload: Workload, modalities: tuple[str, ...]) -> nn.Module:
    from baselines.tbn import TBN

    return TBN(modalities, workload.classes, workload.width)


def _build_slowfast(workload: Workload) -> nn.Module:
    from baselines.slowfast import SlowFast

    return SlowFast(workload.classes)


def _build_avslowfast(workload: Workload) -> nn.Module:
    from baselines.avslowfast import AVSlowFast

    return AVSlowFast(workload.classes)


def _build_res3d(workload: Workload) -> nn.Module:
    from baselines.res3d import Res3D18

    return Res3D18(workload.classes)


def _build_dsn(workload: Workload) -> nn.Module:
    from baselines.dsn import CLIP_FRAMES, DSN

    return DSN(workload.classes, clips=workload.frames // CLIP_FRAMES)


def _build_smart(workload: Workload) -> nn.Module:
    from baselines.smart import SMART

    return SMART(workload.classes, frames=workload.frames)
