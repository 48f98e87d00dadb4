"""Clips of videos as samples: which frames, their views, and what mirroring does to a class."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from attnlab.data.keys import SampleKey, sample_seed
from attnlab.data.streamed import OnError, SampleTransform, Source, StreamedDataset
from attnlab.data.video.annotations import Labelled
from attnlab.data.video.readers import FrameReader, Frames
from attnlab.data.video.sampling import SamplingRule


class Clips:
    """Some videos, of which a few frames are read: a `Source`.

    Args:
        reader: What reads them.
        root: Directory of the data set.
        videos: Addresses of the videos for the reader, and their classes.
        rule: Which frames to take.
        frames: How many.
        clips: In how many ways; None to draw one at random, for training.
    """

    def __init__(
        self,
        reader: FrameReader,
        root: Path,
        videos: Labelled,
        rule: SamplingRule,
        frames: int,
        clips: int | None,
    ) -> None:
        # One array: workers that count references to strings would copy the parent's memory.
        below = os.path.join(root, "")
        self._names = np.array([os.fsencode(name.removeprefix(below)) for name in videos.ids])
        self.root = os.fspath(root)
        self.reader = reader
        self.labels = videos.labels
        self.rule = rule
        self.frames = frames
        self.clips = clips

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return the video's address, from the root on."""
        return os.fsdecode(self._names[index])

    def names(self) -> Iterator[str]:
        """Yield the names of all videos, in order."""
        return (os.fsdecode(name) for name in self._names.tolist())

    def read(self, index: int, rng: np.random.Generator) -> Frames:
        """Return the frames of a clip, or of all clips one after another."""

        def choose(count: int) -> Int64[np.ndarray, " frames"]:
            if self.clips is None:
                return self.rule(count, self.frames, rng)
            views = range(self.clips)
            return np.concatenate(
                [self.rule(count, self.frames, None, view, len(views)) for view in views]
            )

        return self.reader.clip(os.path.join(self.root, self.name(index)), choose)

    def check(self, index: int) -> str | None:
        """Decode the whole video and return what is wrong with it, or None."""
        return self.reader.check(os.path.join(self.root, self.name(index)))


class TrainClips(StreamedDataset):
    """Training clips. Repetitions of a video show the same frames, each cropped anew.

    As in PySlowFast, UniFormer and VideoMAE: those that follow one another are decoded once.

    Args:
        source: Where the frames come from.
        transform: What the network sees of them; it must not mirror.
        seed: Seed of the run.
        on_error: What happens at an unreadable video.
        mirrored: The class of each class's mirror image; None to mirror nothing.
    """

    def __init__(
        self,
        source: Source,
        transform: SampleTransform,
        seed: int,
        on_error: OnError,
        mirrored: Int64[np.ndarray, " classes"] | None,
    ) -> None:
        super().__init__(source, transform, seed, on_error, still=False)
        self.mirrored = mirrored
        self._latest: tuple[tuple[int, int], Frames] | None = None

    def load(self, key: SampleKey, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Return a clip [T, 3, H, W] and its label; see `StreamedDataset`."""
        clip = self.transform(self._frames(key), rng)
        label = int(self.source.labels[key.sample])
        if self.mirrored is not None and rng.random() < 0.5:
            clip, label = clip.flip(-1), int(self.mirrored[label])
        return clip, label

    def _frames(self, key: SampleKey) -> Frames:
        use = key.epoch, key.sample
        if key.repeat == 0 or self._latest is None or self._latest[0] != use:
            # A stream apart from the transform's: repeat -1 is nobody's.
            seed = sample_seed(self.seed, SampleKey(*use, repeat=-1))
            rng = np.random.Generator(np.random.Philox(key=seed))
            frames = self.source.read(key.sample, rng)
            frames.flags.writeable = False  # the next repetition needs them as they are
            self._latest = use, frames
        return self._latest[1]


class ViewClips(StreamedDataset):
    """Evaluation clips, in several views.

    Args:
        source: Where the frames come from.
        transform: Its crops.
        seed: Seed of the run.
        on_error: What happens at an unreadable video.
        views: Clips times crops.
    """

    def __init__(
        self, source: Source, transform: SampleTransform, seed: int, on_error: OnError, views: int
    ) -> None:
        super().__init__(source, transform, seed, on_error, still=False)
        self.views = views

    def load(self, key: SampleKey, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Return the views [V, T, 3, H, W], or a single one [T, 3, H, W], and the label."""
        frames, label = super().load(key, rng)
        if self.views > 1:
            frames = frames.view(self.views, -1, *frames.shape[1:])
        return frames, label


def mirrored_classes(classes: Sequence[str]) -> Int64[np.ndarray, " classes"]:
    """Return the class of each class's mirror image: "left" and "right" change places.

    Raises:
        ValueError: A template that names a side has no counterpart.
    """
    index = {template: number for number, template in enumerate(classes)}
    swapped = {"left": "right", "right": "left"}
    partners = np.arange(len(classes))
    for template, number in index.items():
        partner = " ".join(swapped.get(word, word) for word in template.split(" "))
        if partner not in index:
            raise ValueError(f"flip='swap_labels': no class is the mirror image of {template!r}")
        partners[number] = index[partner]
    return partners
