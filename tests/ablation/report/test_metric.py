import pytest

from attnlab.ablation.report.metric import Metric
from attnlab.ablation.report.stats import summarise


@pytest.mark.parametrize(
    ("tag", "label"),
    [
        ("test/top1", "test top-1 accuracy (%)"),
        ("val/top5", "val top-5 accuracy (%)"),
        ("test/mean_class_accuracy", "test mean class accuracy (%)"),
        ("test/loss", "test loss"),
        ("perf/images_per_s", "perf images per s"),
    ],
)
def test_label(tag, label):
    assert Metric(tag).label == label


def test_accuracy_is_shown_in_percent_and_points():
    metric = Metric("test/top1")

    assert metric.score(summarise([0.50, 0.55, 0.51])) == "52.00 ± 2.65 (3)"
    assert metric.score(summarise([0.5])) == "50.00 (1)"
    assert metric.signed(-0.0134) == "-1.34"
    assert metric.signed(0.002) == "+0.20"


def test_other_metrics_are_shown_as_logged():
    metric = Metric("test/loss")

    assert metric.score(summarise([1.23456, 1.23456])) == "1.235 ± 0 (2)"
    assert metric.signed(0.012345) == "+0.01235"


def test_no_value():
    assert Metric("test/top1").score(summarise([])) == "—"
