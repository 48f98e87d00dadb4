"""What the forms of LiSA's structure term take and give, by shape."""

from jaxtyping import Float
from torch import Tensor

QueryFeatures = Float[Tensor, "batch heads queries features"]
"""phi_q, at the output tokens."""
KeyFeatures = Float[Tensor, "#batch groups keys features"]
"""phi_k, at all tokens; each group serves heads / groups heads."""
Values = Float[Tensor, "batch heads keys value_dim"]
Prior = Float[Tensor, "batch heads queries rpes"]
"""q_n . w_r, added to the scores, or the scores of the variant ``mask``."""
Output = Float[Tensor, "batch heads queries value_dim"]
