"""Parts of backbones: statistics, and their algebra against hand-composed parts."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlab.backbones.blocks import Block, DropPath, Mlp, PatchEmbed, drop_path_rates
from attnlab.operators.baselines import DepthwiseConv


def normalise(x: Tensor) -> Tensor:
    """Layer norm with unit scale, written out."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


class TestPatchEmbed:
    def test_is_the_affine_map_of_each_patch_of_the_padded_image(self) -> None:
        embed = PatchEmbed(2, 5, patch_size=3, image_size=1).double()
        nn.init.normal_(embed.bias)
        image = torch.randn(1, 2, 11, 7, dtype=torch.float64)
        padded = torch.zeros(1, 2, 12, 9, dtype=torch.float64)
        padded[:, :, :11, :7] = image
        tokens = embed(image)
        assert tokens.shape == (1, 4, 3, 5)
        for row in range(4):
            for column in range(3):
                patch = padded[0, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3].flatten()
                expected = embed.weight.flatten(1) @ patch + embed.bias
                torch.testing.assert_close(tokens[0, row, column], expected)

    @pytest.mark.parametrize(
        ("image_size", "grid"), [(13, (5, 5)), ((11, 7), (4, 3)), ((12, 1), (4, 1))]
    )
    def test_grid_counts_started_patches(self, image_size, grid: tuple[int, int]) -> None:
        assert PatchEmbed(2, 5, patch_size=3, image_size=image_size).grid == grid

    def test_starts_lecun_normal(self) -> None:
        torch.manual_seed(1)
        embed = PatchEmbed(5, 101, patch_size=3, image_size=7)
        assert embed.weight.std().item() == pytest.approx(45**-0.5, rel=0.05)
        assert not embed.bias.any()
        assert PatchEmbed(5, 101, 3, 7, bias=False).bias is None


def test_drop_path_rates_rise_linearly_to_the_last_block() -> None:
    assert list(drop_path_rates(0.4, 5)) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert list(drop_path_rates(0.4, 1)) == [0.0]


class TestDropPath:
    def test_drops_whole_samples_at_its_rate_and_scales_survivors(self) -> None:
        torch.manual_seed(1)
        out = DropPath(0.3)(torch.ones(20_000, 2, 3))
        per_sample = out[:, 0, 0]
        assert torch.equal(out, per_sample[:, None, None].expand_as(out))
        assert set(per_sample.tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
        dropped = (per_sample == 0).float().mean().item()
        assert dropped == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 20_000) ** 0.5)

    def test_is_the_identity_in_evaluation_and_at_rate_zero(self) -> None:
        x = torch.randn(5, 3)
        assert torch.equal(DropPath(0.9).eval()(x), x)
        assert torch.equal(DropPath(0.0)(x), x)

    def test_gradient_is_scaled_like_the_value(self) -> None:
        torch.manual_seed(1)
        x = torch.ones(50, 2, requires_grad=True)
        out = DropPath(0.5)(x)
        out.sum().backward()
        assert torch.equal(x.grad, out.detach())
        assert 0 < (x.grad == 0).float().mean() < 1

    @pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
    def test_rejects_what_is_no_rate(self, rate: float) -> None:
        with pytest.raises(ValueError, match=f"rate={rate}"):
            DropPath(rate)


class TestMlp:
    @pytest.mark.parametrize("gelu", ["none", "tanh"])
    def test_is_linear_gelu_linear(self, gelu: str) -> None:
        mlp, x = Mlp(6, ratio=1.5, gelu=gelu), torch.randn(2, 5, 6)
        first, _, second = mlp
        assert first.weight.shape == (9, 6)
        hidden = F.gelu(x @ first.weight.T + first.bias, approximate=gelu)
        torch.testing.assert_close(mlp(x), hidden @ second.weight.T + second.bias)

    def test_tanh_form_differs_from_the_exact_one(self) -> None:
        exact, tanh = Mlp(6), Mlp(6, gelu="tanh")
        tanh.load_state_dict(exact.state_dict())
        x = torch.randn(50, 6)
        assert 0 < (exact(x) - tanh(x)).abs().max() < 1e-2


class TestBlock:
    def test_is_two_pre_norm_residual_branches(self) -> None:
        block = Block(DepthwiseConv(6, 2, (7, 5), kernel_size=3)).double()
        x = torch.randn(2, 7, 5, 6, dtype=torch.float64)
        y = x + block.mixer(normalise(x))
        torch.testing.assert_close(block(x), y + block.mlp(normalise(y)))

    def test_skip_projects_the_unnormalised_input(self) -> None:
        mixer = DepthwiseConv(6, 2, (7, 5), 2, out_dim=10, kernel_size=3)
        skip = nn.Linear(6, 10, bias=False)

        class Skip(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return skip(x[:, ::2, ::2])

        block = Block(mixer, skip=Skip()).double()
        skip.double()
        x = torch.randn(2, 7, 5, 6, dtype=torch.float64)
        y = x[:, ::2, ::2] @ skip.weight.T + mixer(normalise(x))
        torch.testing.assert_close(block(x), y + block.mlp(normalise(y)))

    def test_both_branches_drop_unless_a_skip_carries_the_mixing(self) -> None:
        mixer = DepthwiseConv(6, 2, (7, 5))
        plain, down = Block(mixer, 0.2), Block(mixer, 0.2, skip=nn.Identity())
        assert (plain.mix_drop.rate, plain.mlp_drop.rate) == (0.2, 0.2)
        assert (down.mix_drop.rate, down.mlp_drop.rate) == (0.0, 0.2)

    def test_samples_that_lose_both_branches_pass_unchanged(self) -> None:
        torch.manual_seed(2)
        block, x = Block(DepthwiseConv(6, 2, (3, 2)), drop_path=0.5), torch.randn(2000, 3, 2, 6)
        unchanged = (block(x) == x).flatten(1).all(1).float().mean().item()
        assert unchanged == pytest.approx(0.5**2, abs=4 * (0.25 * 0.75 / 2000) ** 0.5)
        assert not (block.eval()(x) == x).flatten(1).all(1).any()
