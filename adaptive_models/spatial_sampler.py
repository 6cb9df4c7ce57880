"""The spatial sampler (section III.B): boxes round the most salient regions of the attention, and crops."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, library

THRESHOLDS = 7
"""Levels at which the attention is cut into regions, evenly spaced from mean - std to mean + std."""
LARGEST_REGION = 1 / 4
"""A region that covers this share of the map, or more, is too large to be salient."""
LARGEST_OVERLAP = 0.3
"""Regions whose boxes overlap a better one by more than this intersection over union are dropped."""

Box = tuple[int, int, int, int]  # top, left, bottom, right, ends exclusive

_EIGHT_NEIGHBOURS = np.zeros((3, 3, 3), bool)  # within a level, not from one level to the next
_EIGHT_NEIGHBOURS[1] = True


def salient_boxes(attention: Tensor, k: int, image_size: int = 224, box_size: int = 64) -> Tensor:
    """Return boxes of one size round the k most salient regions of each map, the most salient first.

    Regions are the connected cells (8 neighbours) strictly above each of 7 levels of the attention's channel
    mean; a region's score is the sum of the attention in it; of regions that overlap the weaker are dropped.
    Where fewer than k remain the last box is repeated; where none remains, it is the box in the middle.

    The regions are found on the CPU (scipy), whatever the device.

    Args:
        attention: (N, C, h, w).
        k: boxes for each map; may be 0.
        image_size: side of the (square) image in pixels, which the map covers.
        box_size: side of the boxes in pixels.

    Returns:
        (N, k, 4) int64 on the attention's device: top, left, bottom, right in pixels, ends exclusive.

    Raises:
        ValueError: a wrong shape, a negative k, a box larger than the image, or attention that is not finite.
    """
    if attention.ndim != 4 or 0 in attention.shape[1:]:
        raise ValueError(f"salient_boxes needs attention (N, C, h, w), got shape {tuple(attention.shape)}")
    if k < 0:
        raise ValueError(f"the number of boxes k must be 0 or more, got {k}")
    if not 0 < box_size <= image_size:
        raise ValueError(f"box_size must be from 1 to the image size {image_size}, got {box_size}")
    return torch.ops.foveabench.salient_boxes(attention.detach(), k, image_size, box_size)


# Operators of our own, because what they do depends on values: so the meta device at least knows the shapes. They are
# defined the plain way, since `custom_op` imports torch's compiler at their first call.
library.define("foveabench::salient_boxes", "(Tensor attention, int k, int image_size, int box_size) -> Tensor")
library.define("foveabench::follow_boxes", "(Tensor previous, Tensor boxes) -> Tensor")


@library.impl("foveabench::salient_boxes", "CompositeExplicitAutograd")
def _salient_boxes(attention: Tensor, k: int, image_size: int, box_size: int) -> Tensor:
    # In double precision, sums hardly depend on their order, and so neither on device, layout nor batch.
    maps = attention.cpu().double().numpy().mean(axis=1)
    if not np.isfinite(maps).all():
        raise ValueError("salient_boxes needs finite attention, got infinity or NaN")
    boxes = np.empty((len(maps), k, 4), np.int64)
    middle = (image_size - box_size) // 2
    for i, attention_map in enumerate(maps):
        regions = _salient_regions(attention_map, k)
        corners = [_top_left(region, attention_map.shape, image_size, box_size) for region in regions]
        corners = corners or [[middle, middle]]
        for slot in range(k):
            top, left = corners[min(slot, len(corners) - 1)]
            boxes[i, slot] = top, left, top + box_size, left + box_size
    return torch.from_numpy(boxes).to(attention.device)


@library.register_fake("foveabench::salient_boxes")
def _(attention: Tensor, k: int, image_size: int, box_size: int) -> Tensor:
    return attention.new_empty((len(attention), k, 4), dtype=torch.int64)


def _salient_regions(attention: np.ndarray, k: int) -> list[Box]:
    """Return up to k boxes (top, left, bottom, right) in cells of the map (h, w), by falling score."""
    spread = attention.std()
    levels = attention.mean() + np.linspace(-spread, spread, THRESHOLDS)
    labels, _ = ndimage.label(attention > levels[:, None, None], _EIGHT_NEIGHBOURS)
    scored = []
    for label, (level, rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        region = labels[level, rows, columns][0] == label
        if region.sum() < LARGEST_REGION * attention.size:
            score = attention[rows, columns][region].sum()
            scored.append((score, (rows.start, columns.start, rows.stop, columns.stop)))
    kept: list[Box] = []
    for _, box in sorted(scored, key=lambda item: -item[0]):
        if len(kept) < k and all(_overlap(box, better) <= LARGEST_OVERLAP for better in kept):
            kept.append(box)
    return kept


def _overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes (top, left, bottom, right)."""
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(height, 0) * max(width, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _top_left(region: Box, map_size: tuple[int, ...], image_size: int, box_size: int) -> list[int]:
    """Centre a box in the image on a region of the map, moved inside; return its top and left in pixels."""
    top, left, bottom, right = region
    centres = [
        (top + bottom) // 2 * image_size // map_size[0],
        (left + right) // 2 * image_size // map_size[1],
    ]
    return [min(max(centre - box_size // 2, 0), image_size - box_size) for centre in centres]


def follow_boxes(previous: Tensor, boxes: Tensor) -> Tensor:
    """Re-order each sample's boxes so that every slot stays on its region, looking at the past only.

    Boxes are assigned to the previous ones with the least sum of squared coordinate distances
    (scipy's `linear_sum_assignment`).

    Args:
        previous: (N, k, 4) boxes of the last frame that was processed fully, in their order.
        boxes: (N, k, 4) boxes of this frame.

    Returns:
        (N, k, 4): `boxes`, each sample's in the order of `previous`.

    Raises:
        ValueError: the shapes differ or are not (N, k, 4).
    """
    if boxes.ndim != 3 or boxes.shape[-1] != 4 or previous.shape != boxes.shape:
        raise ValueError(
            f"follow_boxes needs two sets of boxes of one shape (N, k, 4), "
            f"got {tuple(previous.shape)}, {tuple(boxes.shape)}"
        )
    return torch.ops.foveabench.follow_boxes(previous, boxes)


@library.impl("foveabench::follow_boxes", "CompositeExplicitAutograd")
def _follow_boxes(previous: Tensor, boxes: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment  # half a second, and few need it

    distances = (previous[:, :, None] - boxes[:, None]).square().sum(dim=-1).cpu().numpy()
    orders = np.array([linear_sum_assignment(distance)[1] for distance in distances], np.int64)
    order = torch.from_numpy(orders.reshape(distances.shape[:2])).to(boxes.device)
    return boxes.take_along_dim(order[:, :, None], dim=1)


@library.register_fake("foveabench::follow_boxes")
def _(previous: Tensor, boxes: Tensor) -> Tensor:
    return torch.empty_like(boxes)


def crops_in_order(crops: Tensor, boxes: Tensor, order: Tensor) -> Tensor:
    """Put what belongs to boxes into the order of the same boxes elsewhere.

    Args:
        crops: (N, k, F), of the boxes.
        boxes: (N, k, 4).
        order: (N, k, 4), the same boxes in another order.
    """
    # Boxes that are equal have equal crops, so that any of them will do.
    slots = (order[:, :, None] == boxes[:, None]).all(dim=3).int().argmax(dim=2)
    return crops.take_along_dim(slots[:, :, None], dim=1)


def order_boxes_along_video(boxes: Tensor) -> Tensor:
    """Re-order a whole video's boxes so that every slot stays on its region: the published, non-causal order.

    Slot after slot takes the cheapest path from any box of the first frame to any of the last, through one
    box of each frame that no slot before it took. A step costs max(0.1, squared distance of the coordinates)
    plus the difference in area. The published code can take a box twice where slots cross and lose another;
    here each is taken once.

    Args:
        boxes: (T, k, 4) boxes of all T >= 1 frames.

    Returns:
        (T, k, 4): each frame's boxes, every one once, in the order of the slots.

    Raises:
        ValueError: the shape is not (T, k, 4) with at least one frame.
    """
    if boxes.ndim != 3 or boxes.shape[-1] != 4 or len(boxes) == 0:
        raise ValueError(f"order_boxes_along_video needs boxes (T, k, 4) with T >= 1, got {tuple(boxes.shape)}")
    corners = boxes.cpu().double().numpy()
    areas = (corners[..., 2] - corners[..., 0]) * (corners[..., 3] - corners[..., 1])
    distances = np.square(corners[:-1, :, None] - corners[1:, None]).sum(axis=-1)
    steps = np.maximum(distances, 0.1) + np.abs(areas[:-1, :, None] - areas[1:, None])
    frames, k = areas.shape
    penalties = np.zeros((frames, k))  # infinite for boxes that a slot has taken
    paths = np.empty((frames, k), np.int64)
    for slot in range(k):
        paths[:, slot] = _cheapest_path(steps, penalties)
        penalties[np.arange(frames), paths[:, slot]] = np.inf
    return boxes.take_along_dim(torch.from_numpy(paths).to(boxes.device)[:, :, None], dim=1)


def _cheapest_path(steps: np.ndarray, penalties: np.ndarray) -> list[int]:
    """Return one box per frame for step costs (T-1, k, k) and box costs (T, k), by dynamic programming."""
    cost = penalties[0]
    origins = []
    for step, penalty in zip(steps, penalties[1:], strict=True):
        arrival = cost[:, None] + step
        origins.append(arrival.argmin(axis=0))
        cost = arrival.min(axis=0) + penalty
    path = [int(cost.argmin())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return path[::-1]


def crop_boxes(images: Tensor, boxes: Tensor, box_size: int = 64) -> Tensor:
    """Cut the boxes out of the images, by index arithmetic alone: the device need not be waited for.

    Args:
        images: (N, C, H, W).
        boxes: (N, k, 4) int64, all inside the images; only top and left are used.
        box_size: side of the boxes in pixels.

    Returns:
        (N, k, C, box_size, box_size).

    Raises:
        ValueError: a wrong shape, or a box larger than the image.
    """
    if images.ndim != 4 or boxes.ndim != 3 or boxes.shape[-1] != 4 or len(boxes) != len(images):
        raise ValueError(
            f"crop_boxes needs images (N, C, H, W) and boxes (N, k, 4), got {tuple(images.shape)}, {tuple(boxes.shape)}"
        )
    if not 0 < box_size <= min(images.shape[2:]):
        raise ValueError(f"box_size must be from 1 to the image size {tuple(images.shape[2:])}, got {box_size}")
    offsets = torch.arange(box_size, device=images.device)
    samples = torch.arange(len(images), device=images.device)[:, None, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[:, None, None]
    rows = (boxes[:, :, 0, None] + offsets)[:, :, None, :, None]
    columns = (boxes[:, :, 1, None] + offsets)[:, :, None, None, :]
    return images[samples, channels, rows, columns]
