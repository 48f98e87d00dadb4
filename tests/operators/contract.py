"""The law book: what every operator obeys, whatever it computes.

A test class of an operator inherits `OperatorLaws` and lists its `variants`: name -> a factory
that builds the mixer from ``(dim, heads, grid, stride=1, *, out_dim=None)``. Sizes are distinct
primes, so that a swapped axis cannot pass unseen.
"""

import copy
import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attnlab.operators.base import MixerFactory, TokenMixer

DIM, HEADS = 12, 3
GRIDS_2D = [(7, 5), (1, 11)]
GRID_3D = (3, 5, 2)


def build(make: MixerFactory, grid: tuple[int, ...], stride: int = 1, **kwargs) -> TokenMixer:
    """Build a mixer whose parameters are all away from their (often zero) initial values."""
    torch.manual_seed(17)
    mixer = make(DIM, HEADS, grid, stride, **kwargs)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer.double().eval()


def tokens(grid: tuple[int, ...], batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(23)
    return torch.randn(batch, *grid, DIM, generator=generator, dtype=torch.float64)


def gradients(function, mixer: TokenMixer, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output and d sum(out * g) for the input and every parameter."""
    x = x.clone().requires_grad_()
    out = function(x)
    cotangent = torch.randn(
        out.shape, generator=torch.Generator().manual_seed(29), dtype=torch.float64
    ).to(out.dtype)
    named = {"input": x, **dict(mixer.named_parameters())}
    grads = torch.autograd.grad(out, list(named.values()), cotangent, allow_unused=True)
    return out.detach(), {
        name: torch.zeros_like(named[name]) if grad is None else grad
        for name, grad in zip(named, grads, strict=True)
    }


def assert_close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Compare by the largest error relative to the largest expected value."""
    scale = expected.abs().max().clamp_min(1e-30)
    error = ((actual - expected).abs().max() / scale).item()
    assert error <= tolerance, f"{what}: relative error {error:.2e} > {tolerance:.0e}"


class LargestTensor(TorchDispatchMode):
    """Notes how many elements the largest tensor has that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            # what is merely expanded takes no memory
            self.elements = max(self.elements, out.untyped_storage().nbytes() // out.itemsize)
        return out


class OperatorLaws:
    """Inherit, list the variants, and every law is a test."""

    variants: ClassVar[dict[str, MixerFactory]] = {}
    grids: ClassVar[list[tuple[int, ...]]] = [*GRIDS_2D, GRID_3D]
    strides: ClassVar[list[int]] = [1, 2, 3]
    shows_weights: ClassVar[bool] = True  # whether the operator has a kernel over tokens
    projection: ClassVar[str] = "proj"  # the name of what follows the sum over values

    def test_shape_on_prime_sizes(self, make: MixerFactory) -> None:
        for grid in self.grids:
            for stride in self.strides:
                mixer = make(DIM, HEADS, grid, stride, out_dim=2 * DIM)
                out = mixer(torch.randn(2, *grid, DIM))
                assert out.shape == (2, *(-(-n // stride) for n in grid), 2 * DIM)

    def test_parity_with_reference_in_output_and_every_gradient(self, make: MixerFactory) -> None:
        for grid in self.grids:
            for stride in self.strides:
                mixer, x = build(make, grid, stride), tokens(grid)
                expected, expected_grads = gradients(mixer.reference, mixer, x)
                actual, grads = gradients(mixer, mixer, x)
                assert expected.abs().max() > 0
                assert_close(actual, expected, 1e-10, f"output on {grid} / {stride}")
                for name, grad in grads.items():
                    assert_close(grad, expected_grads[name], 1e-9, f"d{name} on {grid} / {stride}")

    def test_no_leak_between_samples(self, make: MixerFactory) -> None:
        mixer, x = build(make, self.grids[0]), tokens(self.grids[0], batch=3)
        other = x.clone()
        other[1] = 100 * torch.randn_like(other[1])
        assert torch.equal(mixer(x)[[0, 2]], mixer(other)[[0, 2]])

    def test_finite_under_bfloat16_autocast(self, make: MixerFactory) -> None:
        mixer = build(make, self.grids[0]).float()
        x = tokens(self.grids[0]).float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = mixer(x)
        out.float().square().sum().backward()
        exact = mixer(x.detach())
        assert_close(out.float(), exact, 0.1, "bfloat16 autocast")
        for name, value in {"input": x, **dict(mixer.named_parameters())}.items():
            assert value.grad is not None, name
            assert value.grad.isfinite().all(), name

    def test_deterministic(self, make: MixerFactory) -> None:
        mixer, x = build(make, self.grids[0]), tokens(self.grids[0])
        (out, grads), (again, grads_again) = (gradients(mixer, mixer, x) for _ in range(2))
        assert torch.equal(out, again)
        assert all(torch.equal(grads[name], grads_again[name]) for name in grads)

    def test_every_parameter_gets_gradient(self, make: MixerFactory) -> None:
        torch.manual_seed(3)
        mixer = make(DIM, HEADS, self.grids[0]).double()  # as initialised, as training starts
        _, grads = gradients(mixer, mixer, tokens(self.grids[0]))
        idle = [name for name, grad in grads.items() if not grad.abs().max() > 0]
        assert not idle

    def test_state_dict_round_trip(self, make: MixerFactory) -> None:
        mixer, x = build(make, self.grids[0]), tokens(self.grids[0])
        fresh = make(DIM, HEADS, self.grids[0]).double().eval()
        fresh.load_state_dict(copy.deepcopy(mixer.state_dict()), strict=True)
        assert torch.equal(fresh(x), mixer(x))

    def test_no_weight_decay_names_own_parameters(self, make: MixerFactory) -> None:
        mixer = make(DIM, HEADS, self.grids[0])
        own = {name for name, _ in mixer.named_parameters()}
        # A switched-off option may leave a listed parameter out, but not all of them.
        assert not mixer.no_weight_decay or mixer.no_weight_decay & own

    def test_accepts_another_grid_than_it_was_built_for(self, make: MixerFactory) -> None:
        mixer = build(make, self.grids[0])
        other = tuple(n + 2 for n in self.grids[0])
        out = mixer(tokens(other))
        assert out.shape == (2, *other, DIM)
        assert out.isfinite().all()

    def inflates(self, mixer: TokenMixer) -> bool:
        """Return whether the operator has a form on clips; override where a variant has none."""
        return True

    def test_inflated_gives_every_frame_of_a_static_clip_what_it_gave_the_image(
        self, make: MixerFactory
    ) -> None:
        grid = self.grids[0]
        mixer, x = build(make, grid), tokens(grid)
        if not self.inflates(mixer):
            with pytest.raises(ValueError, match="cannot be inflated to clips"):
                mixer.inflate(5)
            return
        expected = mixer(x)
        for frames, kernel_frames in ((5, 3), (2, 4), (1, 1)):
            inflated = mixer.inflate(frames, kernel_frames)
            assert inflated.grid == (frames, *grid)
            assert inflated.state_dict().keys() == mixer.state_dict().keys()
            for length in (frames, 3):
                out = inflated(x.unsqueeze(1).expand(-1, length, *x.shape[1:]))
                for frame in out.unbind(1):
                    assert_close(frame, expected, 1e-10, f"{length} of {frames} frames")
        assert torch.equal(mixer(x), expected)

    def test_inflated_computes_its_reference(self, make: MixerFactory) -> None:
        mixer = build(make, self.grids[0])
        if not self.inflates(mixer):
            return
        inflated, clip = mixer.inflate(3), tokens((3, *self.grids[0]))
        with torch.no_grad():
            for parameter in inflated.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            assert_close(inflated(clip), inflated.reference(clip), 1e-10, "inflated")

    def test_refuses_to_inflate_what_is_strided_or_on_clips(self, make: MixerFactory) -> None:
        if not self.inflates(build(make, self.grids[0])):
            return
        with pytest.raises(ValueError, match=r"stride=2 must be 1"):
            make(DIM, HEADS, self.grids[0], 2).inflate(3)
        with pytest.raises(ValueError, match=r"grid=\(3, 5, 2\) must be \(H, W\)"):
            make(DIM, HEADS, GRID_3D).inflate(3)
        with pytest.raises(ValueError, match="frames=0 and kernel_frames=3 must be at least 1"):
            make(DIM, HEADS, self.grids[0]).inflate(0)

    def values(self, mixer: TokenMixer, x: Tensor) -> Tensor:
        """Return what the kernel over tokens weighs, [batch, *grid, channels]; by default `value`.

        The channels of a head lie next to each other.
        """
        return mixer.value(x)

    def test_values_summed_by_the_weights_are_the_output(self, make: MixerFactory) -> None:
        for grid in self.grids:
            for stride in (1, 2):
                mixer, x = build(make, grid, stride), tokens(grid)
                out_grid = mixer.out_grid(grid)
                queries = torch.arange(math.prod(out_grid))
                if not self.shows_weights:
                    with pytest.raises(ValueError, match="has no kernel over tokens"):
                        mixer.token_weights(x, queries)
                    continue
                weights = mixer.token_weights(x, queries)
                assert not weights.requires_grad
                assert weights.shape[2:] == (len(queries), math.prod(grid))
                values = self.values(mixer, x).flatten(1, -2).unflatten(-1, (weights.shape[1], -1))
                mixed = torch.einsum("bhnm,bmhd->bnhd", weights, values).flatten(2)
                out = getattr(mixer, self.projection)(mixed).unflatten(1, out_grid)
                assert_close(out, mixer(x), 1e-10, f"weights on {grid} / {stride}")

    def test_weights_of_chosen_queries_are_rows_of_the_full_kernel(
        self, make: MixerFactory
    ) -> None:
        if not self.shows_weights:
            return
        mixer = build(make, self.grids[0], 2)
        x = tokens(tuple(n + 2 for n in self.grids[0]))  # another grid than it was built for
        count = math.prod(mixer.out_grid(tuple(x.shape[1:-1])))
        full = mixer.token_weights(x, torch.arange(count))
        chosen = torch.tensor([count - 1, 3, 0, 3])
        torch.testing.assert_close(
            mixer.token_weights(x, chosen), full[:, :, chosen], rtol=1e-12, atol=1e-15
        )
        for beyond in (-1, count):
            with pytest.raises(ValueError, match=rf"queries=\[0, {beyond}\] must lie in \[0, "):
                mixer.token_weights(x, torch.tensor([0, beyond]))

    def test_weights_of_a_few_queries_take_no_square_of_the_tokens(
        self, make: MixerFactory
    ) -> None:
        if not self.shows_weights:
            return
        grid = (31, 29)
        mixer, x = build(make, grid), tokens(grid, batch=1)
        with LargestTensor() as largest:
            mixer.token_weights(x, torch.tensor([5, 800]))
        assert largest.elements < math.prod(grid) ** 2 / 8

    def test_rejects_bad_sizes(self, make: MixerFactory) -> None:
        with pytest.raises(ValueError, match="heads=5"):
            make(DIM, 5, self.grids[0])
        with pytest.raises(ValueError, match="grid="):
            make(DIM, HEADS, (4,))
        with pytest.raises(ValueError, match="stride=0"):
            make(DIM, HEADS, self.grids[0], 0)
