"""Checkpoints of tasks as starting points for other networks."""

from pathlib import Path

import pytest
import torch

from attnlab.backbones.lisa_vit import LisaViT
from attnlab.backbones.video import VideoBackbone
from attnlab.backbones.weights import load_backbone
from attnlab.operators.lisa import LiSA
from attnlab.tasks.classification import ClassificationTask


def network(width: int = 8) -> LisaViT:
    return LisaViT(LiSA, 12, 4, 1, width, 1, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    task = ClassificationTask(network(), 5)
    state = {"state_dict": task.state_dict(), "epoch": 3, "hyper_parameters": {"width": 8}}
    torch.save(state, tmp_path / "image.ckpt")
    return tmp_path / "image.ckpt"


@pytest.mark.parametrize("mode", ["tsn", "tubelet3d"])
def test_clips_start_from_weights_learnt_on_images(path: Path, mode: str) -> None:
    trained = ClassificationTask(network(), 5)
    trained.load_state_dict(torch.load(path)["state_dict"])
    image = torch.randn(2, 1, 12, 12)
    converted = VideoBackbone(network(), mode, frames=4, weights=str(path))
    clip = image.unsqueeze(1).expand(-1, 4, -1, -1, -1)
    torch.testing.assert_close(converted(clip), trained.classifier.backbone(image))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"weights='.*none.ckpt' is not there"):
        load_backbone(network(), str(tmp_path / "none.ckpt"))


def test_an_empty_name_asks_for_no_weights() -> None:
    torch.manual_seed(5)
    converted = VideoBackbone(network(), "tsn", weights="")
    torch.manual_seed(5)
    expected = VideoBackbone(network(), "tsn").state_dict()
    torch.testing.assert_close(converted.state_dict(), expected, rtol=0, atol=0)


class Evil:
    """Runs a command where a pickle is executed."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_what_is_no_checkpoint_is_refused_and_not_executed(tmp_path: Path, path: Path) -> None:
    mark = tmp_path / "executed"
    contents = [{"state_dict": Evil(mark)}, {"weights": 3}, torch.zeros(3)]
    paths = [tmp_path / f"{i}.ckpt" for i in range(len(contents) + 3)]
    for content, file in zip(contents, paths, strict=False):
        torch.save(content, file)
    paths[-3].write_bytes(b"")
    paths[-2].write_bytes(path.read_bytes()[:999])
    paths[-1].write_bytes(b"<html>not found</html>")
    for file in paths:
        with pytest.raises(ValueError, match=rf"weights='.*{file.name}' is not a checkpoint"):
            load_backbone(network(), str(file))
    assert not mark.exists()


def test_another_network_is_named_and_nothing_is_loaded(path: Path) -> None:
    other = network(width=16)
    before = [parameter.clone() for parameter in other.parameters()]
    with pytest.raises(ValueError, match=r"another network than LisaViT .* \(8, 1, 4, 4\) there"):
        load_backbone(other, str(path))
    assert all(map(torch.equal, before, other.parameters()))
    deeper = LisaViT(LiSA, 12, 4, 1, 8, 2, 2)
    with pytest.raises(ValueError, match=r"blocks.1.* is missing there"):
        load_backbone(deeper, str(path))
