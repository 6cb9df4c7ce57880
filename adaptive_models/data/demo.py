"""A small video with sound, made on the spot, for those who have none at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from scipy.ndimage import gaussian_filter

WIDTH, HEIGHT = 320, 240
AUDIO_RATE = 48_000
MOTION = (0.4, 0.7)
"""Share of the clip at which the motion, and the sound, begin and end."""
RADIUS = 38


def write_demo_clip(path: str | Path, seconds: float = 4, fps: int = 25, seed: int = 0) -> None:
    """Write an MP4 file: a still scene into which, for a while, a bright disc moves with a click and a hum.

    The same arguments give the same pictures and sound. The file appears whole or not at all.

    Args:
        path: the file to write.
        seconds: duration.
        fps: frames per second.
        seed: of the textures and of the noise.

    Raises:
        ValueError: if the duration holds no frame.
    """
    count = round(seconds * fps)
    if count < 1:
        raise ValueError(f"{seconds} s at {fps} frames per second hold no frame; at least 1 is needed")
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        _encode(partial, _pictures(count, seed), _sound(count / fps, seed), fps)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _encode(path: Path, pictures: Iterator[np.ndarray], sound: np.ndarray, fps: int) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=fps)
        video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", 1_500_000
        audio = container.add_stream("aac", rate=AUDIO_RATE, layout="mono")
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = AUDIO_RATE, 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode())


def _pictures(count: int, seed: int) -> Iterator[np.ndarray]:
    """(240, 320, 3) uint8 each: a blurred texture, the disc, which comes in and stays, and faint noise."""
    random = np.random.default_rng(seed)
    side = 2 * RADIUS
    background = 90 + 260 * gaussian_filter(random.normal(size=(HEIGHT, WIDTH, 3)), (4, 4, 0))
    disc = np.array([225, 180, 150]) + 60 * gaussian_filter(random.normal(size=(side, side, 3)), (2, 2, 0))
    rows, columns = np.mgrid[:side, :side] - RADIUS + 0.5
    inside = np.hypot(rows, columns) < RADIUS
    scene = np.pad(background, ((side, side), (side, side), (0, 0)))  # room for the disc outside the picture
    for index in range(count):
        progress = np.clip((index / count - MOTION[0]) / (MOTION[1] - MOTION[0]), 0, 1)
        left = round(progress * (side + 0.5 * WIDTH))
        top = side + round(HEIGHT * (0.55 - 0.35 * np.sin(np.pi * progress)))
        picture = scene.copy()
        picture[top : top + side, left : left + side][inside] = disc[inside]
        seen = picture[side:-side, side:-side] + random.normal(scale=1.5, size=background.shape)
        yield seen.round().clip(0, 255).astype(np.uint8)


def _sound(seconds: float, seed: int) -> np.ndarray:
    """(S,) float32 in [-1, 1]: faint noise, and in the time of the motion a click and a hum."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * AUDIO_RATE)) / AUDIO_RATE
    noise = random.normal(size=len(time))
    begin, end = (share * seconds for share in MOTION)
    moving = (time >= begin) & (time < end)
    click = 0.2 * np.exp(-60 * np.maximum(time - begin, 0)) * noise
    hum = 0.2 * np.sin(2 * np.pi * 440 * time)
    return (0.002 * noise + moving * (click + hum)).clip(-1, 1).astype(np.float32)
