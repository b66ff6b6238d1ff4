"""Distilling: a few steps that are taught to lead where many would."""

import sys

import numpy as np
import pytest
import torch

import lightning_freqdiff as lf
from lightning_freqdiff.__main__ import main
from lightning_freqdiff.checkpoint import calibration_path, weights_hash
from lightning_freqdiff.condition import NOTHING
from lightning_freqdiff.distilling.distill import Lessons, student_of
from lightning_freqdiff.distilling.student import Student
from lightning_freqdiff.evaluation import teacher
from lightning_freqdiff.evaluation.teacher import lessons
from lightning_freqdiff.sampling import Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.solvers import DPMSolverPP, Fitted
from lightning_freqdiff.sampling.solvers.fitted import named

N = 12
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
LESSONS = {"num_samples": 512, "batch_size": 32}


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(teacher, "SAMPLES", 48)
    monkeypatch.setattr(teacher, "STEPS", 16)


def two_ways(count=240):
    """Series that go up or down: far from Gaussian, so that few steps lead astray."""
    rng = np.random.default_rng(0)
    way = np.where(rng.random(count) < 0.5, 1.0, -1.0)
    x = way[:, None] * np.linspace(0.5, 2, N) + 0.1 * rng.normal(size=(count, N))
    return {"x": x[..., None], "way": np.where(way > 0, "up", "down")}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    settings = {"labels": "way", "network": lf.UNet(width=8, heads=2), "batch_size": 32, "early_stopping": False}
    return lf.fit(two_ways(), max_steps=300, folder=tmp_path_factory.mktemp("taught") / "run", **settings, **QUIET)


@pytest.fixture(scope="module")
def distilled(model):
    before = weights_hash(model.module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher, "SAMPLES", 48)
        patch.setattr(teacher, "STEPS", 16)
        torch.manual_seed(0)
        found = student_of(model.module, 2, Sampling(**LESSONS), 3e-3, {"max_steps": 250, **QUIET})
    assert weights_hash(model.module) == before
    assert not model.module.score.calibration
    return found


def test_lessons_are_where_the_teacher_is_at_the_very_times(model, monkeypatch):
    """Of a score that is the Wiener filter's, whose ODE has a solution in closed form."""
    monkeypatch.setattr(teacher, "BETWEEN", 200)
    monkeypatch.setattr(teacher, "APART", 0.01)
    score = lf.load(model.checkpoint_path).module.score
    score.parametrization = "wiener"  # of which a network that says nothing is the filter
    assert score.correction is not None
    with torch.no_grad():
        for parameter in score.network.parameters():
            parameter.zero_()
        score.correction.forget()
    times = torch.tensor([1.0, 0.55, 0.2, 1e-5], dtype=torch.float64)
    times[-1] = Fitted().times(score.sde, 2, "uniform", {named(2)[0]: times})[-1]
    rows, condition = lessons(score, Sampling(num_samples=6, batch_size=4), times)
    assert rows.shape[:2] == (4, 6)
    assert not condition
    # Along the coordinates of the tokens dy/dr = r y / (v + r²), with r = σ/α and y = z/α.
    ratio = score.sde.sigma(times) / score.sde.alpha(times)
    tokens = torch.stack([score.codec.tokens_along(y) for y in rows])
    scale = score.noise_scale.square()
    variance = torch.where(scale > 0, score.codec.variance / scale.clamp(min=1e-12), 1.0)
    grown = ((variance + ratio.view(-1, 1, 1) ** 2) / (variance + ratio[0] ** 2)).sqrt()
    torch.testing.assert_close(tokens, (tokens[0] * grown.unsqueeze(1)).float(), atol=0.02, rtol=0.02)


def test_a_students_walk_is_what_the_solver_samples(model):
    score = lf.load(model.checkpoint_path).module.score
    times = torch.tensor([1.0, 0.4, 1e-4], dtype=torch.float64)
    weights = torch.rand(2, 5, score.noise_scale.numel(), generator=torch.Generator().manual_seed(1)) / 3
    score.calibration = dict(zip(named(2), (times, weights), strict=True))
    rows, _ = lessons(score, Sampling(num_samples=8, batch_size=8), times)
    *_, error = Student(score, Lessons(times, rows, NOTHING), 1e-3).errors(Lessons(times, rows, NOTHING))
    drawn = sample(score, score.sde, score.codec, WorkUnit(0, 0, 8), Sampling(8, 2, Fitted()))
    reached = score.codec.along(drawn) / float(score.sde.alpha(times[-1]))
    torch.testing.assert_close((rows[-1] + error).detach(), reached, atol=1e-4, rtol=1e-4)


def three_times(model, count):
    """A score with steps between three times, made up, and where its teacher is at them."""
    score = lf.load(model.checkpoint_path).module.score
    times = torch.tensor([1.0, 0.4, 1e-4], dtype=torch.float64)
    weights = torch.ones(2, 5, score.noise_scale.numel()) / 3
    score.calibration = dict(zip(named(2), (times, weights), strict=True))
    return score, Lessons(times, lessons(score, Sampling(num_samples=count, batch_size=count), times)[0], NOTHING)


def test_no_gradient_runs_through_more_than_one_call(model):
    score, given = three_times(model, 8)
    asked = []
    plain = type(score).forward

    def forward(self, z, t, condition=NOTHING):
        asked.append(z.requires_grad)
        return plain(self, z, t, condition)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(score), "forward", forward)
        errors = list(Student(score, given, 1e-3).errors(given))
    assert not any(asked)
    assert all(error.requires_grad for error in errors)


def test_every_step_and_direction_weighs_the_same_before_training(model):
    """By its own error, that is: coarse directions, whose errors are large, would else be all that is learnt."""
    score, given = three_times(model, 32)
    pupil = Student(score, given, 1e-3)
    with torch.no_grad():
        errors = torch.stack(list(pupil.errors(given))).square().mean(1)
    share = errors * pupil.weight
    assert errors.max() > 10 * errors.min()
    assert share.max() <= 1
    assert share.median() > 0.9
    pupil.log = lambda *_, **__: None  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(pupil.training_step(torch.arange(32), 0).detach(), share.mean())


def test_what_is_held_out_is_never_trained_on(model, monkeypatch):
    seen = {"trained": set(), "held": set()}
    for kind, name in (("trained", "training_step"), ("held", "validation_step")):
        plain = getattr(Student, name)

        def step(self, index, batch_idx, plain=plain, kind=kind):
            seen[kind] |= set(index.tolist())
            return plain(self, index, batch_idx)

        monkeypatch.setattr(Student, name, step)
    torch.manual_seed(0)
    student_of(model.module, 2, Sampling(num_samples=128, batch_size=64), 1e-3, {"max_epochs": 1, **QUIET})
    assert seen["held"] == set(range(8))
    assert seen["trained"] == set(range(8, 128))


def test_training_makes_few_steps_lead_nearer(model, distilled):
    assert distilled.after < 0.85 * distilled.before
    exact, wanted = model.module, Sampling(48, 30, DPMSolverPP("ode"), "edm", seed=7)
    few = Sampling(48, 2, Fitted(), seed=7)
    with torch.no_grad():
        many = exact.draw(WorkUnit(7, 0, 48), exact.as_trained(wanted))
        student = distilled.student.draw(WorkUnit(7, 0, 48), distilled.student.as_trained(few))
    # On fresh noise, too, and in the data's units.
    assert float((student - many).norm() / (many - many.mean(0)).norm()) < 1.5 * distilled.after


def test_a_student_is_all_it_learns_whatever_is_kept_of_its_teacher(model):
    """What leads over a whole step is no denoiser, and is not to be mixed with one."""
    doubted = lf.load(model.checkpoint_path).module
    assert doubted.score.correction is not None
    doubted.score.correction.keep(torch.full_like(doubted.score.correction.kept, 0.5))
    with torch.no_grad():
        student = student_of(doubted, 2, Sampling(num_samples=64, batch_size=64), 1e-3, {"max_steps": 1, **QUIET})
    assert doubted.score.correction.partly
    assert student.student.score.correction is not None
    assert not student.student.score.correction.partly


def test_lessons_and_training_are_told_what_is_known(model, distilled):
    student = lf.Model(distilled.student)
    for way, sign in (("up", 1), ("down", -1)):
        drawn = student.sample(200, label=way, solver="Fitted", num_steps=2, **QUIET)
        assert (np.sign(drawn[:, -1, 0]) == sign).mean() > 0.9


def test_run_twice_it_is_the_same_student(model, tmp_path):
    settings = {"lessons": 96, "max_steps": 6, "batch_size": 16, **QUIET}
    one = lf.distill(model, 2, output=tmp_path / "one.ckpt", **settings)
    two = lf.distill(model, 2, **settings)
    assert weights_hash(one.module) == weights_hash(two.module) != weights_hash(model.module)
    drawn = {"num_steps": 2, "solver": "Fitted", **QUIET}
    samples = one.sample(5, label="up", **drawn)
    np.testing.assert_array_equal(samples, lf.load(tmp_path / "one.ckpt").sample(5, label="up", **drawn))
    one.save_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(samples, lf.load(tmp_path / "saved").sample(5, label="up", **drawn))


def test_a_student_draws_with_its_own_steps_alone(model, distilled):
    student = lf.Model(distilled.student)
    says = "expected 2 steps of Fitted, which the model was distilled into, got 5 of EulerMaruyama"
    with pytest.raises(ValueError, match=says):
        student.sample(3, num_steps=5, **QUIET)
    with pytest.raises(ValueError, match="got a student"):
        lf.distill(student, 2, **QUIET)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"calls": 1}, "expected 2 to 12 calls, got 1: set `calls`"),
        ({"lessons": 10}, "expected at least 64 lessons, got 10: set `lessons`"),
        ({"learning_rate": 0.0}, "expected learning_rate > 0, got 0.0"),
        ({"output": "student.pt"}, "ending in .ckpt, got student.pt: set `output`"),
        ({"output": "nowhere/student.ckpt"}, "expected a folder to write to, found none at nowhere: set `output`"),
    ],
)
def test_what_cannot_be_distilled(model, settings, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        lf.distill(model, **settings, **QUIET)


def test_on_the_command_line(model, tmp_path, monkeypatch, capsys):
    teacher_path = tmp_path / "best.ckpt"
    teacher_path.write_bytes(model.checkpoint_path.read_bytes())
    words = ["distill", "--ckpt_path", teacher_path, "--calls=2", "--lessons=64", "--max_steps=4", "--device=cpu"]

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *map(str, words)])
        main()

    command(*words)
    path = tmp_path / "best-2-calls.ckpt"
    said = capsys.readouterr().out
    assert "2 calls:" in said
    assert "--sampling.solver Fitted --sampling.num_steps 2" in said.replace("\n", " ")
    assert calibration_path(path).is_file()
    drawn = ["--sampling.solver=Fitted", "--sampling.num_steps=2", "--sampling.num_samples=3"]
    command("predict", "--ckpt_path", path, *drawn, "--sampling.output", tmp_path / "s", "--trainer.accelerator=cpu")
    assert np.load(tmp_path / "s/samples.npy").shape == (3, N, 1)
    with pytest.raises(SystemExit):
        command(*words)
    assert "is there already: set --output" in capsys.readouterr().err
