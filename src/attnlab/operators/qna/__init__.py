"""QnA, learned queries for local attention."""

from attnlab.operators.qna.conditioned import ConditionedQnA
from attnlab.operators.qna.module import QnA
from attnlab.operators.qna.upsampling import UpsamplingQnA

__all__ = ["ConditionedQnA", "QnA", "UpsamplingQnA"]
