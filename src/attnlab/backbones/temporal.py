"""Parts that turn a network on images into one on clips, tokens being [B, T, H, W, C]."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.blocks import Block, DropPath, PatchEmbed
from attnlab.operators.base import Grid, TokenMixer


class TubeletEmbed(nn.Module):
    """Linear embedding of tubelets, `depth` frames deep, by the weights that embed patches.

    The last frame of a clip is repeated up to a whole tubelet. A tubelet of equal frames gives what
    its patch did. A depth of 1 embeds frame by frame.

    Args:
        embed: Embedding of patches, which is taken over.
        depth: Frames of a tubelet.
        centre: Whether the middle frame gets the weights and the others 0 (ViViT, Arnab et al.
            2021), instead of all frames an equal share (I3D, Carreira and Zisserman 2017).

    Raises:
        ValueError: `depth` is below 1.
    """

    def __init__(self, embed: PatchEmbed, depth: int = 1, centre: bool = False) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"tubelet={depth} must be at least 1 frame")
        self.depth = depth
        weight = embed.weight.detach()
        shares = weight.new_full((depth,), 0 if centre else 1 / depth)
        if centre:
            shares[depth // 2] = 1
        spread = torch.einsum("t,ochw->otchw", shares, weight).flatten(1, 2)
        embed.in_channels *= depth
        embed.weight = nn.Parameter(spread)
        self.embed = embed

    def forward(
        self, clips: Float[Tensor, "batch frames channels height width"]
    ) -> Float[Tensor, "batch times rows columns features"]:
        """Return one token per tubelet."""
        missing = -clips.shape[1] % self.depth
        if missing:
            clips = torch.cat([clips, clips[:, -1:].expand(-1, missing, -1, -1, -1)], dim=1)
        # The frames of a tubelet count as channels: a convolution over patches does the rest.
        tubelets = torch.unflatten(clips, 1, (-1, self.depth)).flatten(2, 3)
        tokens = self.embed(tubelets.flatten(0, 1))
        return torch.unflatten(tokens, 0, tubelets.shape[:2])


class TemporalShift(nn.Module):
    """Hands an eighth of the channels to the frame before and an eighth to the frame after.

    Lin, Gan and Han, "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019.
    What the first and the last frame have nobody to receive from is 0. No parameters.

    Args:
        dim: Channels of the tokens.

    Raises:
        ValueError: `dim` has no eighth.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 8:
            raise ValueError(f"{dim=} must be at least 8, an eighth of it is shifted")
        self.sizes = [dim // 8, dim // 8, dim - 2 * (dim // 8)]

    def forward(
        self, x: Float[Tensor, "batch times rows columns dim"]
    ) -> Float[Tensor, "batch times rows columns dim"]:
        """Return the tokens with the channels exchanged."""
        back, forth, still = torch.split(x, self.sizes, dim=-1)
        one_frame = [0] * 6
        back = F.pad(back[:, 1:], (*one_frame, 0, 1))
        forth = F.pad(forth[:, :-1], (*one_frame, 1, 0))
        return torch.cat([back, forth, still], dim=-1)


class FrameWise(TokenMixer):
    """A mixer of images at work on every frame of clips.

    Args:
        mixer: The mixer, whose stride is along rows and columns.
        shift: Whether a `TemporalShift` comes first.

    Raises:
        ValueError: As `TemporalShift`.
    """

    def __init__(self, mixer: TokenMixer, shift: bool = False) -> None:
        grid = (1, *mixer.grid)
        super().__init__(mixer.dim, mixer.heads, grid, mixer.stride, out_dim=mixer.out_dim)
        self.shift = TemporalShift(mixer.dim) if shift else nn.Identity()
        self.mixer = mixer

    def forward(
        self, x: Float[Tensor, "batch times rows columns dim"]
    ) -> Float[Tensor, "batch times out_rows out_columns out_dim"]:
        """Take the frames for samples."""
        return torch.unflatten(self.mixer(self.shift(x).flatten(0, 1)), 0, x.shape[:2])

    def reference(
        self, x: Float[Tensor, "batch times rows columns dim"]
    ) -> Float[Tensor, "batch times out_rows out_columns out_dim"]:
        """Take one frame after the other."""
        frames = self.shift(x).unbind(1)
        return torch.stack([self.mixer.reference(frame) for frame in frames], dim=1)

    def out_grid(self, grid: Grid) -> Grid:
        """Return as many frames, of the mixer's output tokens."""
        return (grid[0], *self.mixer.out_grid(grid[1:]))


class DividedBlock(nn.Module):
    """A block that mixes time first: ``x + drop(W mix(norm(x)))``, then the block on images.

    "Divided space-time attention" of Bertasius, Wang and Torresani, ICML 2021 (TimeSformer): W
    starts at 0, so that at first only the block itself is at work.

    Args:
        block: The block, whose mixer works frame by frame.
        temporal: Mixes the frames at every place, on the grid (T, 1).
        drop_path: Rate of stochastic depth of the branch.
    """

    def __init__(self, block: Block, temporal: TokenMixer, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(temporal.dim, eps=1e-6)
        self.temporal = temporal
        self.out = nn.Linear(temporal.out_dim, temporal.dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.drop = DropPath(drop_path)
        self.block = block

    def forward(
        self, x: Float[Tensor, "batch times rows columns dim"]
    ) -> Float[Tensor, "batch times rows columns dim"]:
        """Mix times, then tokens, then channels."""
        places = self.norm(x).permute(0, 2, 3, 1, 4)
        mixed = self.out(self.temporal(places.flatten(0, 2).unsqueeze(2))).squeeze(2)
        branch = torch.unflatten(mixed, 0, places.shape[:3]).permute(0, 3, 1, 2, 4)
        out: Tensor = self.block(x + self.drop(branch))
        return out
