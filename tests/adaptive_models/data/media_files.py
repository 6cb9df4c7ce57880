"""Small encoded files for tests: pictures that carry their number, with sound that tells the time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, BITS = 96, 64, 10


def picture(number: int) -> np.ndarray:
    """(64, 96, 3) uint8: a texture that moves, under the binary digits of the number."""
    pixels = np.roll(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8), 2 * number, axis=1)
    for bit in range(BITS):
        pixels[:24, 9 * bit : 9 * bit + 9] = 255 * (number >> bit & 1)
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """The number that a picture carries, after encoding."""
    return sum(int(pixels[6:18, 9 * bit + 3 : 9 * bit + 6].mean() > 128) << bit for bit in range(BITS))


def sweep(seconds: float, rate: int = 48000) -> np.ndarray:
    """(S,) float: a tone that rises by 1000 Hz a second from 500 Hz."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (500 * time + 500 * time**2))


def write_numbered(
    path: Path,
    frames: int,
    rate: int = 30,
    codec: str = "mpeg4",
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    sound: np.ndarray | None = None,
    first_stamp: int = 0,
) -> Path:
    """A video of numbered pictures, with 48 kHz sound if given; of MP4, negative times hide frames by an edit list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate, options=options or {})
        video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, pixels, 4_000_000
        audio = None if sound is None else container.add_stream("aac", rate=48000, layout="mono")
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts = first_stamp + number
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None and sound is not None:
            container.mux(audio.encode(_block(sound.astype(np.float32)[None], "fltp")))
            container.mux(audio.encode())
    return path


def write_wav(path: Path, sound: np.ndarray) -> Path:
    """A 48 kHz WAV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        audio = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        container.mux(audio.encode(_block((sound * 32767).astype(np.int16)[None], "s16")))
        container.mux(audio.encode())
    return path


def write_images(folder: Path, frames: int, name: str = "frame_%010d.jpg", first: int = 1) -> Path:
    """A folder of numbered pictures as JPEG files; picture 0 has the number `first` in its name."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / name), "w", format="image2", options={"start_number": str(first)}) as container:
        images = container.add_stream("mjpeg", rate=25, options={"qmin": "2", "qmax": "2"})
        images.width, images.height, images.pix_fmt = WIDTH, HEIGHT, "yuvj444p"
        for number in range(frames):
            container.mux(images.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(images.encode())
    return folder


def _block(samples: np.ndarray, form: str) -> av.AudioFrame:
    block = av.AudioFrame.from_ndarray(samples, format=form, layout="mono")
    block.sample_rate, block.pts = 48000, 0
    return block
