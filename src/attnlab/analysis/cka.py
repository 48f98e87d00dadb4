"""Minibatch linear CKA: how alike two layers arrange the same samples."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

LEAST = 4
"""Samples that the unbiased estimate needs at least."""


def gram(features: Tensor) -> Float64[Tensor, "samples samples"]:
    """Return the inner products of samples, [B, ...] flattened to [B, features], in float64.

    They are on the CPU, as some devices have no float64. The mean sample is taken away first: no
    CKA changes by that, and little cancels afterwards.
    """
    flat = features.detach().flatten(1).cpu().double()
    flat = flat - flat.mean(dim=0)
    return flat @ flat.t()


def hsic(
    first: Float64[Tensor, "*layers samples samples"],
    second: Float64[Tensor, "*layers samples samples"],
) -> Float64[Tensor, "*layers"]:
    """Return the unbiased estimate of the Hilbert-Schmidt independence criterion.

    HSIC_1 of Song, Smola, Gretton, Bedo and Borgwardt, "Feature Selection via Dependence
    Maximization", JMLR 2012. With the diagonals of K and L set to 0 and n samples::

        HSIC_1 = [tr(K L) + (1'K1)(1'L1) / ((n-1)(n-2)) - 2/(n-2) 1'K L 1] / (n (n-3))

    Args:
        first: Inner products of samples, K; leading axes are broadcast.
        second: Those of the same samples in another layer, L.

    Raises:
        ValueError: There are fewer than four samples.
    """
    count = first.shape[-1]
    if count < LEAST:
        raise ValueError(f"samples={count} must be at least {LEAST}")
    own = torch.eye(count, dtype=torch.bool, device=first.device)
    k, l_ = (each.masked_fill(own, 0) for each in (first, second))
    k_rows, l_rows = k.sum(-1), l_.sum(-1)
    trace = (k * l_).sum((-1, -2))  # both are symmetric
    totals = k_rows.sum(-1) * l_rows.sum(-1) / ((count - 1) * (count - 2))
    crossed = 2 / (count - 2) * (k_rows * l_rows).sum(-1)
    estimate: Tensor = (trace + totals - crossed) / (count * (count - 3))
    return estimate


class MinibatchCKA:
    """Linear CKA between layers, accumulated over minibatches.

    Nguyen, Raghu and Kornblith, "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021,
    equation 2: the three HSIC_1 of CKA are each averaged over minibatches, then divided::

        CKA = mean HSIC_1(K, L) / sqrt(mean HSIC_1(K, K) * mean HSIC_1(L, L))

    HSIC_1 is unbiased, so the result does not depend on the size of the minibatches but by chance.
    Minibatches of unequal size count by their samples; one of fewer than four is left out.

    Attributes:
        samples: How many samples have counted.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._sum: Tensor | None = None

    def update(self, grams: Sequence[Float64[Tensor, "samples samples"]]) -> None:
        """Take one minibatch: the `gram` of every layer, always in the same order."""
        stacked = torch.stack(list(grams))
        count = stacked.shape[-1]
        if count < LEAST:
            return
        rows = [hsic(one.expand_as(stacked), stacked) for one in stacked]
        weighted = count * torch.stack(rows)
        self._sum = weighted if self._sum is None else self._sum + weighted
        self.samples += count

    def compute(self) -> Float64[Tensor, "layers layers"]:
        """Return CKA between all layers, NaN for a layer whose output is the same for all samples.

        Layers that are independent lie round 0, as the estimate is unbiased; none lies above 1.

        Raises:
            ValueError: There was no minibatch of four samples or more.
        """
        if self._sum is None:
            raise ValueError(f"CKA needs a minibatch of at least {LEAST} samples, there is none")
        own = self._sum.diagonal()
        scale = torch.where(own > 0, own, torch.nan).sqrt()
        return self._sum / (scale[:, None] * scale)
