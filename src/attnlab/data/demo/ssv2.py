"""Moving digits, written as the files of Something-Something-V2."""

import io
import json
from pathlib import Path
from typing import Any, Literal, get_args

import av
import numpy as np
from jaxtyping import Integer, UInt8

from attnlab.data.motion import TEMPLATES, compose_motion
from attnlab.data.sources import SPLITS, Split, load_scans, load_textures
from attnlab.files import write_atomically

Naming = Literal["new", "old"]

RATE = 12
"""Frames per second, as in the real data."""

_SIDE = 48  # of the composed clips, which are enlarged; validation's photographs have 62 pixels
_SCANS = 64  # digits that a split's videos show: fewer than there are, which saves seconds
_PLACEHOLDERS = ("a digit", "a picture")  # what the templates' [something] stands for
_PART: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}


def write(
    directory: Path,
    seed: int = 0,
    train: int = 64,
    val: int = 16,
    test: int = 8,
    frames: int = 16,
    height: int = 48,
    width: int = 64,
    naming: Naming = "new",
) -> None:
    """Write a small Something-Something-V2 of eight classes as it is distributed, unpacked.

    The videos are VP9 at 12 frames per second; see `compose_motion` for what they show. All splits
    have digits and backgrounds of their own.

    Args:
        directory: Root to write to; made if missing.
        seed: Determines all videos.
        train: Training videos.
        val: Videos of the official validation set.
        test: Videos of the official test set.
        frames: Frames of a video.
        height: Height in pixels; 240 in the real data.
        width: Width, at least `height`; 427 in most of the real data.
        naming: Where the annotations are: ``new``, in ``labels/``, with the answers of the test
            set; ``old``, in ``something-something-v2-*.json``.

    Raises:
        ValueError: A size is out of range, or `naming` is unknown.
        OSError: The files cannot be written.
    """
    if naming not in get_args(Naming):
        raise ValueError(f"{naming=} must be one of {', '.join(get_args(Naming))}")
    sizes: dict[Split, int] = {"train": train, "val": val, "test": test}
    _check_sizes(sizes, height, width)
    ids = np.random.default_rng([seed, len(SPLITS)]).permutation(sum(sizes.values())) + 1
    records: dict[Split, list[dict[str, Any]]] = {}
    for split, own in zip(SPLITS, np.split(ids, np.cumsum(list(sizes.values())))[:-1], strict=True):
        rng = np.random.default_rng([seed, SPLITS.index(split)])
        scans, textures = load_scans(split, data_seed=0)[0], load_textures(split)
        scans = scans[rng.permutation(len(scans))[:_SCANS]]
        clips, labels = compose_motion(rng, scans, textures, len(own), frames, _SIDE)
        for name, clip in zip(own, clips[:, :, 0], strict=True):
            content = encode_webm(_framed(clip, height, width))
            write_atomically(directory / f"20bn-something-something-v2/{name}.webm", content)
        records[split] = [_record(*pair) for pair in zip(own.tolist(), labels, strict=True)]
    _write_annotations(directory, records, naming)


def _check_sizes(sizes: dict[Split, int], height: int, width: int) -> None:
    for split, size in sizes.items():
        if size < 1:
            raise ValueError(f"{split}={size} must be at least 1")
    if not 16 <= height <= width:
        raise ValueError(f"{height=} must be at least 16, and {width=} at least that")


def encode_webm(frames: UInt8[np.ndarray, "frames height width 3"]) -> bytes:
    """Encode frames as the real data are: VP9 at 12 per second, with one key frame.

    The same frames give the same bytes.
    """
    content = io.BytesIO()
    options = {"fflags": "+bitexact"}  # no random identifier
    with av.open(content, "w", format="webm", container_options=options) as container:
        stream = container.add_stream("libvpx-vp9", rate=RATE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = len(frames)
        stream.options = {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"}
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return content.getvalue()


def _framed(
    clip: UInt8[np.ndarray, "frames side side"], height: int, width: int
) -> UInt8[np.ndarray, "frames {height} {width} 3"]:
    """Enlarge a clip to a height and continue it to both sides by its outermost pixels."""
    rows = np.arange(height) * clip.shape[1] // height
    columns = np.clip((np.arange(width) - (width - height) // 2), 0, height - 1)
    enlarged = clip[:, rows[:, None], rows[columns]]
    return np.ascontiguousarray(np.broadcast_to(enlarged[..., None], (*enlarged.shape, 3)))


def _record(name: int, label: Integer[np.generic, ""]) -> dict[str, Any]:
    """Return the annotation of a training or validation video."""
    template = TEMPLATES[int(label)]
    placeholders = list(_PLACEHOLDERS[: template.count("[")])
    text = template
    for placeholder in placeholders:
        text = text.replace("[something]", placeholder, 1)
    return {
        "id": str(name),
        "label": text.lower(),
        "template": template,
        "placeholders": placeholders,
    }


def _write_annotations(
    directory: Path, records: dict[Split, list[dict[str, Any]]], naming: Naming
) -> None:
    pattern = "labels/{}.json" if naming == "new" else "something-something-v2-{}.json"
    plain = [template.replace("[", "").replace("]", "") for template in TEMPLATES]
    contents: dict[str, Any] = {
        # In an order of its own, as in the real file: only the numbers count.
        "labels": {template: str(plain.index(template)) for template in sorted(plain)[::-1]},
        **{_PART[split]: records[split] for split in ("train", "val")},
        "test": [{"id": record["id"]} for record in records["test"]],
    }
    for part, content in contents.items():
        write_atomically(directory / pattern.format(part), json.dumps(content, indent=1))
    if naming == "new":
        answers = (
            f"{record['id']};{record['template'].replace('[', '').replace(']', '')}\n"
            for record in records["test"]
        )
        write_atomically(directory / "labels/test-answers.csv", "".join(answers))
