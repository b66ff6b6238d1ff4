import pytest
import torch

from lightning_freqdiff.diffusion.sde import T_MIN, VE, VP, SubVP

SDES = [VP(), VP(0.01, 5.0), SubVP(), VE(), VE(0.1, 10.0)]


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_marginals_solve_the_moment_equations(sde):
    # d alpha/dt = f alpha and d sigma^2/dt = 2 f sigma^2 + g^2, whatever the closed forms say.
    t = torch.linspace(T_MIN, 1, 50, dtype=torch.float64, requires_grad=True)
    (slope_alpha,) = torch.autograd.grad((sde.alpha(t) + 0 * t).sum(), t)
    torch.testing.assert_close(slope_alpha, sde.drift(t) * sde.alpha(t))
    (slope_variance,) = torch.autograd.grad(sde.sigma(t).square().sum(), t)
    torch.testing.assert_close(slope_variance, 2 * sde.drift(t) * sde.sigma(t) ** 2 + sde.diffusion(t) ** 2)


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_float32_has_digits_left_near_the_data(sde):
    t = torch.tensor([T_MIN, 1e-4, 1e-3], dtype=torch.float64)
    torch.testing.assert_close(sde.sigma(t.float()).double(), sde.sigma(t), rtol=1e-5, atol=0)
    assert (sde.log_snr(t).diff() < 0).all()


def test_bad_rates_name_their_setting():
    with pytest.raises(ValueError, match="`model.sde.beta_min`"):
        VP(2.0, 1.0)
    with pytest.raises(ValueError, match="`model.sde.sigma_min`"):
        VE(0.0, 1.0)
