"""A model that was trained with labels and static covariates, from `fit` to samples: by Python and command line."""

# A part that is not there fails its test.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false
# pyright: reportOperatorIssue=false

import json
import sys

import numpy as np
import pytest
from lightning.pytorch.callbacks import EMAWeightAveraging

import lightning_freqdiff as lf
from lightning_freqdiff.__main__ import main
from lightning_freqdiff.app.studio import Studio
from lightning_freqdiff.condition_table import Table
from lightning_freqdiff.evaluation.calibrate import calibrate
from lightning_freqdiff.sampling import ClassifierFree, InTurn, Sampling

pd = pytest.importorskip("pandas")
N = 12
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
FEW = {"num_steps": 8, **QUIET}


def beats(count=160):
    """Series of two classes that lie apart, with an age and a sex."""
    rng = np.random.default_rng(0)
    kind = np.where(rng.random(count) < 0.25, "V", "N")
    x = rng.normal(size=(count, N, 1)).cumsum(1) + np.where(kind == "V", 8.0, -8.0)[:, None, None]
    return {
        "x": x,
        "beat": kind,
        "age": rng.normal(60, 10, count),
        "sex": np.where(rng.random(count) < 0.5, "f", "m"),
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told") / "run"
    settings = {"labels": "beat", "static": ["age", "sex"], "network": lf.UNet(width=8, heads=2), "batch_size": 32}
    averaged = EMAWeightAveraging(decay=0.9)
    return lf.fit(beats(), max_steps=150, callbacks=averaged, folder=folder, **settings, **QUIET)


def test_the_checkpoint_remembers_what_things_are_called(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    for one in (model, lf.load(model.checkpoint_path), lf.load(tmp_path / "saved")):
        words = one.module.vocabulary
        assert words.classes == ("N", "V")
        assert words.label == "beat"
        assert [column.name for column in words.static] == ["age", "sex"]
        assert one.module.hparams["conditions"] == {"classes": 2, "static": 3, "covariates": 0, "observed": False}
    assert "| classes | N, V |" in (tmp_path / "saved/README.md").read_text()


def test_a_class_is_drawn_by_name_or_number_alone_or_in_a_list(model):
    v = model.sample(16, label="V", **FEW)
    assert v.mean() > 4
    assert model.sample(16, label="N", **FEW).mean() < -4
    np.testing.assert_array_equal(v, model.sample(16, label=1, **FEW))
    each = model.sample(label=["V", "N", 1], **FEW)
    assert each.shape == (3, N, 1)
    np.testing.assert_allclose(each[[0, 2]], v[[0, 2]], atol=1e-4)
    np.testing.assert_allclose(each, model.sample(label=np.array(["V", "N", "V"]), batch_size=1, **FEW), atol=1e-4)


def test_without_a_word_it_is_drawn_without_a_word(model):
    plain = model.sample(6, **FEW)
    np.testing.assert_array_equal(plain, model.sample(6, label=-1, **FEW))
    assert not np.allclose(plain, model.sample(6, label="V", **FEW))


@pytest.mark.filterwarnings("ignore:.*every token was recomputed.*")
def test_a_guidance_of_1_is_none_through_every_cache(model):
    for cache in (None, "wiener"):  # which takes whole stretches where nothing guides
        told = model.sample(4, label="V", cache=cache, **FEW)
        np.testing.assert_array_equal(told, model.sample(4, label="V", guidance_scale=1, cache=cache, **FEW))
    assert not np.allclose(told, model.sample(4, label="V", guidance_scale=3.0, **FEW), atol=1e-3)


def test_gaps_are_filled_towards_a_class(model):
    series = np.full((1, N, 1), np.nan, np.float32)
    series[:, :3] = 0.5
    told = model.impute(series, 3, label="V", **FEW)
    towards = model.impute(series, 3, label="V", guidance_scale=3.0, **FEW)
    assert (towards[:, :, :3] == 0.5).all()
    assert not np.allclose(told, towards, atol=1e-2)  # the class was heard
    alone = model.impute(series, 3, ClassifierFree(3.0), label="V", **FEW)
    assert not np.allclose(alone[:, :, 3:], towards[:, :, 3:], atol=1e-2)  # and so were the values


def test_a_table_of_conditions(model, tmp_path):
    table = pd.DataFrame({"beat": ["V", "N", None], "age": [40.0, np.nan, 70.0], "sex": ["f", "m", None]})
    table.to_csv(tmp_path / "asked.csv", index=False)
    drawn = model.sample(condition=table, **FEW)
    assert drawn.shape == (3, N, 1)
    np.testing.assert_array_equal(drawn, model.sample(condition=tmp_path / "asked.csv", **FEW))
    np.testing.assert_array_equal(drawn, model.sample(condition=table.rename(columns={"beat": "label"}), **FEW))
    alone = model.sample(3, condition=lf.sampling.Same("V", [40.0, "f"]), **FEW)
    np.testing.assert_allclose(drawn[0], alone[0], atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"label": "Q"}, "a class that the model was trained on, one of N, V, got 'Q': set `label`"),
        (
            {"label": ["V", "N"], "num_samples": 3},
            "a row of conditions for each of 3 samples, got 2: set `num_samples` 2",
        ),
        (
            {"condition": {"weight": [1.0]}},
            "columns of beat, age, sex, which the model was trained with, got 'weight'",
        ),
        ({"guidance_scale": 2.0}, "a label or static covariates to guide towards, got none: set `label`"),
        ({"label": "V", "guidance_scale": 1e20}, "from step 1 of 8 on: lower `guidance_scale`"),
    ],
)
def test_what_cannot_be_asked_for(model, settings, says):
    with pytest.raises(ValueError, match=says):
        model.sample(**settings, **FEW)


def command(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lightning_freqdiff", *map(str, words)])
        main()


def test_the_command_line_draws_the_same(model, tmp_path, blank_pictures):
    words = ["predict", "--ckpt_path", model.checkpoint_path, "--sampling.num_steps=8", "--trainer.accelerator=cpu"]
    asked = ["--sampling.label=V", "--sampling.guidance_scale=2", "--sampling.num_samples=4"]
    command(*words, *asked, "--sampling.output", tmp_path / "v")
    drawn = np.load(tmp_path / "v/samples.npy")
    np.testing.assert_allclose(drawn, model.sample(4, label="V", guidance_scale=2.0, **FEW), atol=1e-5)
    settings = json.loads((tmp_path / "v/manifest.json").read_text())["identity"]["sampling"]
    assert settings["condition"]["init_args"]["label"] == "V"
    assert settings["guidance"]["init_args"] == {"scale": 2.0, "interval": [0.0, 1.0]}
    (tmp_path / "asked.csv").write_text("beat,age\nV,50\nN,\n")
    table = ["--sampling.condition=Table", f"--sampling.condition.path={tmp_path / 'asked.csv'}"]
    command(*words, *table, "--sampling.num_samples=2", "--sampling.output", tmp_path / "table")
    assert np.load(tmp_path / "table/samples.npy").shape == (2, N, 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sampling.label=Q"], "one of N, V, got 'Q': set --sampling.label"),
        (
            ["--sampling.label=[V,N]"],
            "a row of conditions for each of 64 samples, got 2: set --sampling.num_samples 2",
        ),
        (["--sampling.guidance=ClassifierFree", "--sampling.guidance.interval=[0.9,0.1]"], "the lower first"),
    ],
)
def test_errors_of_the_command_line_leave_nothing_behind(model, tmp_path, capsys, words, says):
    with pytest.raises(SystemExit):
        command("predict", "--ckpt_path", model.checkpoint_path, "--sampling.output", tmp_path / "out", *words)
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_those_who_measure_draw_under_the_labels_of_the_data(model):
    sampling = model.module.as_trained(Sampling(num_samples=100))
    assert isinstance(sampling.condition, InTurn)
    share = (sampling.condition.rows(0, 100).label == 1).float().mean()
    real = (beats()["beat"] == "V").mean()
    assert float(share) == pytest.approx(real, abs=0.06)
    asked = Sampling(label="V")
    assert model.module.as_trained(asked) == asked
    fitted, _ = calibrate(model.module, Sampling(num_samples=4, num_steps=60, guidance=ClassifierFree()))
    assert fitted["wiener.rate"].isfinite().all()


def test_caches_are_compared_under_the_labels_of_the_data(model, tmp_path, blank_pictures):
    few = {"num_samples": 2, "num_steps": 8, "rounds": 1, "output": tmp_path / "compared"}
    assert "foca" in [row["name"] for row in lf.compare(model, ["foca"], data=model.data, **few)]
    known = json.loads((tmp_path / "compared/compare.json").read_text())["sampling"]["condition"]
    assert known == {"digest": model.module.as_trained(Sampling()).condition.digest}


def test_covariates_and_the_calendar_are_asked_for_by_a_table(tmp_path):
    rng, count = np.random.default_rng(0), 60
    series = np.arange(count).repeat(N)
    time = np.datetime64("2024-01-01T00:00") + np.timedelta64(1, "h") * np.arange(count * N)
    price = rng.normal(size=count).repeat(N)
    table = pd.DataFrame({"id": series, "time": time, "load": 5 * price + rng.normal(size=count * N), "price": price})
    settings = {"id": "id", "time": "time", "covariates": "price", "calendar": ["hour"]}
    model = lf.fit(
        table, max_steps=3, folder=tmp_path / "run", network=lf.UNet(width=8, heads=2), **settings, **QUIET
    )
    assert model.channels == ("load",)
    assert model.module.score.sizes.covariates == 3
    assert model.module.vocabulary.calendar == ("hour",)
    asked = table[table.id < 2].drop(columns="load")
    two = model.sample(condition=asked, format="numpy", **FEW)
    assert two.shape == (2, N, 1)
    command_like = Table.of(asked[asked.id == 0].drop(columns="id"), time="time")
    one = model.sample(2, condition=command_like, format="numpy", **FEW)
    np.testing.assert_allclose(one[0], two[0], atol=1e-4)  # one table for all samples
    for wrong, says in (
        (asked[asked.id == 0].iloc[:5], "covariates at 12 steps of each sample, got 5"),
        (asked.iloc[:-1], "as many steps of each sample, got 11 to 12"),
        (asked.drop(columns="time"), "expected columns of price"),
    ):
        with pytest.raises(ValueError, match=says):
            model.sample(condition=wrong, **FEW)


def test_a_model_without_labels_refuses_one(tmp_path):
    x = beats()["x"]
    plain = lf.fit(x, network="MLP", max_steps=2, enable_checkpointing=False, logger=False, **QUIET)
    for label, says in ((0, "expected labels below 0"), ("V", "with labels, got one without"), ([0, 0], "without")):
        with pytest.raises(ValueError, match=says):
            plain.sample(2, label=label, **FEW)
    with pytest.raises(ValueError, match="a network that can be told of labels.*got an MLP"):
        lf.fit(beats(), labels="beat", static=["age", "sex"], network="MLP", folder=tmp_path / "no", **QUIET)


def test_the_page_offers_classes_by_name(model):
    studio = Studio(model)
    assert studio.class_names == ("N", "V")
    given = {"num_samples": 16, "num_steps": 12, "solver": "Heun", "seed": 0, "label": 1}
    pair = studio.draw(given, "wiener", lambda what, share: None)
    assert float(pair.uncached.series.mean()) > 3
