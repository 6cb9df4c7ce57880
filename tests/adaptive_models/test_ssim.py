from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from adaptive_models import native
from adaptive_models.native import inference
from adaptive_models.ssim import ssim
from bench.counting.count import count_flops


def maps(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def ssim_by_scipy(x: np.ndarray, y: np.ndarray, window: int, sigma: float) -> float:
    def local_mean(a: np.ndarray) -> np.ndarray:
        return gaussian_filter(a, sigma, mode="constant", radius=window // 2)

    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x, variance_y = local_mean(x * x) - mean_x**2, local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (variance_x + variance_y + 9e-4)
    return float((luminance * structure).mean())


@pytest.mark.parametrize(("window", "sigma"), [(3, 1.5), (3, 0.7), (5, 1.5)])
def test_equals_the_definition_with_scipys_gaussian_filter(window: int, sigma: float) -> None:
    x, y = maps(2, 3, 6, 5), maps(2, 3, 6, 5, seed=1)
    expected = [
        np.mean([ssim_by_scipy(x[n, c].numpy(), y[n, c].numpy(), window, sigma) for c in range(3)]) for n in range(2)
    ]
    np.testing.assert_allclose(ssim(x, y, window, sigma).numpy(), expected, rtol=1e-10)


def test_window_of_one_compares_pixel_by_pixel() -> None:
    # No variance within one pixel: (2 * 1 * 3 + C1) / (1 + 9 + C1).
    x, y = torch.full((1, 1, 2, 2), 1.0), torch.full((1, 1, 2, 2), 3.0)
    assert ssim(x, y, window=1).item() == pytest.approx(6.0001 / 10.0001, rel=1e-6)


def test_equal_maps_score_one_and_order_does_not_matter() -> None:
    x, y = maps(2, 4, 7, 7), maps(2, 4, 7, 7, seed=1)
    torch.testing.assert_close(ssim(x, x), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(ssim(x, y), ssim(y, x))
    assert (ssim(x, y) < 0.9).all()


def test_reference_value(shared: Path) -> None:
    vectors = np.load(shared / "reference" / "temporal_sampler_t3.npz")
    attention, hallucination = (torch.from_numpy(vectors[name]) for name in ("attention", "hallucination"))
    np.testing.assert_allclose(ssim(attention, hallucination).numpy(), vectors["ssim"][0], rtol=1e-5)


def test_batch_equals_one_by_one() -> None:
    x, y = maps(3, 4, 7, 7, dtype=torch.float32), maps(3, 4, 7, 7, seed=1, dtype=torch.float32)
    singly = torch.cat([ssim(x[n : n + 1], y[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(ssim(x, y), singly, rtol=1e-6, atol=0)


def test_differentiable() -> None:
    inputs = maps(2, 2, 3, 3).requires_grad_(), maps(2, 2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(ssim, inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_cancel(dtype: torch.dtype) -> None:
    # Small changes on a large mean: in half precision E[x^2] - E[x]^2 would be noise.
    x = (20 + maps(1, 4, 7, 7)).to(dtype)
    y = (20 + maps(1, 4, 7, 7, seed=1)).to(dtype)
    result = ssim(x, y)
    assert result.dtype == dtype
    assert result.item() == pytest.approx(ssim(x.double(), y.double()).item(), abs=4e-3)


def test_runs_on_the_meta_device() -> None:
    x = torch.empty(5, 32, 7, 7, device="meta", dtype=torch.float16)
    result = ssim(x, x)
    assert (result.shape, result.dtype, result.device.type) == ((5,), torch.float16, "meta")


@pytest.mark.skipif(native.operators() is None, reason="no compiled operators here")
class TestOperator:
    """The compiled operator, which inference takes."""

    @given(shape=st.tuples(*(st.integers(1, most) for most in (3, 5, 20, 20))), window=st.sampled_from([1, 3, 5, 7]))
    def test_equals_double_precision(self, shape: tuple[int, int, int, int], window: int) -> None:
        x, y = maps(*shape), maps(*shape, seed=1)
        with torch.inference_mode():
            found = ssim(x.float(), y.float(), window)
        assert found.dtype is torch.float32
        # A window of one has no variance but that of rounding
        torch.testing.assert_close(found.double(), ssim(x, y, window), rtol=0, atol=1e-5 if window > 1 else 3e-4)

    def test_maps_in_another_layout_are_the_same_maps(self) -> None:
        x, y = maps(2, 6, 5, 4, dtype=torch.float32), maps(2, 6, 5, 4, seed=1, dtype=torch.float32)
        with torch.inference_mode():
            other = ssim(
                x.contiguous(memory_format=torch.channels_last), y[..., None].expand(-1, -1, -1, -1, 2)[..., 1]
            )
            assert other.equal(ssim(x, y))

    def test_what_is_not_a_number_stays_none(self) -> None:
        x, y = maps(2, 2, 4, 4, dtype=torch.float32), maps(2, 2, 4, 4, seed=1, dtype=torch.float32)
        x[1, 0, 2, 2] = torch.nan
        with torch.inference_mode():
            assert ssim(x, y).isnan().tolist() == [False, True]

    def test_it_is_for_inference_that_nobody_looks_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Similarity(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return ssim(x, x)

        calls: list[int] = []
        similarity = inference.similarity
        monkeypatch.setattr(inference, "similarity", lambda *given: calls.append(1) or similarity(*given))
        x = maps(1, 2, 4, 4, dtype=torch.float32)
        ssim(x, x)  # gradients may be wanted
        with torch.inference_mode():
            ssim(x.double(), x.double())
            # The Gaussian window over five maps of 2 x 4 x 4 is a convolution
            assert count_flops(Similarity(), x).macs >= 5 * 32 * 9
            assert calls == []
            ssim(x, x)
        assert calls == [1]


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 7, 7\), \(1, 1, 7, 7\)"):
        ssim(maps(1, 2, 7, 7), maps(1, 1, 7, 7))
    with pytest.raises(ValueError, match=r"odd window.* got 4"):
        ssim(maps(1, 2, 7, 7), maps(1, 2, 7, 7), window=4)
