"""QnA, learned queries for local attention."""

from attnlab.operators.qna.module import QnA

__all__ = ["QnA"]
