"""DeepCache on U-Nets: against a U-Net taken apart, and what every cache must satisfy."""

import pytest
import torch
from random_networks import draw, random_score, told_score

from lightning_freqdiff.caching import CachedScore, DeepCache
from lightning_freqdiff.networks import LSTM, UNet
from lightning_freqdiff.sampling.solvers import EulerMaruyama, Heun

STEPS = 12
LEVELS = 2


def unet(length=24, depth=1, levels=LEVELS):
    return told_score(UNet(width=8, levels=levels, depth=depth, heads=2), length)


def run(score, policy, solver=None, **more):
    solver = solver or EulerMaruyama()
    cached = CachedScore(score, policy, STEPS * solver.calls_per_step)
    return draw(cached, score, num_steps=STEPS, solver=solver, **more), cached


class Apart(torch.nn.Module):
    """A U-Net's body whose level beneath the branch answers from memory, except at full calls."""

    def __init__(self, body, branch, interval, calls):
        super().__init__()
        self.body, self.branch, self.interval, self.calls, self.step, self.memory = (
            body,
            branch,
            interval,
            calls,
            0,
            None,
        )

    def forward(self, h, context):
        full = self.step % self.interval == 0 or self.step == self.calls - 1
        self.step += 1
        return self.level(0, h.transpose(1, 2), context, full).transpose(1, 2)

    def level(self, number, h, context, full):
        body = self.body
        if number == len(body.down):
            return body.leave(body.attention(body.enter(h, context)), context)
        for block in body.down[number]:
            h = block(h, context)
        if number == self.branch and not full:
            beneath = self.memory
        else:
            beneath = self.level(number + 1, torch.nn.functional.avg_pool1d(h, 2), context, full)
        if number == self.branch:
            self.memory = beneath
        h = h + torch.nn.functional.interpolate(body.widen[len(body.down) - 1 - number](beneath), scale_factor=2)
        for block in body.up[len(body.down) - 1 - number]:
            h = block(h, context)
        return h


@pytest.mark.parametrize("branch", range(LEVELS))
@pytest.mark.parametrize(("interval", "depth"), [(3, 1), (5, 2)])
def test_what_rises_to_the_branch_is_that_of_the_last_full_call(branch, interval, depth):
    score = unet(depth=depth)
    ours, cached = run(score, DeepCache(interval=interval, branch=branch))
    score.network.layers[0] = Apart(score.network.layers[0], branch, interval, STEPS)
    torch.testing.assert_close(ours, draw(score, score, num_steps=STEPS), atol=1e-5, rtol=1e-4)
    assert cached.ledger.curves()["called"] == [float(i % interval == 0 or i == STEPS - 1) for i in range(STEPS)]


@pytest.mark.parametrize("solver", [EulerMaruyama(), Heun()], ids=["euler", "heun"])
@pytest.mark.parametrize("length", [24, 13])  # 13 steps are filled up to 16
def test_every_requirement(solver, length):
    score = unet(length)
    off, _ = run(score, DeepCache(interval=1), solver)
    assert torch.equal(off, draw(score, score, num_steps=STEPS, solver=solver))
    policy = DeepCache(interval=4)
    batch, cached = run(score, policy, solver, count=4, first=3)
    singles = torch.cat([run(score, policy, solver, count=1, first=3 + i)[0] for i in range(4)])
    torch.testing.assert_close(batch, singles, atol=1e-4, rtol=1e-4)
    assert torch.equal(run(score, policy, solver, count=4, first=3)[0], batch)
    draw(cached, score, num_steps=STEPS, solver=solver, count=2)  # another shape
    assert torch.equal(draw(cached, score, num_steps=STEPS, solver=solver, count=4, first=3), batch)
    assert not torch.allclose(batch, draw(score, score, num_steps=STEPS, solver=solver, count=4, first=3))
    assert cached.memory() > 0


@pytest.mark.parametrize("branch", range(LEVELS))
def test_the_work_is_that_of_what_is_run(branch):
    """Products counted by hand, of one call of all levels and one of the shallow ones."""
    score, done = unet(), []

    def count(module, inputs, output):
        taken = output.shape[-1] if isinstance(module, torch.nn.Conv1d) else inputs[0].shape[:-1].numel()
        done.append(taken * module.weight.numel())

    for module in score.network.layers[0].modules():
        if isinstance(module, (torch.nn.Conv1d, torch.nn.Linear)):
            module.register_forward_hook(count)
    h, context = score.network.embed(torch.zeros(1, *score.noise_scale.shape), torch.tensor(0.5))
    work = []
    with torch.no_grad():
        _, risen = score.network.above(h, context, branch, None)
        for known in (None, risen):
            done.clear()
            score.network.above(h, context, branch, known)
            work.append(sum(done))
    _, cached = run(score, DeepCache(interval=3, branch=branch), count=1)
    share, expected = cached.ledger.curves()["work"][1], work[1] / work[0]
    assert share == pytest.approx(expected, rel=0.05)  # attention's products are not in the weights


def test_lower_branches_and_longer_intervals_change_the_samples():
    score = unet()
    plain = run(score, DeepCache(interval=4))[0]
    for other in (DeepCache(interval=6), DeepCache(interval=4, branch=1)):
        assert not torch.allclose(run(score, other)[0], plain, atol=1e-4)
    work = [run(score, DeepCache(interval=4, branch=b))[1].ledger.totals()["flops_fraction"] for b in range(LEVELS)]
    assert work[0] < work[1] < 1


def test_in_double_precision():
    double, _ = run(unet().double(), DeepCache())
    assert double.dtype == torch.float64
    assert double.isfinite().all()


@pytest.mark.parametrize(
    ("score", "branch"),
    [(random_score(13, 1), 0), (told_score(LSTM(layers=1, width=8)), 0), (unet(), LEVELS), (unet(levels=0), 0)],
    ids=["transformer", "lstm", "too low", "no levels"],
)
def test_a_network_without_such_a_level_is_refused(score, branch):
    with pytest.raises(
        ValueError, match=r"expected a network with more than . levels above its coarsest.*`policy\.branch`"
    ):
        run(score, DeepCache(branch=branch))
