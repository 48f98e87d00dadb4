"""The exact operator over dense Toeplitz matrices, O(N^2): fastest on small grids."""

import torch
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.lisa.kernels import ACTIVATIONS, attention, pattern_scores

QueryFeatures = Float[Tensor, "batch heads queries features"]
KeyFeatures = Float[Tensor, "#batch groups keys features"]
Values = Float[Tensor, "batch heads keys value_dim"]
Prior = Float[Tensor, "batch heads queries rpes"]
Composing = Float[Tensor, "heads rpes queries keys"]
Output = Float[Tensor, "batch heads queries value_dim"]


def pattern(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    encoding: Float[Tensor, "groups rpes queries keys"],
    composing: Composing,
    activation: str = "identity",
) -> Output:
    """Return sum_m (sum_r s_nr P_r[n, m]) v_m, with s as in `pattern_scores`.

    E meets the key features before the queries do: one product over the whole batch, and no
    N x N array per head but kappa itself.

    Args:
        phi_q: Query features.
        phi_k: Key features.
        v: Values.
        prior: q_n . w_r, added to the scores.
        encoding: E as Toeplitz matrices.
        composing: P as Toeplitz matrices.
        activation: Key of `ACTIVATIONS`.
    """
    encoded_keys = torch.einsum("grnm,bgmc->bgrcn", encoding, phi_k)
    scores = pattern_scores(phi_q, encoded_keys, prior, activation)
    return torch.einsum("bhnr,hrnm->bhnm", scores, composing) @ v


def mask(
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    v: Values,
    prior: Prior,
    composing: Composing,
    activation: str = "identity",
) -> Output:
    """Return sum_m a_nm (sum_r f(prior_nr) P_r[n, m]) v_m; arguments as in `pattern`."""
    scores = ACTIVATIONS[activation](prior)
    return (attention(phi_q, phi_k) * torch.einsum("bhnr,hrnm->bhnm", scores, composing)) @ v
