"""The exact operator by sums over all pairs of tokens, O(N^2): fastest on small grids."""

import torch
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa.dense_op import lisa_dense_mix, lisa_dense_scores
from attnlab.operators.lisa.kernels import ACTIVATIONS, attention, pattern_scores
from attnlab.operators.lisa.shapes import KeyFeatures, Output, Prior, QueryFeatures, Values
from attnlab.operators.lisa.slices import apart, joined
from attnlab.operators.lisa.tables import toeplitz

Encoding = Float[Tensor, "groups rpes *offsets"]
Composing = Float[Tensor, "heads rpes *offsets"]


def pattern(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    encoding: Encoding,
    composing: Composing,
    activation: str = "identity",
    *,
    grid: Grid,
    stride: int = 1,
    split: bool = False,
) -> Output:
    """Return sum_m (sum_r s_nr P_r[p(n) - p(m)]) v_m, with s as in `pattern_scores`.

    E meets the key features before the queries do: one product over the whole batch.

    Args:
        phi_q: Query features, at the output tokens.
        phi_k: Key features, at all tokens.
        v: Values, at all tokens.
        prior: q_n . w_r, added to the scores.
        encoding: Full tables E.
        composing: Full tables P.
        activation: Key of `ACTIVATIONS`.
        grid: Size of the token grid.
        stride: Step between output tokens.
        split: Pattern r acts on its own slice of the value channels only.
    """
    plain = _in_plain_operators(phi_q, phi_k)
    if plain:
        matrices = toeplitz(encoding, grid, stride)
        encoded_keys = torch.einsum("grnm,bgmc->bgrcn", matrices, phi_k)
        scores = pattern_scores(phi_q, encoded_keys, prior, activation)
    else:
        encoded, _ = lisa_dense_scores(phi_q, phi_k, encoding, [*grid], stride)
        scores = ACTIVATIONS[activation](encoded + prior)
    return _composed(scores, v, composing, None, grid, stride, plain=plain, split=split)


def mask(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    composing: Composing,
    activation: str = "identity",
    *,
    grid: Grid,
    stride: int = 1,
    split: bool = False,
) -> Output:
    """Return sum_m a_nm (sum_r f(prior_nr) P_r[p(n) - p(m)]) v_m; arguments as in `pattern`."""
    scores, plain = ACTIVATIONS[activation](prior), _in_plain_operators(phi_q, phi_k)
    return _composed(scores, v, composing, (phi_q, phi_k), grid, stride, plain=plain, split=split)


def _in_plain_operators(phi_q: QueryFeatures, phi_k: KeyFeatures) -> bool:
    """Return whether to build N x N arrays: in an exported program, and for shared one-hot keys.

    The former should need no operator of ours; with the latter, of N features, attention is an
    N x N array already.
    """
    return torch.compiler.is_exporting() or len(phi_k) != len(phi_q)


def _composed(
    scores: Prior,
    v: Values,
    composing: Composing,
    features: tuple[QueryFeatures, KeyFeatures] | None,
    grid: Grid,
    stride: int,
    *,
    plain: bool,
    split: bool,
) -> Output:
    """Return sum_m kappa_nm v_m, kappa_nm = sum_r s_nr P_r[d], times a_nm if there are features."""
    if split:
        rpes = composing.shape[1]
        if features is not None:
            features = features[0].repeat_interleave(rpes, dim=1), features[1]
        parts = apart(scores, v, composing)
        return joined(_composed(*parts, features, grid, stride, plain=plain, split=False), rpes)
    if not plain:
        phi_q, phi_k = (None, None) if features is None else features
        out: Tensor = lisa_dense_mix(scores, v, composing, phi_q, phi_k, [*grid], stride)
        return out
    structure = torch.einsum("bhnr,hrnm->bhnm", scores, toeplitz(composing, grid, stride))
    return (structure if features is None else attention(*features) * structure) @ v
