"""Reading media files with PyAV: what is damaged is noted, and what is left is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

STEPS_BACK = (0, 1, 10)
"""Seconds before the time wanted at which to look for a place to start, one after the other."""
FAR = 10**9
"""Microseconds before zero: before every file's first packet."""


class ClipError(ValueError):
    """A file that cannot serve as a clip; the message is one line that names the file."""


def add_note(notes: list[str], text: str) -> None:
    """Note what was put in place of missing material, once."""
    if text not in notes:
        notes.append(text)


def open_media(path: Path) -> InputContainer:
    """Open a file with video or sound.

    Raises:
        ClipError: there is no such file, or FFmpeg cannot read it.
    """
    if not path.is_file():
        raise ClipError(f"{path}: no such file")
    try:
        return av.open(str(path), metadata_errors="ignore")
    except av.FFmpegError as error:
        raise ClipError(f"{path}: cannot be read as a video ({error.strerror})") from None


def origin(container: InputContainer) -> float:
    """The time at which the file starts, in seconds; broadcasts do not start at zero."""
    return (container.start_time or 0) / av.time_base


def packets(container: InputContainer, stream: VideoStream | AudioStream, notes: list[str]) -> Iterator[Packet]:
    """The packets of a stream from where the file stands, as far as they can be read."""
    try:
        # PyAV slips after the last packet if more streams appeared on the way.
        with suppress(IndexError):
            yield from container.demux(stream)
    except av.FFmpegError as error:
        add_note(notes, f"the {stream.type} stream cannot be read to its end ({error.strerror})")


def packets_from(
    container: InputContainer, stream: VideoStream | AudioStream, time: float, notes: list[str]
) -> Iterator[Packet]:
    """The packets of a stream from the last keyframe at a time or before it, or else from the first.

    Args:
        container: the file.
        stream: one of its streams.
        time: in seconds from the start of the file.
        notes: where to say what cannot be read.
    """
    unit = stream.time_base
    if unit is not None:
        moment = round((time + origin(container)) / unit)
        for seconds in STEPS_BACK:
            with suppress(av.FFmpegError):
                container.seek(moment - round(seconds / unit), stream=stream)
                following = packets(container, stream, notes)
                first = next(following, None)
                # Formats that keep only the decoding times of keyframes may land behind the moment.
                if first is not None and first.is_keyframe and first.pts is not None and first.pts <= moment:
                    return chain([first], following)
    with suppress(av.FFmpegError):
        container.seek(-FAR, backward=False)
    return packets(container, stream, notes)


def decoded(following: Iterable[Packet], kind: str, notes: list[str]) -> Iterator[Any]:
    """The frames that the packets hold, in order of presentation, without those that cannot be decoded."""
    for packet in following:
        try:
            yield from packet.decode()
        except av.FFmpegError as error:
            add_note(notes, f"parts of the {kind} stream cannot be decoded: left out ({error.strerror})")
