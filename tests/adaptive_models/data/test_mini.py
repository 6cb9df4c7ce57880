from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adaptive_models.data.mini import CLIPS, Mini
from adaptive_models.data.mini_scene import (
    FPS,
    LID_HEIGHT,
    NOUNS,
    OBJECT_SIZE,
    RIM,
    SOURCE_FRAMES,
    STYLES,
    TEXTURES,
    VERBS,
    Scene,
)
from adaptive_models.data.spectrogram import SAMPLE_RATE


def scene(verb: str = "cut", noun: str = "pot:plain", seed: int = 3, split: str = "train") -> Scene:
    return Scene(verb, noun, STYLES[split], (seed,))


def grey(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.astype(np.float32).mean(axis=2))[None, None]


def object_pixels(scene: Scene, index: int) -> np.ndarray:
    top, left = scene.centre - OBJECT_SIZE // 2
    return scene.picture(index)[top : top + OBJECT_SIZE, left : left + OBJECT_SIZE].astype(int)


def frames_of(scene: Scene) -> tuple[int, int, int]:
    """Source frames at the start of the clip, in the middle of the event, and at the end."""
    return 0, round((scene.begin + scene.end) / 2 * FPS), SOURCE_FRAMES - 1


def power(sound: np.ndarray, begin: float, end: float) -> float:
    return float(np.square(sound[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)]).mean())


# --- determinism ---


def test_a_clip_depends_on_seed_split_and_number_alone() -> None:
    whole, cut, other = Mini("val"), Mini("val", limit=6), Mini("val", seed=1)
    clip = cut.clips[5]
    assert clip == whole.clips[5]
    first, again = whole.open(clip, 4), cut.open(clip, 4)
    first.rgb(0)  # what was asked for before plays no part
    assert np.array_equal(first.rgb(2), again.rgb(2))
    assert torch.equal(first.spectrogram(2), again.spectrogram(2))
    assert not np.array_equal(first.rgb(2), other.open(other.clips[5], 4).rgb(2))
    train = Mini("train")
    assert not np.array_equal(first.rgb(2), train.open(train.clips[5], 4).rgb(2))


def test_frames_are_centres_or_one_of_each_segment_by_seed() -> None:
    data = Mini("train", limit=1)
    assert data.open(data.clips[0], 4).indices == [12, 36, 60, 84]
    drawn = [data.open(data.clips[0], 10, seed).indices for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    edges = np.arange(11) * SOURCE_FRAMES / 10
    for indices in drawn:
        assert all(low - 1 < index < high for low, index, high in zip(edges[:-1], indices, edges[1:], strict=True))


@pytest.mark.parametrize("split", CLIPS)
def test_verbs_and_nouns_are_balanced_and_occur_together(split: str) -> None:
    data = Mini(split)
    pairs = Counter(clip.labels for clip in data.clips)
    assert len(pairs) == len(VERBS) * len(NOUNS)
    assert len(set(pairs.values())) == 1
    few = Mini(split, limit=20).clips
    for group in (0, 1):
        counts = Counter(clip.labels[group] for clip in few)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_only_frames_that_are_asked_for_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []
    picture = Scene.picture
    monkeypatch.setattr(Scene, "picture", lambda self, index: rendered.append(index) or picture(self, index))
    data = Mini("val", limit=1)
    with data.open(data.clips[0], 10) as clip:
        clip.image(3)
        clip.spectrogram(7)
        assert rendered == [clip.indices[3]]


@pytest.mark.parametrize(("arguments", "said"), [(("test",), "unknown split 'test'"), (("val", 0), "limit is 0")])
def test_bad_arguments_are_named(arguments: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Mini(*arguments)


# --- structure ---


@pytest.mark.parametrize("texture", [texture for texture in TEXTURES if texture != "plain"])
@pytest.mark.parametrize("phase", list(product((0, 1), (0, 1))))
def test_texture_is_lost_at_half_the_size_and_plain_at_full_size(texture: str, phase: tuple[int, int]) -> None:
    down, across = phase
    plain, textured = (
        grey(object_pixels(scene(noun=f"pot:{kind}"), 0))[..., 6 + down : 48 + down, 6 + across : 48 + across]
        for kind in ("plain", texture)
    )
    halves = [F.interpolate(each, scale_factor=0.5, mode="bilinear") for each in (plain, textured)]
    assert (halves[0] - halves[1]).abs().max() <= 1  # grey level, of rounding
    peaks = F.max_pool2d(textured, 2) - F.max_pool2d(plain, 2)
    share = np.abs(TEXTURES[texture]).mean()
    assert share - 0.05 < (peaks > 15).float().mean() < share + 0.25  # a window may straddle the edge of a cell


def test_objects_differ_at_half_the_size() -> None:
    means = [
        object_pixels(scene(noun=f"{name}:plain"), 0)[8:-8, 8:-8].mean(axis=(0, 1)) for name in ("pot", "bowl", "cup")
    ]
    assert [mean.argmax() for mean in means] == [0, 1, 2]


@pytest.mark.parametrize(("verb", "there_before"), [("take", True), ("put", False)])
def test_what_is_taken_is_gone_and_what_is_put_was_not_there(verb: str, there_before: bool) -> None:
    moved, still = scene(verb), scene("ring")
    for index, there in ((0, there_before), (SOURCE_FRAMES - 1, not there_before)):
        difference = np.abs(object_pixels(moved, index) - object_pixels(still, index)).mean()
        assert difference < 6 if there else difference > 30


def test_open_is_close_backwards() -> None:
    first, last = 0, SOURCE_FRAMES - 1
    lids = {
        (verb, index): object_pixels(scene(verb), index)[RIM + 2 : LID_HEIGHT, RIM + 2 : -RIM - 2].mean(axis=(0, 1))
        for verb, index in product(("open", "close"), (first, last))
    }
    assert lids["open", first] == pytest.approx(lids["close", last], abs=2)
    assert lids["open", last] == pytest.approx(lids["close", first], abs=2)
    assert np.abs(lids["open", first] - lids["open", last]).max() > 100


def test_ring_and_scrub_look_alike_and_sound_different() -> None:
    ring, scrub, quiet = scene("ring"), scene("scrub"), scene("wipe")
    _, event, _ = frames_of(ring)
    assert np.array_equal(ring.picture(event), scrub.picture(event))
    assert not np.array_equal(ring.picture(event), quiet.picture(event))
    begin, end = ring.begin + 0.3, ring.end - 0.3
    assert power(quiet.sound, begin, end) < 2 * power(quiet.sound, 0, quiet.begin)
    for loud in (ring, scrub):
        assert power(loud.sound, begin, end) > 20 * power(loud.sound, 0, loud.begin)
    flatness = []
    for each in (ring, scrub):
        spectrum = np.square(np.abs(np.fft.rfft(each.sound[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)])))
        flatness.append(np.exp(np.log(spectrum).mean()) / spectrum.mean())
    assert flatness[0] < 0.1 * flatness[1]


def test_the_event_is_in_one_to_three_of_ten_frames_and_the_rest_is_nearly_still() -> None:
    data = Mini("val", limit=8)
    for labelled in data.clips:
        clip = data.open(labelled, 10)
        seen = data.scene(labelled)
        busy = np.array([seen.begin < time < seen.end for time in clip.times])
        assert 1 <= busy.sum() <= 3
        pictures = np.stack([grey(clip.rgb(t))[0, 0] for t in range(10)])
        changes = [np.abs(pictures[t] - pictures[t - 1]).mean() for t in range(1, 10) if not busy[t - 1 : t + 1].any()]
        assert max(changes) < 8


@pytest.mark.parametrize("split", CLIPS)
def test_the_object_lies_inside_the_crop_of_evaluation(split: str) -> None:
    data = Mini(split)
    centres = np.array([data.scene(clip).centre for clip in data.clips])
    assert centres.min() - OBJECT_SIZE // 2 >= 16
    assert centres.max() + OBJECT_SIZE // 2 <= 240
    assert (centres.std(axis=0) > 30).all()


@pytest.mark.parametrize("t", [-1, 10])
def test_a_frame_that_there_is_not_is_named(t: int) -> None:
    data = Mini("val", limit=1)
    with data.open(data.clips[0], 10) as clip, pytest.raises(IndexError, match=f"frame {t} of a clip of 10"):
        clip.image(t)
