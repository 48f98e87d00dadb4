"""LiSA, lightweight structure-aware attention; the derivation is in this folder's README."""

from attnlab.operators.lisa.module import LiSA

__all__ = ["LiSA"]
