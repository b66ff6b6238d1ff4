"""What an evaluation finds in sets whose nature is known."""

# A figure that is not there fails its test.
# pyright: reportOptionalSubscript=false, reportGeneralTypeIssues=false
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOperatorIssue=false

import importlib
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.evaluation import evaluate as module
from lightning_freqdiff.evaluation.evaluate import EvaluateSettings, evaluate, measure
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.judges import NAMES, Judges, choose
from lightning_freqdiff.evaluation.labels import Labels, classify
from lightning_freqdiff.evaluation.reading import Reading, read_sets
from lightning_freqdiff.evaluation.report import as_json, lines, usefulness, verdict
from lightning_freqdiff.evaluation.sets import PART, Sets
from lightning_freqdiff.metrics import (
    EncoderSettings,
    PostHoc,
    context_embedding,
    context_fid,
    fit_context_encoder,
    sample_gaussian,
)

CHEAP = EvaluateSettings(tuple(n for n in choose(["default"], 1000) if n != "context_fid"), directions=100)


@pytest.fixture(scope="module")
def beats() -> tuple[Tensor, Tensor, Tensor]:
    """Training, held-out and fresh heartbeats."""
    x = SyntheticECG(num_series=650, length=32).train_series()
    return x[:250], x[250:410], x[410:570]


def test_fresh_series_are_at_the_floor_and_a_gaussian_at_the_ceiling(beats):
    train, held, fresh = beats
    real, linear = (evaluate(x, train, held, CHEAP) for x in (fresh, sample_gaussian(train, 160, seed=5)))
    for name in ("sliced_wasserstein", "sliced_wasserstein_frequency", "histogram", "mmd", "density", "precision"):
        ours, theirs = real.scores[name], linear.scores[name]
        worse = -1 if ours.higher_is_better else 1
        assert worse * (ours.ceiling - ours.floor) > 0, name
        assert ours.floor == theirs.floor
        assert abs(ours.position) < 0.35 < 0.65 < theirs.position < 1.35, name
    assert real.memorization.p_value > 0.01 < linear.memorization.p_value
    assert "No sign" in verdict(real.memorization)
    assert real.counts == {"compared": 160, "reference": 250}
    shown = repr(real).splitlines()  # figures, and not ten thousand numbers
    assert shown[0] == "Findings of 160 series each (fresh real ones; Gaussian):"
    floor = real.scores["mmd"].floor
    assert any(line.startswith("  mmd ") and f"({floor:.4g}; " in line for line in shown)
    assert len(shown) < 30


def test_figures_are_those_of_the_evaluator(beats):
    train, held, fresh = beats
    found = evaluate(fresh, train, held, CHEAP)
    expected = Evaluator(train, num_directions=100).measure(fresh).samples.values["sw_time"]
    sw = found.scores["sliced_wasserstein"]
    assert (sw.value, sw.value_two_se, sw.value_max) == pytest.approx(
        tuple(expected[k] for k in ("mean", "two_se", "max"))
    )
    floor = Evaluator(train, held, num_directions=100).baselines(160)["floor"].values["sw_time"]["mean"]
    assert sw.floor == pytest.approx(floor, rel=1e-5)


def test_planted_copies_are_listed_by_the_rows_of_the_files(beats, tmp_path):
    train, held, fresh = beats
    fresh = fresh.clone()
    fresh[[3, 7, 90]] = train[[200, 11, 249]]
    fresh[50] = train[100] + 1e-4 * torch.randn(32, 1, generator=torch.Generator().manual_seed(0))
    for name, x in (("made", fresh), ("train", train), ("held", held)):
        np.save(tmp_path / f"{name}.npy", x.numpy())
    paths = [str(tmp_path / f"{name}.npy") for name in ("made", "train", "held")]
    with_holdout, without = read_sets(*paths), read_sets(*paths[:2])
    found = measure(with_holdout, EvaluateSettings(("skewness",)))
    assert found.memorization.p_value < 0.01
    assert "MEMORIZATION: copies" in verdict(found.memorization)
    copies = as_json(found, {})["memorization"]["copies"]
    assert {(c["generated"], c["training"], c["exact"]) for c in copies} == {
        (3, 200, True),
        (7, 11, True),
        (90, 249, True),
        (50, 100, False),
    }
    # A part of the reference is held out now, and rows are still those of the file.
    assert without.held_out_from == PART
    assert len(without.held_out) == 125
    copies = as_json(measure(without, EvaluateSettings(("skewness",))), {})["memorization"]["copies"]
    assert copies
    assert {(c["generated"], c["training"]) for c in copies} <= {(3, 200), (7, 11), (90, 249), (50, 100)}


def test_all_sets_have_one_count_and_the_seed_draws_them():
    x = torch.arange(100.0).reshape(100, 1, 1) * torch.ones(1, 4, 1)
    sets = Sets.of(-x[:40] - 1, x[:70], x[70:])
    drawn = sets.equal(20, 0)
    assert [len(part) for part in drawn] == [20, 20, 20]
    assert all(torch.equal(*pair) for pair in zip(drawn, sets.equal(20, 0), strict=True))
    assert not torch.equal(drawn[0], sets.equal(20, 1)[0])
    assert [len(part) for part in sets.equal(1000, 0)] == [30, 30, 70]
    assert drawn[0].max() < 0 <= drawn[2].min() <= drawn[2].max() < 70 <= drawn[1].min()


def test_what_a_metric_cannot_take_is_left_out_with_a_reason(beats):
    train, held, fresh = beats
    found = evaluate(fresh[:4], train, held, EvaluateSettings(("prdc", "correlational", "sw", "histogram")))
    assert found.scores["histogram"].value is not None
    assert "at least 6 samples, got 4" in found.scores["precision"].note
    assert "`generated`" in found.scores["precision"].note
    assert "2 channels" in found.scores["correlational"].note
    assert found.memorization is None
    said = " ".join(lines(found))
    assert "precision, recall, density, coverage left out" in said
    assert "memorization left out: expected at least 10 samples" in said
    assert as_json(found, {})["memorization"]["p_value"] is None
    few = evaluate(fresh, train, held[:4], EvaluateSettings(("prdc",)))
    assert "add rows to `holdout`" in few.scores["density"].note


def test_what_speaks_against_the_figures_is_said(beats):
    train, held, fresh = beats
    for copied in (train, train[:40].flip(0)):
        assert "the very series of `reference`" in Sets.of(copied, train, held).warnings[0]
    assert "the floor itself" in Sets.of(held[5:], train, held).warnings[0]
    assert Sets.of(torch.cat([fresh, train[:9]]), train, held).warnings == ()  # copies are told one by one
    assert (
        "5 of the 160 series of `holdout` are in `reference`"
        in Sets.of(fresh, train, torch.cat([held[5:], train[:5]])).warnings[0]
    )
    assert "left out of it here" in Sets.of(fresh, train).warnings[0]
    assert Sets.of(fresh, train, held).warnings == ()
    flat = torch.ones(3, 160, 32, 1)
    both = [torch.cat([x[:160], flat[0]], dim=2) for x in (fresh, train, held)]
    assert Sets.of(*both).warnings == ("channels that never change in `reference`: channel 1",)
    both[1][..., 1] += torch.randn(160, 32)
    assert "but never in `generated`: channel 1" in Sets.of(*both).warnings[0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda x: x[:, :30], r"32 steps as in `reference`, got 30 in `generated`.*`data.window`"),
        (lambda x: x.repeat(1, 1, 3), r"1 channels as in `reference`, got 3 in `generated`"),
        (lambda x: x * math.nan, "NaN.*`generated`"),
        (lambda x: x[:0], "`generated`"),
    ],
)
def test_sets_that_do_not_go_together_are_refused(beats, wrong, says):
    with pytest.raises(ValueError, match=says):
        evaluate(wrong(beats[2]), beats[0])


def test_a_collapsed_generator_is_measured(beats):
    train, held, _ = beats
    found = evaluate(train.mean(0).expand(50, -1, -1).clone(), train, held, CHEAP)
    assert found.scores["coverage"].value < 0.2
    assert found.scores["sliced_wasserstein"].position > 1


def test_judges_that_learn_are_asked_alike_of_all_and_as_often_as_wanted(beats, monkeypatch):
    asked = []

    def learnt(self, name, x, seed):
        asked.append((name, len(x), seed))
        return torch.tensor(float(seed))

    monkeypatch.setattr(Judges, "_learnt", learnt)
    train, held, fresh = beats
    settings = EvaluateSettings(("discriminative",), repetitions=3, seed=4)
    score = evaluate(fresh, train, held, settings).scores["discriminative"]
    assert asked == [("discriminative", 160, seed) for _ in range(3) for seed in (4, 5, 6)]
    assert (score.value, score.floor, score.ceiling) == (5, 5, 5)
    assert score.value_two_se == pytest.approx(2 / math.sqrt(3))


def test_the_published_protocol_judges_as_many_real_series(beats, monkeypatch):
    seen = {}

    def fit(real, **kwargs):
        seen["fit"] = len(real), kwargs
        return "encoder"

    def embed(x, real, encoder, protocol):
        seen["embed"] = len(x), len(real), encoder, protocol
        return x.flatten(1)

    monkeypatch.setattr("lightning_freqdiff.evaluation.judges.fit_context_encoder", fit)
    monkeypatch.setattr("lightning_freqdiff.evaluation.judges.context_embedding", embed)
    train, _, fresh = beats
    Judges(train, "timegan", 1, 10, 7).take("context_fid", fresh)
    assert seen["fit"] == (160, {"protocol": "timegan", "seed": 7})
    assert seen["embed"] == (160, 160, "encoder", "timegan")


def test_context_fid_is_that_of_the_metric_and_the_reference_is_embedded_once(beats, monkeypatch):
    train, held, fresh = beats
    few = EncoderSettings(embedding=8, hidden=8, depth=3, steps=5)
    encoder, embedded = fit_context_encoder(train, few), []

    def embed(x, *args):
        embedded.append(len(x))
        return context_embedding(x, *args)

    monkeypatch.setattr("lightning_freqdiff.evaluation.judges.fit_context_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr("lightning_freqdiff.evaluation.judges.context_embedding", embed)
    judges = Judges(train, "project", 1, 10, 0)
    for x in (fresh, held):
        assert judges.take("context_fid", x)["context_fid"]["mean"] == pytest.approx(
            float(context_fid(x, train, encoder=encoder)), rel=1e-5
        )
    assert embedded == [250, 160, 160]
    with pytest.raises(ValueError, match="at least 2 samples, got 1: add rows to `generated`"):
        judges.take("context_fid", fresh[:1])


def test_an_interruption_keeps_what_was_measured(beats, monkeypatch):
    take = Judges.take

    def interrupted(self, name, x):
        if name == "histogram":
            raise KeyboardInterrupt
        return take(self, name, x)

    monkeypatch.setattr(Judges, "take", interrupted)
    train, held, fresh = beats
    found = evaluate(fresh, train, held, EvaluateSettings(("sw", "histogram")))
    assert not found.complete
    assert found.scores["sliced_wasserstein"].value is not None
    assert found.scores["histogram"].note == module.INTERRUPTED


def test_names():
    assert choose(["all"]) == NAMES
    assert "discriminative" in choose(["default"], 24)
    assert "discriminative" not in choose(["default"], 187)
    assert choose(["sw", "dtw"]) == ("sliced_wasserstein", "sliced_wasserstein_frequency", "nearest_dtw")
    with pytest.raises(
        ValueError, match=r"expected metrics of sliced_wasserstein, .*prdc, default, got 'fid': set `metrics`"
    ):
        EvaluateSettings(("sw", "fid"))
    with pytest.raises(ValueError, match="got none"):
        EvaluateSettings(())
    for wrong in ({"protocol": "mine"}, {"repetitions": 0}, {"rows": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"set `{next(iter(wrong))}`"):
            EvaluateSettings(**wrong)


def test_windows_of_a_reference_share_no_step_with_those_held_out(tmp_path):
    long = np.arange(400.0)[:, None] * np.ones(2)
    np.save(tmp_path / "long.npy", long)
    np.save(tmp_path / "made.npy", np.random.default_rng(0).normal(size=(30, 12, 2)))
    sets = read_sets(str(tmp_path / "made.npy"), str(tmp_path / "long.npy"), reading=Reading(window=12))
    assert sets.shape == (12, 2)
    assert sets.train.max() < sets.held_out.min()
    assert len(sets.held_out) == pytest.approx(400 / 3, abs=14)
    assert "left out of training by its split" in sets.held_out_from


def test_the_split_that_a_model_was_trained_with_is_made_again(tmp_path):
    data = SyntheticECG(num_series=100, length=16, val_fraction=0.2, seed=3)
    np.save(tmp_path / "all.npy", x := torch.cat([data.train_series(), data.val_series()]).numpy())
    from lightning_freqdiff.data import ArrayData

    trained = ArrayData(str(tmp_path / "all.npy"), val_fraction=0.2, seed=3)
    sets = read_sets(str(tmp_path / "all.npy"), str(tmp_path / "all.npy"), reading=Reading(val_fraction=0.2, seed=3))
    held = {row.tobytes() for row in sets.held_out.numpy()}
    assert held == {row.tobytes() for row in trained.val_series().numpy()}
    np.testing.assert_array_equal(sets.train.numpy(), x[sets.train_rows])


def test_channels_are_held_against_those_of_their_name(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 8, 2)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, columns=["u", "v"])
    np.savez(tmp_path / "b.npz", x=x[..., ::-1], columns=["v", "u"])
    sets = read_sets(str(tmp_path / "b.npz"), str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(sets.generated.numpy(), x)
    assert sets.channels == ("u", "v")


def classes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Series of two paces, the slow one rare."""
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.25).astype(int)
    phase = random.random((n, 1)) * 6
    x = np.sin(phase + np.where(labels, 0.3, 1.2)[:, None] * np.arange(12)) + 0.1 * random.normal(size=(n, 12))
    return x.astype(np.float32)[..., None], labels


QUICK = PostHoc(hidden=16, layers=1, steps=80, batch_size=32, lr=0.02)


@pytest.fixture
def quick(monkeypatch):
    """Train classifiers in a moment."""
    monkeypatch.setattr("lightning_freqdiff.evaluation.labels.CLASSIFIER", QUICK)


@pytest.mark.parametrize("holdout", [True, False])
def test_labels_of_any_kind_and_name_train_classifiers(tmp_path, quick, holdout):
    made, real, fresh = (classes(200, seed) for seed in range(3))
    rows = "".join(
        f"{i},{t},{x[t, 0]},{'ab'[y]}\n" for i, (x, y) in enumerate(zip(*made, strict=True)) for t in range(12)
    )
    (tmp_path / "made.csv").write_text("id,time,channel 0,kind\n" + rows)
    for name, (x, y) in (("real", real), ("fresh", fresh)):
        np.savez(tmp_path / f"{name}.npz", x=x, kind=np.array(["a", "b"])[y])
    paths = [str(tmp_path / name) for name in ("made.csv", "real.npz", *(["fresh.npz"] if holdout else []))]
    sets = read_sets(*paths, reading=Reading(labels="kind"))
    assert sets.labels.names == ("a", "b")
    # Series keep their labels wherever the split takes them.
    for x, labels in ((sets.train, sets.labels.train), (sets.held_out, sets.labels.held_out)):
        origin = {row.tobytes(): label for source in (real, fresh) for row, label in zip(*source, strict=True)}
        assert [origin[row.tobytes()] for row in x.numpy()] == labels.tolist()
    found = measure(sets, EvaluateSettings(("skewness",)))
    assert min(found.labelled["balanced_synthetic"], found.labelled["balanced_real"]) > 0.85
    assert found.labelled["balanced_chance"] == pytest.approx(0.5)
    written = as_json(found, {})["train_on_synthetic"]
    assert written == {**found.labelled, "classes": ["a", "b"]}
    assert f"{found.labelled['balanced_synthetic']:.3f} of a classifier" in usefulness(found.labelled)


def test_labels_follow_the_split_that_a_model_was_trained_with(tmp_path):
    x, y = classes(60, 0)
    np.savez(tmp_path / "real.npz", x=x, y=y)
    sets = read_sets(*[str(tmp_path / "real.npz")] * 2, reading=Reading(val_fraction=0.3))
    origin = {row.tobytes(): label for row, label in zip(x, y, strict=True)}
    for part, labels in ((sets.train, sets.labels.train), (sets.held_out, sets.labels.held_out)):
        assert [origin[row.tobytes()] for row in part.numpy()] == labels.tolist()


def test_labels_that_are_missing_or_no_classes_are_said(tmp_path, quick):
    x, y = classes(60, 0)
    np.savez(tmp_path / "with.npz", x=x, kind=y)
    np.savez(tmp_path / "more.npz", x=x + 1, kind=y + 1)
    np.savez(tmp_path / "without.npz", x=x + 2)
    paths = {name: str(tmp_path / f"{name}.npz") for name in ("with", "more", "without")}
    sets = read_sets(paths["without"], paths["with"], reading=Reading(labels="kind"))
    assert sets.labels is None
    assert "no labels 'kind' in `generated`" in sets.warnings[-1]
    assert "train_on_synthetic" not in as_json(measure(sets, EvaluateSettings(("skewness",))), {})
    found = measure(
        read_sets(paths["more"], paths["with"], reading=Reading(labels="kind")), EvaluateSettings(("skewness",))
    )
    assert found.labelled is None
    assert "classifiers of labels left out: expected the classes of `reference`, got 2 as well" in found.notes[-1]
    np.savez(tmp_path / "with.npz", x=x, kind=y * 0)
    sets = read_sets(paths["with"], paths["with"], reading=Reading(labels="kind"))
    assert (
        "expected 2 to 100 classes in `reference`, got 1" in measure(sets, EvaluateSettings(("skewness",))).notes[-1]
    )


def test_classifiers_are_trained_as_often_as_wanted(monkeypatch):
    seeds = []

    def once(settings, **given):
        seeds.append(settings.seed)
        assert {len(one) for one in given.values()} == {20}
        return {"synthetic": float(settings.seed)}

    monkeypatch.setattr("lightning_freqdiff.evaluation.labels.train_on_synthetic", once)
    sets = [torch.from_numpy(classes(30, seed)[0]) for seed in range(3)]
    labels = Labels.of(*(classes(30, seed)[1] for seed in range(3)))
    assert classify(sets, labels, rows=20, repetitions=3, seed=5) == {"synthetic": 6.0}
    assert seeds == [5, 6, 7]


def test_one_channel_in_the_published_protocol(beats, monkeypatch):
    """TimeGAN's judges have half as many units as channels, which would be none."""
    for name in ("discriminative", "predictive"):
        module = importlib.import_module(f"lightning_freqdiff.metrics.{name}")
        monkeypatch.setattr(module, "TIMEGAN_STEPS", 2)
    train, held, fresh = beats
    asked = EvaluateSettings(("discriminative", "predictive", "correlational"), "timegan")
    found = evaluate(fresh, train, held, asked)
    for name in ("discriminative", "predictive"):
        assert min(found.scores[name].value, found.scores[name].floor, found.scores[name].ceiling) >= 0
    assert "2 channels" in found.scores["correlational"].note
