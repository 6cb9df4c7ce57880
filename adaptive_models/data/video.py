"""The frames of a video file, or of a part of it, by number: each is decoded only when it is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from math import inf
from pathlib import Path

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from adaptive_models.data.media import ClipError, add_note, decoded, open_media, origin, packets, packets_from

UNTIMED = ("avi",)
"""Formats that store no presentation times; what FFmpeg makes up for B-frames is not what decoding gives."""
ROUNDING = 2e-3
"""Seconds by which times that are meant to be equal may differ: Matroska and others round to milliseconds."""


class VideoFrames:
    """Frames of a video in order of presentation.

    A frame is known by its presentation time, so that decoding can start at the last keyframe before it: what lies
    before that keyframe is never decoded, nor read when only a segment is wanted. Where a file has no such times, as in
    AVI, frames are counted from its start.

    Args:
        path: the file.
        segment: start and stop in seconds from the start of the file, for the frames that end after the start, up to
            the stop: from the one that is shown at the start to the one before that shown at the stop. All if None.
        notes: where to say what is missing.

    Attributes:
        times: presentation time of each frame, in seconds from the start of the file.
        fps: average frames per second.
        size: width and height in pixels.

    Raises:
        ClipError: if there is no such file, no video in it, or no frame in the segment.
    """

    def __init__(self, path: Path, segment: tuple[float, float] | None, notes: list[str]) -> None:
        self._path, self._notes = path, notes
        self._container, self._stream = self._open()
        self._keys: list[int] = []  # what frames are known by: times in units of the stream, or numbers
        self._keyframes: list[int] = []  # those at which decoding can start
        self._entry: int | None = None  # where to start in the end; the start of the file if None
        self._key: int | None = None  # of the current frame
        self._frame: VideoFrame
        self._next: tuple[int, VideoFrame] | None = None  # decoded beyond the current frame
        try:
            # 25 is what FFmpeg assumes of a stream that does not tell its rate.
            self.fps = float(self._stream.average_rate or self._stream.guessed_rate or 25)
            self.size = (self._stream.width, self._stream.height)
            self._inspect(segment)
        except ClipError:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, number: int) -> VideoFrame:
        """The frame, or the last before it that can be decoded; ClipError if there is none."""
        wanted = self._keys[number]
        self._go_to(wanted)
        if self._key != wanted and self._keyframes:
            self._keyframes = []
            self._restart(self._entry)
            self._go_to(wanted)
        if self._key is None:
            raise ClipError(f"{self._path}: no frame of its video can be decoded")
        if self._key != wanted:
            self._note_stand_in(number)
        return self._frame

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _open(self) -> tuple[InputContainer, VideoStream]:
        container = open_media(self._path)
        if not container.streams.video:
            container.close()
            raise ClipError(f"{self._path}: has no video stream")
        return container, container.streams.video[0]

    def _reopen(self) -> None:
        """Go to the start of the file: not every format can seek."""
        self.close()
        self._container, self._stream = self._open()

    # --- which frames there are ---

    def _inspect(self, segment: tuple[float, float] | None) -> None:
        """Read the packets, which tell the frames.

        The count in the header may be missing, may promise frames that a truncated file does not hold, and includes
        frames that an edit list hides.
        """
        if self._container.format.name in UNTIMED or not self._know_by_time(segment):
            self._know_by_number()
        if not self._keys:
            raise ClipError(f"{self._path}: its video stream holds no frames")
        if segment is not None:
            self._cut(*segment)
        elif len(self) < self._stream.frames:
            add_note(
                self._notes,
                f"the header promises {self._stream.frames} frames, the file shows {len(self)} "
                "(cut short, or trimmed without encoding anew): the clip is sampled from those",
            )

    def _know_by_time(self, segment: tuple[float, float] | None) -> bool:
        """Make presentation times the keys, in units of the stream's time base; False if some are missing."""
        if self._stream.time_base is None:
            return False
        following: Iterable[Packet]
        if segment is None:
            following, end = packets(self._container, self._stream, self._notes), inf
        else:
            following = packets_from(self._container, self._stream, segment[0] - 1 / self.fps, self._notes)
            end = (segment[1] + origin(self._container)) / self._stream.time_base
        shown = []
        for packet in following:
            if packet.dts is not None and packet.dts > end:
                break  # all that follows is decoded later, hence shown later
            if packet.size and not packet.is_discard:
                shown.append((packet.pts, packet.is_keyframe))
        keys = {key for key, _ in shown if key is not None}
        if len(keys) < len(shown):
            return False
        self._numbered = False
        self._keys = sorted(keys)
        self._keyframes = sorted(key for key, is_keyframe in shown if is_keyframe and key is not None)
        self.times = [float(key * self._stream.time_base) - origin(self._container) for key in self._keys]
        return True

    def _know_by_number(self) -> None:
        """Make numbers from the start of the file the keys."""
        self._reopen()
        following = packets(self._container, self._stream, self._notes)
        count = sum(1 for packet in following if packet.size and not packet.is_discard)
        self._numbered, self._keys, self._keyframes = True, list(range(count)), []
        self.times = [key / self.fps for key in self._keys]

    def _cut(self, start: float, stop: float) -> None:
        """Keep the frames of the segment; decoding may still start at keyframes before it."""
        duration = 1 / self.fps
        inside = [
            number
            for number, time in enumerate(self.times)
            if time + duration > start + ROUNDING and time + duration <= stop + ROUNDING
        ]
        if not inside:
            raise ClipError(f"{self._path}: shows no frame between {start:.2f} s and {stop:.2f} s")
        self._keys = [self._keys[number] for number in inside]
        self.times = [self.times[number] for number in inside]
        if self._keyframes and self._keyframes[0] <= self._keys[0]:
            self._entry = self._keyframes[0]
        if self.times[-1] + 2.5 * duration < stop:
            add_note(
                self._notes, f"the video ends at {self.times[-1] + duration:.2f} s, before the segment's {stop:.2f} s"
            )

    # --- decoding ---

    def _restart(self, keyframe: int | None) -> None:
        """Make ready to decode from a keyframe, or from the start of the file."""
        following: Iterable[Packet]
        if keyframe is None:
            self._reopen()
            following = packets(self._container, self._stream, self._notes)
        else:
            assert self._stream.time_base is not None
            time = float(keyframe * self._stream.time_base) - origin(self._container)
            following = packets_from(self._container, self._stream, time, self._notes)
        frames = decoded(following, "video", self._notes)
        self._decoder = (
            enumerate(frames) if self._numbered else ((frame.pts, frame) for frame in frames if frame.pts is not None)
        )
        self._key = self._next = None

    def _go_to(self, wanted: int) -> None:
        """Decode until the wanted frame is the current one, or no later one can be before it."""
        before = bisect_right(self._keyframes, wanted)
        keyframe = self._keyframes[before - 1] if before else self._entry
        if self._key is None or wanted < self._key or (keyframe is not None and keyframe > self._key):
            self._restart(keyframe)
        while self._key is None or self._key < wanted:
            self._next = self._next or next(self._decoder, None)
            if self._next is None or (self._key is not None and self._next[0] > wanted):
                return
            (self._key, self._frame), self._next = self._next, None

    def _note_stand_in(self, number: int) -> None:
        current = bisect_right(self._keys, self._key or 0) - 1
        if self._next is None and current >= 0:
            add_note(
                self._notes,
                f"only {current + 1} of {len(self)} frames can be decoded: "
                f"frame {current} stands for those from {current + 1} on",
            )
        else:
            add_note(self._notes, f"frame {number} cannot be decoded: the nearest that can be stands for it")
