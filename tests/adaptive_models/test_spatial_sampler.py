from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptive_models.spatial_sampler import crop_boxes, follow_boxes, order_boxes_along_video, salient_boxes

MIDDLE = [80, 80, 144, 144]


def attention_of(cells: dict[tuple[int, int], float], shape: tuple[int, int] = (7, 7)) -> Tensor:
    attention = torch.zeros(1, 1, *shape)
    for (row, column), value in cells.items():
        attention[0, 0, row, column] = value
    return attention


def boxes_of(cells: dict[tuple[int, int], float], k: int) -> list[list[int]]:
    return salient_boxes(attention_of(cells), k)[0].tolist()


def random_attention(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 32, 7, 7, generator=torch.Generator().manual_seed(seed))


def random_boxes(n: int, k: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 1000, (n, k, 4), generator=torch.Generator().manual_seed(seed))


def test_boxes_of_the_reference(shared: Path) -> None:
    vectors = np.load(shared / "reference" / "spatial_sampler.npz")
    boxes = salient_boxes(torch.from_numpy(vectors["attention"]), k=3)
    assert torch.equal(boxes, torch.from_numpy(vectors["boxes"]))
    assert torch.equal(order_boxes_along_video(boxes), torch.from_numpy(vectors["boxes_ordered"])[0])


@pytest.mark.parametrize(
    ("cell", "box"),
    [  # the centre cell (2r + 1) // 2 = r lies at pixel 32 r
        ((3, 2), [64, 32, 128, 96]),
        ((0, 0), [0, 0, 64, 64]),
        ((6, 6), [160, 160, 224, 224]),
        ((0, 6), [0, 160, 64, 224]),
    ],
)
def test_one_cell_gives_a_box_round_it_inside_the_image(cell: tuple[int, int], box: list[int]) -> None:
    assert boxes_of({cell: 1.0}, k=1) == [box]


def test_boxes_come_by_falling_attention_and_the_last_is_repeated() -> None:
    strong, weak = [160, 160, 224, 224], [0, 32, 64, 96]
    assert boxes_of({(1, 2): 1.0, (6, 6): 2.0}, k=1) == [strong]
    assert boxes_of({(1, 2): 1.0, (6, 6): 2.0}, k=4) == [strong, weak, weak, weak]


def test_score_is_the_sum_over_the_region_not_its_peak() -> None:
    # Two cells of 1 against one of 1.5.
    assert boxes_of({(1, 1): 1.0, (1, 2): 1.0, (5, 5): 1.5}, k=1) == [[0, 32, 64, 96]]


def test_regions_are_strictly_above_a_level() -> None:
    attention = torch.tensor(
        [
            [0.5, 0.5, 0.5, 0.5, 0.0, 0.0],
            [0.5, 0.5, 0.5, 0.5, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
            [0.0, 0.0, 0.0, 1.0, 18.0, 4.0],
            [0.0, 0.0, 0.0, 1.0, 3.0, 2.0],
        ]
    )
    # Mean 1, standard deviation 3: the levels are -2, -1, .. 4. Above 0 the weak block is alone (and the
    # strong one too large); above 1 are four cells, above 4 their peak, which overlaps them by 1/4.
    boxes = salient_boxes(attention[None, None], 4, image_size=96, box_size=16)[0]
    four, peak, weak = [72, 72, 88, 88], [56, 56, 72, 72], [8, 24, 24, 40]
    assert boxes.tolist() == [four, peak, weak, weak]


def test_diagonal_neighbours_are_one_region() -> None:
    # One region of rows and columns 1 to 2, centre cell (1 + 3) // 2 = 2.
    assert boxes_of({(1, 1): 1.0, (2, 2): 1.0}, k=2) == [[32, 32, 96, 96]] * 2


def test_regions_of_a_quarter_of_the_map_are_dropped() -> None:
    twelve = {(row, column): 1.0 for row in (2, 3) for column in range(6)}
    assert boxes_of(twelve, k=1) == [[64, 64, 128, 128]]
    assert boxes_of(twelve | {(4, 0): 1.0}, k=2) == [MIDDLE] * 2  # 13 of 49 cells
    exactly = {(row, column): 1.0 for row in (0, 1) for column in (0, 1)}  # 4 of 16
    assert salient_boxes(attention_of(exactly, shape=(4, 4)), 1)[0].tolist() == [MIDDLE]


def test_nested_regions_are_suppressed_above_an_overlap_of_0_3() -> None:
    # A peak in a shoulder: at low levels both are one region, at high levels the peak is one alone.
    one_of_two = {(3, 3): 1.0, (3, 4): 0.1}  # overlap 1/2; the pair's centre cell is (3, 4)
    assert boxes_of(one_of_two, k=2) == [[64, 96, 128, 160]] * 2
    one_of_four = {(3, 1): 0.1, (3, 2): 0.1, (3, 3): 0.1, (3, 4): 1.0}  # overlap 1/4; centres (3, 3), (3, 4)
    assert boxes_of(one_of_four, k=2) == [[64, 64, 128, 128], [64, 96, 128, 160]]


def test_channels_are_averaged_first() -> None:
    attention = torch.zeros(1, 2, 7, 7)
    attention[0, 0, 1, 1], attention[0, 1, 1, 1] = 1.0, 1.0
    attention[0, 0, 5, 5] = 1.5  # the highest value, but not the highest mean
    assert salient_boxes(attention, 1)[0].tolist() == [[0, 0, 64, 64]]


def test_flat_attention_gives_the_middle() -> None:
    assert salient_boxes(torch.full((2, 3, 7, 7), 0.1), 2).tolist() == [[MIDDLE] * 2] * 2


def test_other_sizes_of_map_image_and_box() -> None:
    # Cell (2, 6) of a 4 x 8 map in an image of 128 lies at row 2 * 32, column 6 * 16.
    boxes = salient_boxes(attention_of({(2, 6): 1.0}, shape=(4, 8)), 1, image_size=128, box_size=32)
    assert boxes[0].tolist() == [[48, 80, 80, 112]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(0, 4))
def test_boxes_lie_inside_and_do_not_depend_on_scale_axes_or_batch(seed: int, k: int) -> None:
    attention = random_attention(3, seed)
    boxes = salient_boxes(attention, k)
    assert boxes.shape == (3, k, 4)
    assert boxes.dtype == torch.int64
    assert ((boxes >= 0) & (boxes <= 224)).all()
    assert (boxes[..., 2:] - boxes[..., :2] == 64).all()
    assert torch.equal(salient_boxes(attention * 4, k), boxes)
    assert torch.equal(salient_boxes(attention.transpose(2, 3), k), boxes[..., [1, 0, 3, 2]])
    assert torch.equal(salient_boxes(attention.contiguous(memory_format=torch.channels_last), k), boxes)
    assert torch.equal(torch.cat([salient_boxes(attention[n : n + 1], k) for n in range(3)]), boxes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_boxes_of_other_floating_types_are_those_of_their_values(dtype: torch.dtype) -> None:
    attention = random_attention(2).to(dtype)
    assert torch.equal(salient_boxes(attention, 3), salient_boxes(attention.float(), 3))


def test_boxes_carry_no_gradient() -> None:
    assert not salient_boxes(random_attention(1).requires_grad_(), 2).requires_grad


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_attention_that_is_not_finite_is_refused(bad: float) -> None:
    attention = random_attention(2)
    attention[1, 5, 3, 3] = bad
    with pytest.raises(ValueError, match="finite attention"):
        salient_boxes(attention, 3)


@pytest.mark.parametrize(
    ("attention", "arguments", "message"),
    [
        (torch.zeros(32, 7, 7), {"k": 1}, r"attention \(N, C, h, w\), got shape \(32, 7, 7\)"),
        (torch.zeros(1, 32, 0, 7), {"k": 1}, r"got shape \(1, 32, 0, 7\)"),
        (torch.zeros(1, 32, 7, 7), {"k": -1}, "k must be 0 or more, got -1"),
        (torch.zeros(1, 32, 7, 7), {"k": 1, "box_size": 225}, "from 1 to the image size 224, got 225"),
        (torch.zeros(1, 32, 7, 7), {"k": 1, "box_size": 0}, "got 0"),
    ],
)
def test_wrong_arguments_are_named(attention: Tensor, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        salient_boxes(attention, **arguments)
    with pytest.raises(ValueError, match=message):
        salient_boxes(attention.to("meta"), **arguments)


def test_operators_keep_torchs_rules() -> None:
    operators = torch.ops.foveabench
    torch.library.opcheck(operators.salient_boxes.default, (random_attention(2), 3, 224, 64))
    torch.library.opcheck(operators.follow_boxes.default, (random_boxes(2, 3), random_boxes(2, 3, seed=1)))


def test_all_stages_run_on_the_meta_device() -> None:
    attention = torch.empty(5, 32, 7, 7, device="meta")
    boxes = salient_boxes(attention, 3)
    crops = crop_boxes(torch.empty(5, 3, 224, 224, device="meta"), follow_boxes(boxes, boxes))
    assert (boxes.shape, boxes.dtype) == ((5, 3, 4), torch.int64)
    assert (crops.shape, crops.device.type) == ((5, 3, 3, 64, 64), "meta")


def test_followed_boxes_recover_a_shuffled_frame() -> None:
    previous = torch.tensor([[[0, 0, 64, 64], [160, 0, 224, 64], [0, 160, 64, 224]]])
    moved = previous + 8
    for order in permutations(range(3)):
        assert torch.equal(follow_boxes(previous, moved[:, list(order)]), moved)


def test_followed_boxes_have_the_least_total_distance() -> None:
    previous, boxes = random_boxes(20, 4), random_boxes(20, 4, seed=1)

    def distance(a: Tensor, b: Tensor) -> int:
        return int((a - b).square().sum())

    for before, now, followed in zip(previous, boxes, follow_boxes(previous, boxes), strict=True):
        orders = [now[list(order)] for order in permutations(range(4))]
        assert distance(before, followed) == min(distance(before, order) for order in orders)
        assert any(torch.equal(followed, order) for order in orders)


def test_no_boxes_stay_no_boxes() -> None:
    none = torch.empty(2, 0, 4, dtype=torch.int64)
    assert salient_boxes(random_attention(2), 0).shape == (2, 0, 4)
    assert follow_boxes(none, none).shape == (2, 0, 4)
    assert order_boxes_along_video(none).shape == (2, 0, 4)
    assert crop_boxes(torch.zeros(2, 3, 224, 224), none).shape == (2, 0, 3, 64, 64)


def step_cost(a: Tensor, b: Tensor) -> float:
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(0.1, float((a - b).square().sum())) + float((area_a - area_b).abs())


def ordered_by_trying_all_paths(boxes: Tensor) -> Tensor:
    frames, k, _ = boxes.shape
    free = [set(range(k)) for _ in range(frames)]
    slots = []
    for _ in range(k):
        paths = {
            path: sum(step_cost(boxes[t, path[t]], boxes[t + 1, path[t + 1]]) for t in range(frames - 1))
            for path in product(*free)
        }
        best = min(paths, key=paths.__getitem__)
        slots.append(torch.stack([boxes[t, box] for t, box in enumerate(best)]))
        for boxes_left, box in zip(free, best, strict=True):
            boxes_left.remove(box)
    return torch.stack(slots, dim=1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("frames", "k"), [(1, 3), (2, 3), (4, 3), (5, 2), (3, 1)])
def test_order_along_a_video_equals_trying_all_paths(frames: int, k: int, seed: int) -> None:
    boxes = random_boxes(frames, k, seed)
    assert torch.equal(order_boxes_along_video(boxes), ordered_by_trying_all_paths(boxes))


def test_a_step_along_a_video_costs_at_least_a_tenth() -> None:
    # Still, then two pixels: 3 * 0.1 + 2 * 2^2. One pixel a step: 4 * 2 * 1^2, cheaper only for the 0.1.
    lefts = torch.tensor([[0, 100], [0, 101], [0, 102], [0, 103], [2, 104]])
    tops = torch.zeros_like(lefts)
    boxes = torch.stack([tops, lefts, tops + 64, lefts + 64], dim=2)
    assert torch.equal(order_boxes_along_video(boxes), boxes.flip(1))


def test_order_along_a_video_sees_the_future_and_following_does_not() -> None:
    def frame(*lefts: int) -> list[list[int]]:
        return [[0, left, 64, left + 64] for left in lefts]

    video = torch.tensor([frame(0, 100), frame(40, 60), frame(60, 200)])
    # The cheapest path costs 2 * 40^2 + 0.1 and takes the first 60 to the second; the rest is the other slot.
    published = torch.tensor([frame(100, 0), frame(60, 40), frame(60, 200)])
    assert torch.equal(order_boxes_along_video(video), published)
    # Step by step 40 -> 60, 60 -> 200 (20^2 + 140^2) is nearer than 40 -> 200, 60 -> 60 (160^2).
    for t in (1, 2):
        assert torch.equal(follow_boxes(video[t - 1 : t], video[t : t + 1].flip(1)), video[t : t + 1])


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_crops_equal_slices(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 9), "box size")
    corner = st.tuples(st.integers(0, 12 - size), st.integers(0, 9 - size))
    corners = torch.tensor(data.draw(st.lists(st.lists(corner, min_size=2, max_size=2), min_size=3, max_size=3)))
    images = torch.arange(3 * 3 * 12 * 9).reshape(3, 3, 12, 9)
    crops = crop_boxes(images, torch.cat([corners, corners + size], dim=2), size)
    assert crops.shape == (3, 2, 3, size, size)
    for n, slot in product(range(3), range(2)):
        top, left = corners[n, slot].tolist()
        assert torch.equal(crops[n, slot], images[n, :, top : top + size, left : left + size])


def test_wrong_shapes_of_boxes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 4\), \(1, 2, 4\)"):
        follow_boxes(random_boxes(1, 3), random_boxes(1, 2))
    with pytest.raises(ValueError, match=r"T >= 1, got \(0, 3, 4\)"):
        order_boxes_along_video(random_boxes(0, 3))
    with pytest.raises(ValueError, match=r"\(2, 3, 64, 64\), \(1, 3, 4\)"):
        crop_boxes(torch.zeros(2, 3, 64, 64), random_boxes(1, 3))
    with pytest.raises(ValueError, match=r"image size \(63, 64\), got 64"):
        crop_boxes(torch.zeros(1, 3, 63, 64), random_boxes(1, 3))
