import functools
from typing import ClassVar

from attnlab.operators.base import MixerFactory
from attnlab.operators.qna import QnA
from tests.operators.contract import OperatorLaws


def qna(**options) -> MixerFactory:
    return functools.partial(QnA, **options)


class TestQnA(OperatorLaws):
    variants: ClassVar[dict[str, MixerFactory]] = {
        "default": QnA,
        "k5": qna(kernel_size=5),
        "one query": qna(num_queries=1),
        "three queries": qna(num_queries=3),
        "normal_elementwise": qna(attention_scale="normal_elementwise"),
        "posneg": qna(attention_scale="posneg"),
        "ones": qna(attention_scale="ones"),
        "avg": qna(attention_scale="avg"),
        "none": qna(attention_scale="none"),
        "absolute": qna(position="absolute"),
        "no position": qna(position="none"),
        "free queries": qna(normalize_queries=False),
        "stable": qna(numerics="stable"),
    }
