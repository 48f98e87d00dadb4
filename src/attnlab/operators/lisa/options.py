"""What the options of a LiSA layer may be, alone and together."""

from attnlab.operators.checks import check_one_of
from attnlab.operators.lisa import kernels

APPROXIMATIONS = ("auto", "none", "fft", "circular", "truncated", "split", "low_rank")
VARIANTS = ("pattern", "mask")


def check_options(
    *,
    heads: int,
    value_dim: int,
    num_rpes: int,
    approximation: str,
    kernel: str,
    variant: str,
    key_dim: int,
    key_groups: int,
    activation: str,
    content: bool,
    query_weights: bool,
    kept_frequencies: float,
    rank: int,
) -> None:
    """Check the options of `LiSA`, `value_dim` the channels of a head.

    Raises:
        ValueError: One is out of range, two contradict each other, or nothing is left to compute.
    """
    check_one_of("approximation", approximation, APPROXIMATIONS)
    check_one_of("kernel", kernel, kernels.FEATURE_MAPS)
    check_one_of("variant", variant, VARIANTS)
    check_one_of("activation", activation, kernels.ACTIVATIONS)
    if num_rpes < 0:
        raise ValueError(f"{num_rpes=} must be at least 0")
    if key_dim < 1:
        raise ValueError(f"{key_dim=} must be at least 1")
    if key_groups < 1 or heads % key_groups:
        raise ValueError(f"{key_groups=} must be a positive divisor of {heads=}")
    if not 0 < kept_frequencies <= 1:
        raise ValueError(f"{kept_frequencies=} must lie in (0, 1]")
    if rank < 1:
        raise ValueError(f"{rank=} must be at least 1")
    if kernel == "softmax" and approximation not in ("none", "auto"):
        raise ValueError(
            f"{kernel=} is quadratic and needs approximation='none', not {approximation=}"
        )
    if approximation == "split" and num_rpes and value_dim % num_rpes:
        raise ValueError(
            f"{approximation=} needs {num_rpes=} to divide the {value_dim=} channels of a head"
        )
    if num_rpes and variant == "mask" and not query_weights:
        raise ValueError(f"{variant=} has no scores with {query_weights=}")
    if not num_rpes and not content:
        raise ValueError(f"{num_rpes=} with {content=} leaves nothing to compute")
