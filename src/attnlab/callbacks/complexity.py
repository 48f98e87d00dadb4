"""Forward cost of a network: what the FLOP counter sees, plus what operators declare."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attnlab.operators.base import TokenMixer


def forward_gflops(network: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Return the GFLOPs of one forward pass on one sample.

    A multiply-add counts as two. Counted are matrix products, convolutions and attention
    products, by `torch.utils.flop_counter`, and each mixer's `uncounted_flops` (FFTs, by
    formula); element-wise operations are not.

    Args:
        network: Any module; left in the mode (train or eval) it was in.
        input_shape: Shape of one sample without the batch, (C, H, W) or (T, C, H, W).
    """
    uncounted = 0

    def declare(mixer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal uncounted
        assert isinstance(mixer, TokenMixer)
        # On clips a mixer's batch may be the frames of the sample, or its places.
        batch, *grid = inputs[0].shape[:-1]
        uncounted += batch * mixer.uncounted_flops(tuple(grid))

    mixers = [module for module in network.modules() if isinstance(module, TokenMixer)]
    hooks = [mixer.register_forward_pre_hook(declare) for mixer in mixers]
    parameter = next(network.parameters())
    sample = torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype)
    training = network.training
    try:
        # Fused attention on CPU is unknown to the counter; its plain form is counted instead.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
            network.eval()(sample)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return float(flops.get_total_flops() + uncounted) / 1e9
