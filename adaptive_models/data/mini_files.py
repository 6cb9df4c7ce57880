"""`mini` as files: encoded video with sound, in the folders and with the label files of EPIC-KITCHENS-55 or UCF-101."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import av
import numpy as np
import pandas as pd

from adaptive_models.data.mini import CLIPS, Mini
from adaptive_models.data.mini_scene import FPS, NOUNS, SECONDS, SIZE, SOURCE_FRAMES, VERBS, Scene
from adaptive_models.data.spectrogram import SAMPLE_RATE

Form = Literal["epic", "epic-frames", "ucf101"]
CLIPS_OF_VIDEO = 12
"""Actions in one video of the EPIC-KITCHENS forms."""
QUALITY = {"qmin": "2", "qmax": "2"}
"""Of FFmpeg's encoders, where 1 is best: what keeps the texture of single pixels."""


def write_mini(
    out: str | Path,
    form: Form = "epic",
    clips: int | None = None,
    seed: int = 0,
    advance: Callable[[str], None] = lambda name: None,
) -> None:
    """Write `mini` as the archives of a public data set lie on disk. The folder appears whole or not at all.

    - "epic": `videos/P01/P01_01.MP4`, each with up to 12 actions, and `EPIC_{train,val}_action_labels.csv`,
      `EPIC_{verb,noun}_classes.csv` with the columns of the official files.
    - "epic-frames": the same, and of each video `frames/P01/P01_01/frame_0000000001.jpg` and on.
    - "ucf101": `videos/CutBowlPlain/v_CutBowlPlain_g01_c01.avi`, and `classInd.txt`, `trainlist01.txt` and
      `testlist01.txt`; a class is a verb and a noun.

    Args:
        out: the folder to make; it may be there already, if it is empty.
        form: of which data set.
        clips: of each split, the first so many; all if not given.
        seed: of the data set (see `Mini`).
        advance: called with a name before each file.

    Raises:
        ValueError: an unknown form, a folder that holds something, or a number of clips below 1.
    """
    out = Path(out)
    if form not in get_args(Form):
        raise ValueError(f"unknown form {form!r}: use one of {', '.join(get_args(Form))}")
    splits = {split: Mini(split, clips, seed) for split in CLIPS}
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is there already, and is not an empty folder")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        if form == "ucf101":
            _write_ucf101(partial, splits, advance)
        else:
            _write_epic(partial, splits, form == "epic-frames", advance)
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def files_to_write(form: Form, clips: int | None = None) -> int:
    """How many videos `write_mini` writes."""
    counts = [min(clips or count, count) for count in CLIPS.values()]
    return sum(counts) if form == "ucf101" else sum(-(-count // CLIPS_OF_VIDEO) for count in counts)


# --- EPIC-KITCHENS-55 ---


def _write_epic(out: Path, splits: dict[str, Mini], frames: bool, advance: Callable[[str], None]) -> None:
    for kind, names in (("verb", VERBS), ("noun", NOUNS)):
        classes = pd.DataFrame({"class_key": names, f"{kind}s": [str([name]) for name in names]})
        classes.to_csv(out / f"EPIC_{kind}_classes.csv", index_label=f"{kind}_id")
    uid = 0
    for participant, (split, data) in enumerate(splits.items(), start=1):
        rows = []
        clips = iter(data.clips)
        for number in range(1, -(-len(data.clips) // CLIPS_OF_VIDEO) + 1):
            video = f"P{participant:02d}_{number:02d}"
            advance(video)
            chosen = list(islice(clips, CLIPS_OF_VIDEO))
            scenes = [data.scene(clip) for clip in chosen]
            folder = out / "videos" / video[:3]
            _write_video(folder / f"{video}.MP4", scenes, "mp4", "aac")
            if frames:
                _write_frames(out / "frames" / video[:3] / video, scenes)
            for position, clip in enumerate(chosen):
                rows.append(_epic_row(uid, video, position, *clip.labels))
                uid += 1
        pd.DataFrame(rows).to_csv(out / f"EPIC_{split}_action_labels.csv", index=False)


def _epic_row(uid: int, video: str, position: int, verb: int, noun: int) -> dict[str, object]:
    """One line of a label file: the action that is `position`-th in its video; frames count from 1."""
    return {
        "uid": uid,
        "participant_id": video[:3],
        "video_id": video,
        "narration": f"{VERBS[verb]} {NOUNS[noun]}",
        "start_timestamp": _timestamp(position * SECONDS),
        "stop_timestamp": _timestamp((position + 1) * SECONDS),
        "start_frame": position * SOURCE_FRAMES + 1,
        "stop_frame": (position + 1) * SOURCE_FRAMES + 1,  # exclusive, as in the official files
        "verb": VERBS[verb],
        "verb_class": verb,
        "noun": NOUNS[noun],
        "noun_class": noun,
        "all_nouns": str([NOUNS[noun]]),
        "all_noun_classes": str([noun]),
    }


def _timestamp(seconds: float) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:05.2f}"


# --- UCF-101 ---


def _write_ucf101(out: Path, splits: dict[str, Mini], advance: Callable[[str], None]) -> None:
    pairs = [(verb, noun) for verb in VERBS for noun in NOUNS]
    names = sorted(_class_name(verb, noun) for verb, noun in pairs)
    (out / "classInd.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(names, start=1)))
    first_group = 1
    for split, data in reversed(splits.items()):  # as in the original, the first groups are for testing
        lines = []
        for number, clip in enumerate(data.clips):
            verb, noun = clip.labels
            name = _class_name(VERBS[verb], NOUNS[noun])
            group = first_group + number // len(pairs)
            path = f"{name}/v_{name}_g{group:02d}_c01.avi"
            advance(path)
            _write_video(out / "videos" / path, [data.scene(clip)], "avi", "pcm_s16le")
            lines.append(f"{path} {names.index(name) + 1}\n" if split == "train" else f"{path}\n")
        first_group += -(-len(data.clips) // len(pairs))
        list_name = "trainlist01.txt" if split == "train" else "testlist01.txt"
        (out / list_name).write_text("".join(lines))


def _class_name(verb: str, noun: str) -> str:
    return "".join(word.capitalize() for word in (verb, *noun.split(":")))


# --- pictures and sound ---


def _write_video(path: Path, scenes: Sequence[Scene], container_format: str, audio_codec: str) -> None:
    """Write scenes one after the other as one video with sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container_format) as container:
        video = container.add_stream("mpeg4", rate=FPS, options=QUALITY)
        video.width, video.height, video.pix_fmt, video.bit_rate = SIZE, SIZE, "yuv420p", 20_000_000
        audio = container.add_stream(audio_codec, rate=SAMPLE_RATE, layout="mono", bit_rate=96_000)
        for number, scene in enumerate(scenes):
            for index in range(SOURCE_FRAMES):
                container.mux(video.encode(av.VideoFrame.from_ndarray(scene.picture(index), format="rgb24")))
            samples = (scene.sound * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, number * len(samples)
            container.mux(audio.encode(frame))
        container.mux(video.encode())
        container.mux(audio.encode())


def _write_frames(folder: Path, scenes: Sequence[Scene]) -> None:
    """Write scenes one after the other as JPEG files that count from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / "frame_%010d.jpg"), "w", format="image2") as container:
        images = container.add_stream("mjpeg", rate=FPS, options=QUALITY)
        images.width, images.height, images.pix_fmt = SIZE, SIZE, "yuvj444p"
        for scene in scenes:
            for index in range(SOURCE_FRAMES):
                container.mux(images.encode(av.VideoFrame.from_ndarray(scene.picture(index), format="rgb24")))
        container.mux(images.encode())
