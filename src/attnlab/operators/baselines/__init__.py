"""Operators from the literature that LiSA and QnA are compared with."""

from attnlab.operators.baselines.cross_covariance import CrossCovariance
from attnlab.operators.baselines.depthwise_conv import DepthwiseConv
from attnlab.operators.baselines.global_filter import GlobalFilter
from attnlab.operators.baselines.self_attention import SelfAttention
from attnlab.operators.baselines.window_attention import WindowAttention

__all__ = [
    "CrossCovariance",
    "DepthwiseConv",
    "GlobalFilter",
    "SelfAttention",
    "WindowAttention",
]
