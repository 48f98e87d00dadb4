"""Heads: what each pool computes on its own grid and on others, and choosing one in YAML."""

import pytest
import torch
from jsonargparse import ArgumentParser

from attnlab.backbones.tables import resize_table
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.qna import QnA
from attnlab.optim.groups import parameter_groups
from attnlab.tasks.classification import ClassificationTask
from attnlab.tasks.heads import MeanPool, PooledClassifier, QnAMeanPool, QnAPool
from tests.doubles import TinyBackbone


def filled(pool: QnAPool) -> QnAPool:
    torch.manual_seed(3)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return pool.double()


def test_mean_pool_is_the_mean_of_the_tokens() -> None:
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(MeanPool(7, (1, 1))(x), x.flatten(1, 2).sum(1) / 15)


def test_qna_pool_is_one_window_over_the_map() -> None:
    pool = filled(QnAPool(12, (5, 5), heads=3))
    layer = QnA(12, 3, (5, 5), kernel_size=5, padding=0).double()
    state = pool.state_dict()
    layer.load_state_dict({k: v.flatten(0, 1) if v.ndim == 3 else v for k, v in state.items()})
    x = torch.randn(2, 5, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(pool(x), layer.reference(x)[:, 0, 0], rtol=1e-10, atol=1e-12)


def test_qna_mean_pool_adds_the_mean() -> None:
    pool = filled(QnAPool(12, (3, 7), heads=2, num_queries=3))
    added = filled(QnAMeanPool(12, (3, 7), heads=2, num_queries=3))
    x = torch.randn(2, 3, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(added(x) - pool(x), x.mean((1, 2)))


@pytest.mark.parametrize("grid", [(2, 3), (1, 1), (13, 5)])
def test_another_map_reads_resized_tables(grid) -> None:
    pool = filled(QnAPool(12, (3, 7), heads=2))
    own = filled(QnAPool(12, grid, heads=2))
    state = pool.state_dict()
    resized = {name: resize_table(state[name], grid) for name in ("scale", "position_bias")}
    own.load_state_dict(state | resized)
    x = torch.randn(2, *grid, 12, dtype=torch.float64)
    torch.testing.assert_close(pool(x), own(x))
    (pool(x) * torch.randn(12)).sum().backward()
    assert all(p.grad.isfinite().all() for p in pool.parameters())


def test_scores_may_be_as_large_as_they_like() -> None:
    pool = QnAPool(12, (3, 7), heads=2)
    x = 1e4 * torch.randn(2, 3, 7, 12)
    with torch.autocast("cpu", torch.bfloat16):
        out = pool(x)
    assert out.isfinite().all()


def test_starts_as_the_official_head() -> None:
    torch.manual_seed(0)
    pool = QnAPool(512, (7, 7), heads=64)
    assert pool.query.shape == (2, 512)
    assert pool.query.abs().max() <= 2 * 8**-0.5
    assert pool.scale.std().item() == pytest.approx(0.02, rel=0.05)
    assert not pool.position_bias.any()
    assert pool.key.weight.std().item() == pytest.approx(512**-0.5, rel=0.05)
    assert pool.key.bias is pool.value.bias is pool.proj.bias is None


def test_weight_decay_spares_queries_and_tables() -> None:
    task = ClassificationTask(TinyBackbone(WindowAttention), 7, pool=lambda d, g: QnAPool(d, g, 2))
    _, spared = parameter_groups(task)
    pool = task.classifier.pool
    of_pool = {n for n, p in pool.named_parameters() if any(p is q for q in spared["params"])}
    assert of_pool == {"query", "scale", "position_bias"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "heads=5 must divide dim=12"),
        ({"heads": 0}, "heads=0"),
        ({"num_queries": 0}, "num_queries=0"),
        ({"grid": (0, 3)}, r"grid=\(0, 3\)"),
    ],
)
def test_rejects(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        QnAPool(**({"dim": 12, "grid": (3, 7), "heads": 2} | options))


def test_pool_is_chosen_by_class_path_and_sized_by_the_backbone() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ClassificationTask, "model")
    mixer = {"class_path": "attnlab.operators.baselines.WindowAttention"}
    arguments = {
        "backbone": {"class_path": "tests.doubles.TinyBackbone", "init_args": {"mixer": mixer}},
        "num_classes": 7,
        "pool": {"class_path": "attnlab.tasks.heads.QnAMeanPool", "init_args": {"heads": 3}},
    }
    path = "attnlab.tasks.classification.ClassificationTask"
    config = parser.parse_object({"model": {"class_path": path, "init_args": arguments}})
    classifier = parser.instantiate(config).model.classifier
    assert isinstance(classifier, PooledClassifier)
    assert type(classifier.pool) is QnAMeanPool
    assert classifier.pool.heads == 3
    assert classifier.pool.scale.shape == (2, 2, 6)
    assert classifier(torch.randn(5, 1, 8, 8)).shape == (5, 7)
