"""Named networks on clips."""

import pytest
import torch

from attnlab.models.video import lisa_vit_tiny_video, qna_vit_tiny_video


@pytest.mark.parametrize("build", [lisa_vit_tiny_video, qna_vit_tiny_video])
@pytest.mark.parametrize("video_mode", ["tsn", "tsm", "tubelet3d", "divided"])
def test_modes_differ_in_whether_they_see_the_order_of_frames(build, video_mode):
    torch.manual_seed(0)
    net = build(video_mode=video_mode, frames=4, image_size=32).eval()
    clips = torch.randn(1, 4, 3, 32, 32)
    with torch.no_grad():
        for parameter in net.parameters():  # at first what is inflated does not know the time
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
        change = (net(clips) - net(clips.flip(1))).abs().max()
    if video_mode == "tsn":
        assert change < 1e-4
    else:
        assert change > 1e-3
