"""Spectra kept in evaluation must never outlive the tables they are of."""

import copy
import pickle

import pytest
import torch

from attnlab.operators.lisa import LiSA, module
from tests.operators.contract import assert_close


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the tables transformed so far."""
    shapes = []
    original = module.table_spectra

    def counted(tables, lattice):
        shapes.append(tuple(tables.shape))
        return original(tables, lattice)

    monkeypatch.setattr(module, "table_spectra", counted)
    return shapes


def layer() -> LiSA:
    torch.manual_seed(0)
    return LiSA(12, 3, (7, 5), approximation="fft", num_rpes=2).double().eval()


@torch.no_grad()
def test_tables_are_transformed_once_in_evaluation_and_anew_when_they_change(
    computed: list[tuple[int, ...]],
) -> None:
    mixer, x = layer(), torch.randn(2, 7, 5, 12, dtype=torch.float64)
    expected = mixer(x)
    assert torch.equal(mixer(x), expected)
    assert sorted(computed) == [(1, 2, 13, 9), (3, 2, 13, 9)]
    changes = [
        lambda: mixer.composing.mul_(2),
        lambda: mixer.load_state_dict(layer().state_dict()),
        lambda: setattr(mixer, "encoding", torch.nn.Parameter(3 * mixer.encoding)),
        lambda: setattr(mixer.composing, "data", mixer.composing.data + 1),
    ]
    for count, change in enumerate(changes, 2):
        change()
        assert_close(mixer(x), mixer.reference(x), 1e-10, f"change {count}")
        mixer(x)
        assert len(computed) == 2 * count


@torch.no_grad()
def test_another_grid_or_type_has_other_spectra() -> None:
    mixer = layer()
    for grid in ((7, 5), (5, 6), (7, 5)):
        x = torch.randn(1, *grid, 12, dtype=torch.float64)
        assert_close(mixer(x), mixer.reference(x), 1e-10, f"{grid}")
    single = copy.deepcopy(mixer).float()
    assert single(x.float()).dtype == torch.float32
    assert_close(single(x.float()).double(), mixer(x), 1e-5, "float32")


def test_training_and_gradients_compute_them_anew(computed: list[tuple[int, ...]]) -> None:
    mixer, x = layer(), torch.randn(1, 7, 5, 12, dtype=torch.float64)
    for _ in range(2):
        mixer(x).sum().backward()  # in evaluation, but with gradients
    assert len(computed) == 4
    assert mixer.composing.grad is not None
    with torch.no_grad():
        mixer.train()(x)
        mixer(x)
    assert len(computed) == 8


@torch.inference_mode()
def test_parameters_made_in_inference_mode_are_not_remembered() -> None:
    mixer, x = layer(), torch.randn(1, 7, 5, 12, dtype=torch.float64)
    mixer(x)
    mixer.composing.mul_(2)  # such a tensor counts no versions
    assert_close(mixer(x), mixer.reference(x), 1e-10, "inference tensors")


@torch.no_grad()
def test_a_tensor_in_the_place_of_an_earlier_one_is_not_taken_for_it() -> None:
    """Memory that is given back is given out again: to the second of two new states."""
    mixer, x = layer(), torch.randn(1, 7, 5, 12, dtype=torch.float64)
    for _ in range(10):
        mixer(x)
        for _ in range(2):
            state = {name: 1.1 * tensor for name, tensor in mixer.state_dict().items()}
            mixer.load_state_dict(state, assign=True)
            del state
        assert_close(mixer(x), mixer.reference(x), 1e-10, "assigned")


@torch.no_grad()
def test_copies_remember_nothing(computed: list[tuple[int, ...]]) -> None:
    mixer, x = layer(), torch.randn(1, 7, 5, 12, dtype=torch.float64)
    size = len(pickle.dumps(mixer))
    expected = mixer(x)
    assert len(pickle.dumps(mixer)) == size
    for count, copied in enumerate((copy.deepcopy(mixer), pickle.loads(pickle.dumps(mixer))), 2):
        assert torch.equal(copied(x), expected)
        assert len(computed) == 2 * count
