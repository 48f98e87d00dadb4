"""Something-Something-V2 (Goyal et al. 2017), as downloaded or as frames extracted from it."""

from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Int64
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from attnlab.data.exclude import kept
from attnlab.data.held_out import SelectOn, check_selection, hold_out
from attnlab.data.loading import StreamedDataModule
from attnlab.data.sources import Split
from attnlab.data.streamed import Part, SampleTransform, StreamedDataset
from attnlab.data.transforms.evaluate import EvalTransform
from attnlab.data.transforms.train import TrainTransform
from attnlab.data.video.annotations import (
    Labelled,
    Published,
    match_videos,
    read_annotations,
    require_unpacked,
)
from attnlab.data.video.clips import Clips, TrainClips, ViewClips, mirrored_classes
from attnlab.data.video.frames import FrameFolderReader, FrameTarReader
from attnlab.data.video.readers import FrameReader, PyAVReader
from attnlab.data.video.sampling import Sampling, sampling_rule

Flip = Literal["off", "on", "swap_labels"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HELD_OUT = 20  # one training video in so many is for validation
_SPLIT_SEED = 0  # the held-out videos are the same in every run
_CENTRE_CROP, _SIDE_CROPS = 0.875, 1.0  # side of a crop over the short side: 224 of 256, or all


class Index(NamedTuple):
    """What is below a root.

    Attributes:
        reader: What reads the videos.
        classes: Template of each class.
        parts: Addresses and classes of the training and the official validation videos.
        note: What does not match, if it is little enough to go on.
    """

    reader: FrameReader
    classes: list[str]
    parts: dict[Published, Labelled]
    note: str | None


class SomethingV2(StreamedDataModule):
    """Clips [T, 3, size, size] of Something-Something-V2 in either naming of its annotations.

    The videos may be the webm files, folders of JPEG frames or the tars that
    ``python -m attnlab prepare ssv2`` writes. The test set is the official validation set, as in
    all published results; validation videos are a part of the training set, the same whatever the
    seed of the run, unless `select_on` is ``official``.

    Args:
        root: Directory of the videos and the annotations.
        batch_size: Clips per batch and process.
        num_classes: Number of classes; the annotations must agree.
        frames: Frames of a clip.
        sampling: Which frames: a name from `attnlab.data.video.sampling`.
        reader: What finds and reads the videos; told from what is below `root` when None.
        train_transform: What training sees of a clip, with a `size`, which is that of
            `input_shape`; `TrainTransform` when None. It must not mirror.
        test_views: Clips, and crops of each, of a test video, which is [V, T, 3, size, size] if
            there is more than one view: one crop after another, each with all clips.
        flip: Whether training mirrors half of the clips: ``off``; ``on``; or ``swap_labels``, which
            gives them the class of the other direction where the class names one.
        select_on: ``held_out``, or ``official``: train on the whole training set and validate on
            the test set.
        val_size: Videos held out for validation, a share of every class; a twentieth of the
            training set when None.
        exclude: File with the names of videos to leave out, one per line.
        options: `num_workers`, `on_error`, `batch_transforms` and `repeats`, see
            `StreamedDataModule`. Repetitions of a video show the same frames, cropped anew.

    Raises:
        ValueError: An argument is out of range or unknown.
    """

    def __init__(
        self,
        root: str | PathLike[str],
        batch_size: int = 16,
        num_classes: int = 174,
        frames: int = 16,
        sampling: Sampling = "pyslowfast",
        reader: FrameReader | None = None,
        train_transform: SampleTransform | None = None,
        test_views: tuple[int, int] = (1, 1),
        flip: Flip = "off",
        select_on: SelectOn = "held_out",
        val_size: int | None = None,
        exclude: str | PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(MEAN, STD, batch_size=batch_size, **options)
        if num_classes < 2 or frames < 1:
            raise ValueError(f"{num_classes=} must be at least 2, and {frames=} 1")
        if len(test_views) != 2 or min(test_views) < 1:
            raise ValueError(f"{test_views=} must be two positive numbers, of clips and of crops")
        check_selection(select_on, val_size)
        if flip not in get_args(Flip):
            raise ValueError(f"{flip=} must be one of {', '.join(get_args(Flip))}")
        transform = TrainTransform(flip=0) if train_transform is None else train_transform
        size = getattr(transform, "size", None)
        if not isinstance(size, int):
            raise ValueError(f"{train_transform=} must have a size, in pixels")
        if getattr(transform, "flip", 0):
            raise ValueError(f"train_transform must not mirror (its flip: 0): only {flip=} decides")
        self.root = Path(root).expanduser()
        self.num_classes = num_classes
        self.input_shape = (frames, 3, size, size)
        self.rule = sampling_rule(sampling)
        self.reader = reader
        self.train_transform = transform
        self.test_views = tuple(test_views)
        self.flip: Flip = flip
        self.select_on: SelectOn = select_on
        self.val_size = val_size
        self.exclude = None if exclude is None else Path(exclude).expanduser()
        self._index: Index | None = None

    @property
    def index(self) -> Index:
        """All annotated videos that there are.

        Raises:
            FileNotFoundError: Videos or annotations are missing.
            ValueError: The annotations are damaged or contradict themselves or `num_classes`.
        """
        if self._index is None:
            self._index = read_index(self.root, self.num_classes, self.reader)
        return self._index

    def setup(self, stage: str) -> None:
        """Show what was found and open the splits that `stage` needs."""
        if not self.datasets:
            train, official = (len(part.ids) for part in self.index.parts.values())
            rank_zero_info(
                f"{self.root}: {type(self.index.reader).__name__}; {self.num_classes} classes, "
                f"{train:,} training and {official:,} validation videos"
            )
            for note in self.notes():
                rank_zero_warn(note)
        super().setup(stage)

    def open_split(self, split: Split) -> StreamedDataset:
        """Return the videos of a split."""
        official = split == "test" or (split == "val" and self.select_on == "official")
        clips = {"train": None, "val": 1, "test": self.test_views[0]}[split]
        videos = self.index.parts["validation" if official else "train"]
        frames = self.input_shape[0]
        source = Clips(self.index.reader, self.root, videos, self.rule, frames, clips)
        part = Part(source, self._chosen(source, split, official))
        seed = torch.initial_seed()
        if clips is None:
            mirrored = None
            if self.flip != "off":
                swap, classes = self.flip == "swap_labels", self.index.classes
                mirrored = mirrored_classes(classes) if swap else np.arange(len(classes))
            return TrainClips(part, self.train_transform, seed, self.on_error, mirrored)
        crops = self.test_views[1] if split == "test" else 1
        ratio = _CENTRE_CROP if crops == 1 else _SIDE_CROPS
        transform = EvalTransform(self.input_shape[-1], ratio, crops)
        return ViewClips(part, transform, seed, self.on_error, clips * crops)

    def _chosen(self, source: Clips, split: Split, official: bool) -> Int64[np.ndarray, " kept"]:
        """Return which videos of a published set belong to a split."""
        chosen = np.arange(len(source))
        if not official and self.select_on == "held_out":
            size = self.val_size or max(1, len(source) // _HELD_OUT)
            chosen = hold_out(source.labels, size, _SPLIT_SEED)[split == "val"]
        if self.exclude is not None:  # afterwards: what is left out moves no other video
            chosen = np.intersect1d(chosen, kept(source.names(), self.exclude))
        return chosen

    def notes(self) -> list[str]:
        """Return what is odd about the data set as a whole, for `validate-data`."""
        return [] if self.index.note is None else [self.index.note]


def read_index(root: Path, num_classes: int, reader: FrameReader | None) -> Index:
    """Read the annotations and list the videos, without reading any.

    Raises:
        FileNotFoundError: Videos or annotations are missing.
        ValueError: The annotations are damaged or contradict themselves or `num_classes`.
    """
    annotations = read_annotations(root, num_classes)
    # Tars are the fastest to read; webm files are the original.
    tried = [FrameTarReader(), PyAVReader(), FrameFolderReader()] if reader is None else [reader]
    for used in tried:
        found = used.find(root)
        if found:
            break
    else:
        require_unpacked(root)
    missing, note = match_videos(annotations, found, root)
    parts: dict[Published, Labelled] = {}
    for name, part in annotations.parts.items():
        there = np.array([video not in missing for video in part.ids], bool)
        addresses = [found[video] for video in part.ids if video not in missing]
        parts[name] = Labelled(addresses, part.labels[there])
    return Index(used, annotations.classes, parts, note)
