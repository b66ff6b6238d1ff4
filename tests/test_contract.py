"""What a user can write in forty lines, and use from the command line by its dotted path."""

# A part that is not there fails its test.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false
# pyright: reportOperatorIssue=false

import json
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_freqdiff.__main__ import main
from lightning_freqdiff.caching import CachePolicy, Outcome
from lightning_freqdiff.caching.step_cache import run_network
from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL, Condition
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Architecture, Backbone, Embedding, FourierTime
from lightning_freqdiff.sampling import Conditions, Constraint, Guidance, Same, Sampling, Solver
from lightning_freqdiff.sampling.guidance import both

LENGTH = 16


@dataclass(frozen=True)
class Adaptive(Architecture):
    """A backbone with adaptive layer norm, and a class label where there is one.

    Args:
        width: Width of the features.
    """

    width: int = 16

    def build(self, codec, sizes=UNCONDITIONAL):
        return AdaptiveBackbone(codec.layout.tokens, codec.layout.features, self.width, sizes.classes)


class AdaptiveBackbone(Backbone):
    def __init__(self, tokens, features, width, classes):
        super().__init__()
        self.token, self.time = nn.Linear(features, width), FourierTime(width, 4.0)
        self.label = nn.Embedding(classes + 1, width)  # the last is for a label that is not known
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.modulate, self.out = nn.Linear(width, 2 * width), nn.Linear(width, features)

    def embed(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Embedding:
        known = torch.full((len(z),), -1, device=z.device) if condition.label is None else condition.label
        context = self.time(t).flatten(1) + self.label(known % self.label.num_embeddings)
        return Embedding(self.token(z) + self.position, context)

    def block(self, number, h, context):
        return h + torch.nn.functional.silu(self.layers[number](self._modulated(h, context)))

    def head(self, h, context):
        return self.out(self._modulated(h, context))

    def _modulated(self, h, context):
        scale, shift = self.modulate(context).unsqueeze(1).chunk(2, dim=-1)
        return self.norm(h) * (1 + scale) + shift


@dataclass(frozen=True)
class TwoSlopes(Solver):
    """Adams-Bashforth on the probability-flow ODE, in ``y = z/α`` over ``σ/α``, from two slopes.

    Args:
        share: How far the slope is carried on, 1/2 for even steps.
    """

    share: float = 0.5
    calls_per_step = 1

    def step(self, score, z, step, scale, noises, state):
        now, then = step.now, step.then
        slope = scale * score(z, now.t) * (-now.sigma * scale)
        kept = slope if state is None else slope + self.share * (slope - state)
        return then.alpha * (z / now.alpha + (then.ratio - now.ratio) * kept), slope


@dataclass(frozen=True)
class EverySecond(CachePolicy):
    """Call at every second step, and repeat the noise prediction between.

    Args:
        period: Steps from call to call.
    """

    period: int = 2

    def begin(self, score, trajectory):
        return None

    def evaluate(self, score, z, call, state):
        every = torch.ones(len(z), device=z.device)
        if state is not None and call.step % self.period:
            return Outcome(state, 0 * every, 0 * every, every * torch.nan, every * torch.nan), state
        eps = run_network(score, z, call.t, score.coefficients(call.t), call.condition).eps
        return Outcome(eps, every * z.shape[1], every, every * torch.nan, every * torch.nan), eps


@dataclass(frozen=True)
class Free(Guidance):
    """Classifier-free guidance: away from what is drawn without a label.

    Args:
        weight: 1 is no guidance.
    """

    weight: float = 2.0
    copies = 2

    def guide(self, score, z, t, condition):
        told, untold = both(score, z, t, condition, condition.without("label"))
        return untold + self.weight * (told - untold)


@dataclass(frozen=True)
class Label(Conditions):
    """One class for even samples, another for odd ones, and a first half that is observed.

    Args:
        even: Class of the even samples.
        odd: Class of the odd ones.
    """

    even: int = 0
    odd: int = 1

    def rows(self, first, count):
        label = torch.tensor([self.odd if i % 2 else self.even for i in range(first, first + count)])
        observed = torch.full((count, LENGTH, 1), 0.25)
        mask = (torch.arange(LENGTH) < LENGTH // 2).float().view(1, -1, 1).expand_as(observed)
        return Condition(label=label, observed=observed, mask=mask)


@dataclass(frozen=True)
class KeepObserved(Constraint):
    """Put observed values, at the present noise level, in the place of those drawn (RePaint, arXiv 2201.09865).

    Args:
        exact: Leave the noise out on the last step.
    """

    exact: bool = True

    def apply(self, z, level, condition, codec, noise):
        sigma = 0.0 if self.exact and level.t < 1e-4 else level.sigma
        known = level.alpha * codec.encode(condition.observed) + sigma * codec.noise_scale * noise
        assert condition.observed is not None
        assert condition.mask is not None
        # In data units, where the mask is one number for each value; tokens are scaled frequency by frequency.
        return codec.encode(torch.where(condition.mask > 0, codec.decode(known), codec.decode(z)))


def dotted(component: type) -> str:
    return f"{component.__module__}.{component.__qualname__}"


def command(*words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lightning_freqdiff", *words, "--trainer.accelerator=cpu"])
        main()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of the backbone with adaptive layer norm, trained on labels by the command line."""
    folder = tmp_path_factory.mktemp("adaptive")
    data = ["--data=SyntheticECG", "--data.num_series=256", f"--data.length={LENGTH}", "--data.conditional=true"]
    network = [f"--model.network={dotted(Adaptive)}", "--model.network.width=12"]
    quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", f"--checkpoint.dirpath={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command("fit", *data, *network, *quiet, "--trainer.max_epochs=2")
    return folder / "best.ckpt"


def predict(ckpt, folder, *more):
    small = ["--sampling.num_samples=6", "--sampling.num_steps=12", "--sampling.batch_size=4"]
    command("predict", f"--ckpt_path={ckpt}", *small, f"--sampling.output={folder}", *more)
    return np.load(folder / "samples.npy"), json.loads((folder / "manifest.json").read_text())


def test_a_backbone_of_ones_own_is_trained_and_read_back(trained):
    model = ScoreModule.load_from_checkpoint(trained)
    assert isinstance(model.score.network, AdaptiveBackbone)
    assert model.score.network.label.num_embeddings == 3 + 1  # the classes of the data set
    assert model.hparams["conditions"] == {"classes": 3, "static": 0, "covariates": 0, "observed": False}
    z, t = torch.randn(2, *model.score.noise_scale.shape), torch.tensor(0.5)
    torch.nn.init.normal_(model.score.network.label.weight)
    told = [model.score(z, t, Condition(label=torch.full((2,), label))) for label in (0, 1)]
    assert not told[0].equal(told[1])


def test_the_loss_is_told_the_label(trained):
    data = SyntheticECG(num_series=64, length=LENGTH, conditional=True)
    batch = next(iter(data.val_dataloader()))
    codes = np.unique(data.labels("val"), return_inverse=True)[1]
    assert batch.condition.label.tolist() == codes.tolist()
    plain = next(iter(SyntheticECG(num_series=64, length=LENGTH).val_dataloader()))
    assert plain.condition == NOTHING
    assert plain.series.equal(batch.series)


def test_a_label_a_guidance_and_their_manifest(trained, tmp_path):
    label = [f"--sampling.condition={dotted(Label)}"]
    plain, _ = predict(trained, tmp_path / "plain")
    told, _ = predict(trained, tmp_path / "told", *label)
    same, manifest = predict(
        trained, tmp_path / "one", *label, f"--sampling.guidance={dotted(Free)}", "--sampling.guidance.weight=1"
    )
    guided, _ = predict(trained, tmp_path / "guided", *label, f"--sampling.guidance={dotted(Free)}")
    assert not np.allclose(plain, told)
    np.testing.assert_allclose(same, told, atol=1e-4)
    assert not np.allclose(guided, told)
    settings = manifest["identity"]["sampling"]
    assert settings["guidance"] == {"class_path": dotted(Free), "init_args": {"weight": 1.0}}
    assert settings["condition"]["init_args"] == {"even": 0, "odd": 1}


@pytest.mark.filterwarnings("ignore:.*every token was recomputed.*")
def test_a_cache_sees_through_guidance(trained, tmp_path):
    label = [f"--sampling.condition={dotted(Label)}", f"--sampling.guidance={dotted(Free)}"]
    cache = ["--trainer.callbacks+=CacheCallback", f"--trainer.callbacks.policy={dotted(EverySecond)}"]
    exact, _ = predict(trained, tmp_path / "exact", *label)
    off, _ = predict(trained, tmp_path / "off", *label, *cache, "--trainer.callbacks.policy.period=1")
    halved, manifest = predict(trained, tmp_path / "halved", *label, *cache)
    assert np.array_equal(off, exact)
    assert not np.allclose(halved, exact)
    assert manifest["reports"][0]["network_calls"] == 6


@pytest.mark.parametrize("cache", ["WienerCache", "E2CRFCache"])
def test_our_caches_run_on_a_network_they_never_saw(trained, tmp_path, cache):
    label = [f"--sampling.condition={dotted(Label)}", "--sampling.num_steps=60"]
    exact, _ = predict(trained, tmp_path / "exact", *label)
    cached, manifest = predict(trained, tmp_path / "cached", *label, f"--trainer.callbacks+={cache}")
    assert manifest["reports"][0]["network_calls"] < 60
    assert np.linalg.norm(cached - exact) < 0.5 * np.linalg.norm(exact)


def test_a_solver(trained, tmp_path):
    fine = ["--sampling.grid=edm", "--sampling.num_steps=80"]
    heun, _ = predict(trained, tmp_path / "heun", "--sampling.solver=Heun", *fine)
    ours, manifest = predict(trained, tmp_path / "ours", f"--sampling.solver={dotted(TwoSlopes)}", *fine)
    assert np.linalg.norm(ours - heun) < 0.05 * np.linalg.norm(heun)
    assert manifest["identity"]["sampling"]["solver"]["class_path"] == dotted(TwoSlopes)


@pytest.mark.parametrize("solver", ["DEIS", "IPNDM", "UniPC", "SASolver", "ExponentialWiener"])
@pytest.mark.slow
def test_multistep_solvers_from_the_command_line(trained, tmp_path, solver):
    quiet = {"SASolver": ["--sampling.solver.tau=0"], "ExponentialWiener": ["--sampling.solver.kind=ode"]}
    settings = [f"--sampling.solver={solver}", "--sampling.solver.order=3", *quiet.get(solver, [])]
    heun, _ = predict(trained, tmp_path / "heun", "--sampling.solver=Heun", "--sampling.grid=edm")
    ours, manifest = predict(trained, tmp_path / "ours", *settings, "--sampling.grid=edm", "--sampling.num_steps=40")
    assert np.linalg.norm(ours - heun) < 0.1 * np.linalg.norm(heun)
    assert manifest["identity"]["sampling"]["solver"]["init_args"]["order"] == 3


@pytest.mark.slow
def test_a_constraint_keeps_what_was_observed(trained, tmp_path):
    label = [f"--sampling.condition={dotted(Label)}"]
    free, _ = predict(trained, tmp_path / "free", *label)
    kept, _ = predict(trained, tmp_path / "kept", *label, f"--sampling.constraint={dotted(KeepObserved)}")
    half = LENGTH // 2
    np.testing.assert_allclose(kept[:, :half], 0.25, atol=1e-2)
    assert np.abs(free[:, :half] - 0.25).max() > 0.05
    assert kept[:, half:].std() > 0.01
    # A stretch without calls cannot be taken where something must hold after every step: the cache goes step by step.
    cached, _ = predict(
        trained,
        tmp_path / "cached",
        *label,
        f"--sampling.constraint={dotted(KeepObserved)}",
        "--trainer.callbacks+=WienerCache",
    )
    np.testing.assert_allclose(cached[:, :half], 0.25, atol=1e-2)


@pytest.mark.parametrize(
    "more",
    [
        ["guidance", "constraint"],
        *(pytest.param(m, marks=pytest.mark.slow) for m in ([], ["guidance"], ["constraint"])),
    ],
    ids=str,
)
def test_a_sample_is_the_same_in_every_batch(trained, tmp_path, more):
    given = {"guidance": dotted(Free), "constraint": dotted(KeepObserved)}
    settings = [f"--sampling.condition={dotted(Label)}", *(f"--sampling.{name}={given[name]}" for name in more)]
    run = partial(predict, trained)
    four, _ = run(tmp_path / "four", *settings, "--trainer.callbacks+=WienerCache")
    one, _ = run(tmp_path / "one", *settings, "--trainer.callbacks+=WienerCache", "--sampling.batch_size=1")
    np.testing.assert_allclose(four, one, atol=1e-4)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"label": torch.zeros(2), "static": torch.zeros(3, 1)}, "every part of a condition for the same series"),
        ({"observed": torch.zeros(2, 4, 1)}, "observed values and their mask together, got observed without mask"),
        ({"observed": torch.zeros(2, 4, 1), "mask": torch.zeros(2, 4, 2)}, "a mask of the shape"),
    ],
)
def test_a_condition_that_does_not_fit_together(parts, message):
    with pytest.raises(ValueError, match=message):
        Condition(**parts)


def test_parts_of_a_condition():
    known = Condition(label=torch.arange(3), static=torch.arange(6.0).view(3, 2))
    for changed, label in [
        (known.take(slice(1, 3)), [1, 2]),
        (known.repeat(2), [0, 1, 2, 0, 1, 2]),
        (known.without("label"), [-1, -1, -1]),
        (known.followed_by(known.without("label")), [0, 1, 2, -1, -1, -1]),
    ]:
        parts = dict(changed.parts())
        assert parts["label"].tolist() == label
        assert parts["static"].shape == (len(label), 2)
    assert known.without("static").static.isnan().all()  # so that one batch can hold both
    some = known.without("static", rows=torch.tensor([True, False, True]))
    assert some.static.isnan().all(1).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="the same parts"):
        known.followed_by(Condition(label=known.label))
    assert known.sizes.classes == 3
    assert (known.count, NOTHING.count, bool(known), bool(NOTHING)) == (3, None, True, False)


@pytest.mark.parametrize("cache", [[], ["--trainer.callbacks+=WienerCache"]], ids=["plain", "cached"])
@pytest.mark.parametrize(
    ("known", "says"),
    [
        ("label=3", "expected a class that the model was trained on, one of 0, 1, 2, got '3'"),
        ("static=[1.0]", "expected 0 static as the model was trained on, got 1"),
    ],
)
def test_what_a_model_was_not_trained_on_is_refused(trained, tmp_path, capsys, cache, known, says):
    with pytest.raises(SystemExit):
        predict(trained, tmp_path / "none", "--sampling.condition=Same", f"--sampling.condition.{known}", *cache)
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert says in error
    assert "set --sampling." in error


def test_a_model_without_conditions_takes_no_label(model):
    sampling = Sampling(num_samples=2, num_steps=3, condition=Same(label=0))
    with pytest.raises(ValueError, match="expected labels below 0.*`data.conditional` true"):
        model.draw(sampling.units()[0], sampling)
