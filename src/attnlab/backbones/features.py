"""What a backbone says about its feature maps, in the convention of timm's `features_only`."""

from collections.abc import Sequence
from typing import Any


class FeatureInfo:
    """Channels, stride and place of every feature map a backbone has, and which it returns.

    The methods are those of timm's `feature_info`, so that necks written for its feature
    extractors read this one: without an index they answer for the maps that are returned, in
    order; an index, or several, counts all maps that there are.

    Attributes:
        info: For each map its ``num_chs`` (channels), ``reduction`` (pixels per cell along each
            side), ``module`` (name of the submodule it leaves) and ``index``.
        out_indices: Which maps `Backbone.forward_features` returns, counted from 0.

    Args:
        channels: Channels of every map.
        reductions: Pixels per cell of every map.
        modules: Name of the submodule that every map leaves.
        out_indices: Which maps to return, in increasing order; -1 is the last one.

    Raises:
        ValueError: `out_indices` is empty, out of order or beyond the maps that there are.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        modules: Sequence[str],
        out_indices: Sequence[int],
    ) -> None:
        self.info: list[dict[str, Any]] = [
            {"num_chs": width, "reduction": reduction, "module": module, "index": index}
            for index, (width, reduction, module) in enumerate(
                zip(channels, reductions, modules, strict=True)
            )
        ]
        count = len(self.info)
        chosen = [index + count if index < 0 else index for index in out_indices]
        if not chosen or chosen != sorted({*chosen} & {*range(count)}):
            raise ValueError(
                f"{out_indices=} must name some of the {count} feature maps, in increasing order"
            )
        self.out_indices = tuple(chosen)

    def __len__(self) -> int:
        return len(self.info)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """Return one entry of `info`: of the maps returned, of map `idx`, or of several."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[index][key] for index in (self.out_indices if idx is None else idx)]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the channels of the maps; see `get` for `idx`."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the pixels per cell of the maps; see `get` for `idx`."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Return the submodules that the maps leave; see `get` for `idx`."""
        return self.get("module", idx)
