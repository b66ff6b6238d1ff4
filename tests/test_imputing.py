"""Gaps filled and forecasts drawn, as a user of Python meets them."""

import numpy as np
import pytest
import torch

import lightning_freqdiff as lf
from lightning_freqdiff.callbacks.identity import sampling_settings
from lightning_freqdiff.cli.tasks import for_task
from lightning_freqdiff.conditional import gaussian_of
from lightning_freqdiff.sampling import (
    Constrained,
    Fixed,
    GaussianPosterior,
    Given,
    Listed,
    Replacement,
    Same,
    Sampling,
)

pd = pytest.importorskip("pandas")

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
FEW = {"num_steps": 10, **QUIET}
N, M = 16, 2
SERIES = np.random.default_rng(0).normal(size=(64, N, M)).cumsum(1).astype(np.float32)


def train(folder, series=SERIES, **settings):
    small = {"network": lf.UNet(width=8, heads=2), "max_steps": 4, "folder": folder / "run", **QUIET}
    return lf.fit(series, **{**small, **settings})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> lf.Model:
    return train(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> lf.Model:
    return train(tmp_path_factory.mktemp("told"), observe=0.8)


def gappy(count=3, seed=1):
    x = SERIES[:count].copy()
    x[np.random.default_rng(seed).random(x.shape) < 0.4] = np.nan
    return x


@pytest.mark.parametrize("method", [None, "linear", "Replacement", GaussianPosterior(), Replacement(2, 3)], ids=str)
@pytest.mark.parametrize("kind", ["model", "told"])
def test_what_is_known_comes_out_as_it_is(kind, method, request):
    x = gappy()
    filled = request.getfixturevalue(kind).impute(x, 4, method, **FEW)
    assert filled.shape == (3, 4, N, M)
    assert filled.dtype == np.float32
    seen = ~np.isnan(x)
    for draw in filled.transpose(1, 0, 2, 3):
        np.testing.assert_array_equal(draw[seen], x[seen])
    assert np.isfinite(filled).all()
    assert (filled.std(1)[~seen] > 0).all()


def test_a_function_of_series_pulls_what_is_predicted(model):
    """In Lightning's inference mode, through whose tensors no gradient goes."""
    high, plain = (
        model.sample(50, num_steps=50, constraint=constraint, **QUIET)
        for constraint in (Constrained([lambda x: (x.mean((1, 2)) - 5).square()]), None)
    )
    assert np.abs(high.mean((1, 2)) - 5).mean() < 0.5 * np.abs(plain.mean((1, 2)) - 5).mean()


@pytest.mark.parametrize("method", [None, "linear", "Replacement"])
def test_a_sample_depends_on_seed_series_and_number_alone(model, method):
    x = gappy(3)
    whole = model.impute(x, 5, method, **FEW)
    again = {
        "batches of one": model.impute(x, 5, method, batch_size=1, **FEW),
        "of another size": model.impute(x, 5, method, batch_size=7, **FEW),
        "more of them": model.impute(x, 9, method, **FEW)[:, :5],
    }
    for name, drawn in again.items():
        np.testing.assert_allclose(drawn, whole, atol=2e-4, err_msg=name)
    other = gappy(3)
    other[1:] = SERIES[5:7]
    np.testing.assert_allclose(model.impute(other, 5, method, **FEW)[0], whole[0], atol=2e-4)
    assert not np.allclose(model.impute(x, 5, method, seed=1, **FEW), whole)
    hidden = np.full((2, N, M), np.nan, np.float32)
    first, second = model.impute(hidden, 3, method, **FEW)
    assert not np.allclose(first, second)


@pytest.mark.filterwarnings("ignore:.*every token was recomputed.*")
@pytest.mark.parametrize("cache", [None, "wiener"])
def test_nothing_known_is_sample_and_everything_known_is_returned(model, told, cache):
    hidden = np.full((1, N, M), np.nan)
    for one in (model, told):
        plain = one.sample(6, cache=cache, **FEW)
        np.testing.assert_array_equal(one.impute(hidden, 6, cache=cache, **FEW)[0], plain)
    whole = model.impute(SERIES[:2], 3, **FEW)
    np.testing.assert_array_equal(whole, np.repeat(SERIES[:2, None], 3, axis=1))


def test_a_network_that_was_told_hears_of_the_values(told, model):
    """Where the values are others, but the linear model's correction is the same."""
    x = gappy(1)
    z = torch.randn(1, *told.module.score.noise_scale.shape)
    seen = torch.from_numpy(~np.isnan(x)).float()
    from lightning_freqdiff.condition import Condition

    conditions = [Condition(observed=torch.full((1, N, M), value), mask=seen) for value in (0.0, 3.0)]
    for one, hears in ((told, True), (model, False)):
        torch.nn.init.normal_(list(one.module.score.network.parameters())[-1], std=0.3)
        for parameter in one.module.score.network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        with torch.no_grad():
            a, b = (one.module.score(z, torch.tensor(0.3), known) for known in conditions)
        assert bool((a - b).abs().max() > 1e-4) == hears


def test_the_linear_method_is_the_conditional_law(model):
    x = gappy(1)
    drawn = model.impute(x, 3000, "linear")
    codec, seen = model.module.score.codec, torch.from_numpy(~np.isnan(x)).float()
    mean = gaussian_of(codec).draw(torch.from_numpy(x), seen).numpy()
    np.testing.assert_allclose(drawn.mean(1), mean, atol=0.25)


def test_a_forecast_is_the_end_of_what_is_filled_in(model):
    history = SERIES[:2, : N - 4]
    drawn = model.forecast(history, 4, 3, **FEW)
    assert drawn.shape == (2, 3, 4, M)
    whole = np.concatenate([history, np.full((2, 4, M), np.nan, np.float32)], axis=1)
    np.testing.assert_array_equal(drawn, model.impute(whole, 3, **FEW)[:, :, -4:])
    longer = np.concatenate([SERIES[:2, ::-1], history], axis=1)
    np.testing.assert_array_equal(drawn, model.forecast(longer, 4, 3, **FEW))
    shorter = np.full((2, N, M), np.nan, np.float32)
    shorter[:, 8:12] = history[:, -4:]
    np.testing.assert_array_equal(
        model.forecast(history[:, -4:], 4, 3, **FEW), model.impute(shorter, 3, **FEW)[:, :, -4:]
    )
    np.testing.assert_allclose(model.forecast(history[0], 4, 3, **FEW), drawn[:1], atol=2e-4)
    uneven = model.forecast([history[0], history[1, -5:]], 4, 3, **FEW)
    np.testing.assert_allclose(uneven[0], drawn[0], atol=2e-4)


def frame(x, names=("a", "b")):
    count, length, _ = x.shape
    columns = {"id": np.repeat(np.arange(count), length), "time": np.tile(np.arange(length), count)}
    return pd.DataFrame({**columns, **{name: x[..., m].ravel() for m, name in enumerate(names)}})


def test_data_frames_in_and_out(tmp_path_factory):
    model = train(tmp_path_factory.mktemp("frame"), frame(SERIES))
    x = gappy(2)
    table = frame(x)
    filled = model.impute(table, 3, **FEW)
    assert isinstance(filled, pd.DataFrame)
    assert list(filled) == ["series", "sample", "step", "a", "b"]
    assert len(filled) == 2 * 3 * N
    array = model.impute(x, 3, format="numpy", **FEW)
    one = filled[(filled.series == "1") & (filled["sample"] == 2)]
    np.testing.assert_allclose(one[["a", "b"]], array[1, 2])
    swapped = model.impute(table[["id", "time", "b", "a"]], 3, **FEW)
    pd.testing.assert_frame_equal(swapped, filled)
    single = table[table.id == 0].drop(columns=["id", "time"])
    assert set(model.impute(single, 2, **FEW).series) == {0}
    assert len(model.forecast(table, 4, 2, **FEW)) == 2 * 2 * 4


def test_one_channel_may_lack_its_axis(tmp_path_factory):
    model = train(tmp_path_factory.mktemp("single"), SERIES[..., 0])
    x = gappy(3)[..., 0]
    filled = model.impute(x, 2, **FEW)
    assert filled.shape == (3, 2, N, 1)
    np.testing.assert_array_equal(model.impute(x[..., None], 2, **FEW), filled)
    np.testing.assert_array_equal(model.impute(pd.DataFrame(x), 2, format="numpy", **FEW), filled)
    assert model.forecast(x[0, :10], 3, 2, **FEW).shape == (1, 2, 3, 1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.impute(np.zeros((2, N + 1, M)), 2), "of the 16 steps .* got 17 steps: set `x`"),
        (lambda m: m.impute(np.zeros((2, N, 3)), 2), "the 2 channels that .* got 3 in shape .*: set `x`"),
        (lambda m: m.impute(np.zeros((2, 2, N, M)), 2), "got an array of shape"),
        (lambda m: m.impute(np.full((1, N, M), np.inf), 2), "got infinite ones: set `x`"),
        (lambda m: m.impute(gappy(), 0), "num_samples from 1 .* got 0: set `num_samples`"),
        (lambda m: m.impute(gappy(), 2, "Repaint"), "`method` as one of .*Replacement.*, linear, got 'Repaint'"),
        (lambda m: m.impute(gappy(), 2, "Replacement", constraint=Replacement()), "`method` or `constraint`"),
        (lambda m: m.forecast(SERIES[:1], 0), "horizon from 1 to 15, .* got 0: set `horizon`"),
        (lambda m: m.forecast(SERIES[:1], N), "horizon from 1 to 15, .* got 16: set `horizon`"),
        (lambda m: m.forecast(SERIES[:1], 3, covariates=np.zeros((1, 19, 2))), r"expected covariates \(1, T, 0\)"),
    ],
)
def test_bad_input_ends_in_one_line(model, call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_covariates_have_to_reach_the_horizon():
    from lightning_freqdiff.imputing import covariates_of

    with pytest.raises(ValueError, match="covariates of 14 steps, to the end of the horizon, got 12"):
        covariates_of(np.zeros((1, 12, 2)), 1, 16, 14, 2)
    known = covariates_of(np.arange(20.0).reshape(20, 1), 2, 16, 14, 1)
    assert known is not None
    assert known[1, :, 0].tolist() == list(range(4, 20))
    padded = covariates_of(np.arange(14.0).reshape(14, 1), 1, 16, 14, 1)
    assert padded is not None
    assert padded[0, :, 0].tolist() == [0, 0, *range(14)]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A model of series with labels, a category and a covariate in degrees, and a table of such series with gaps."""
    rng, n = np.random.default_rng(2), 24
    steps = {"id": np.repeat(np.arange(n), N), "time": np.tile(np.arange(N), n)}
    beside = {
        "kind": np.repeat(["calm", "storm"] * (n // 2), N),
        "area": np.repeat(["n", "s", "s", "n"] * (n // 4), N),
    }
    table = pd.DataFrame({**steps, "load": rng.normal(size=n * N), "degrees": rng.normal(20, 5, n * N), **beside})
    names = {"labels": "kind", "static": "area", "covariates": "degrees"}
    model = train(tmp_path_factory.mktemp("labelled"), table, **names)
    gappy = table[table.id < 3].copy()
    gappy.loc[gappy.time.between(4, 7) & (gappy.id != 1), "load"] = np.nan
    return model, gappy, lf.ArrayData.of(gappy, **names)


def heard(model, monkeypatch) -> list:
    """What samples are drawn under, instead of drawing them."""
    known = []

    def note(self, num_samples, condition, **settings):
        known.append(condition.said_in(self.module.vocabulary).rows(0, num_samples))
        return np.zeros((num_samples, *self.shape), np.float32)

    monkeypatch.setattr(lf.Model, "sample", note)
    return known


def standardised(model, degrees):
    (column,) = model.module.vocabulary.covariates
    return torch.tensor((degrees - column.mean) / column.scale).float()


def test_what_comes_beside_of_series_is_told(labelled, monkeypatch):
    model, table, data = labelled
    known = heard(model, monkeypatch)
    filled = model.impute(data, 2)
    assert filled.columns.tolist() == ["series", "sample", "step", "load"]
    (told,) = known
    degrees = table.degrees.to_numpy().reshape(3, N)[[0, 0, 2, 2]]
    torch.testing.assert_close(told.covariates[..., 0], standardised(model, degrees))
    assert told.label.tolist() == [0, 0, 0, 0]
    assert told.static.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    model.impute(data, 2, label="storm")
    assert known[1].label.tolist() == [1, 1, 1, 1]


def test_a_table_tells_of_each_series_or_of_all(labelled, monkeypatch):
    model, _, data = labelled
    known = heard(model, monkeypatch)
    model.impute(data, 2, condition=pd.DataFrame({"kind": ["calm", "calm", "storm"], "area": ["n", "n", "s"]}))
    assert known[0].label.tolist() == [0, 0, 1, 1]
    assert known[0].static.tolist() == [[1, 0]] * 2 + [[0, 1]] * 2
    model.impute(data, 2, condition={"kind": ["storm"]})
    assert known[1].label.tolist() == [1] * 4


@pytest.mark.parametrize("method", ["linear", None])
def test_a_setting_that_nobody_knows_is_refused_by_every_method(model, method):
    with pytest.raises(TypeError, match="'num_step'; is `num_step.*` meant"):
        model.impute(gappy(), 2, method, num_step=3)


def test_of_a_horizon_no_covariates_came(labelled, monkeypatch):
    model, table, data = labelled
    known = heard(model, monkeypatch)
    model.forecast(data, 5, 2)
    told = known[0].covariates[..., 0]
    degrees = table.degrees.to_numpy().reshape(3, N)[[0, 0, 1, 1, 2, 2], 5:]
    torch.testing.assert_close(told[:, : N - 5], standardised(model, degrees))
    assert told[:, N - 5 :].isnan().all()


def test_covariates_are_given_in_the_units_of_the_data(labelled, monkeypatch):
    model, table, _ = labelled
    known = heard(model, monkeypatch)
    degrees = table.degrees.to_numpy().reshape(3, N, 1)
    model.impute(table[["id", "time", "load"]], 1, covariates=degrees)
    torch.testing.assert_close(known[0].covariates, standardised(model, degrees[[0, 2]]))


def test_the_command_line_tells_the_same(labelled, monkeypatch):
    model, _, data = labelled
    known = heard(model, monkeypatch)
    model.impute(data, 2)
    model.module.sampling = Sampling(num_samples=2)
    given = for_task(model.module, data, {"task": "impute"}).condition
    assert given is not None
    told = given.said_in(model.module.vocabulary).rows(0, 6)
    for name, part in known[0].parts():
        torch.testing.assert_close(dict(told.parts())[name][[0, 1, 4, 5]], part, equal_nan=True)


def test_other_covariates_are_refused(labelled, model):
    _, _, data = labelled
    with pytest.raises(ValueError, match=r"trained with \(none\), got degrees"):
        model.impute(data, 2)


def test_a_run_under_another_label_is_another_run():
    values = torch.full((1, N, M), torch.nan)
    runs = [Sampling(condition=Given(values, 2, beside=beside)) for beside in (None, Same("N"), Same("V"))]
    written = [sampling_settings(run)["condition"] for run in runs]
    assert all(a != b for i, a in enumerate(written) for b in written[:i])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"label": ["calm"]}, "one label, or one for each of 3 series, got 1: set `label`"),
        ({"label": "calm", "condition": Same("calm")}, "`label` or `condition`, got both"),
        ({"condition": {"kind": ["calm"] * 2}}, "a row for each of 3 series, or one for all, got 2: set `condition`"),
        ({"condition": 3}, "`condition` as a data frame, .* or one of Conditions, got int"),
        ({"condition": {"patient": [1, 2, 3]}}, "got 'patient': if it tells the samples apart, set `condition.id`"),
        ({"condition": Listed({"kind": ["calm"] * 3}), **FEW}, "conditions for each of 4 samples, got 3"),
        ({"method": "linear", "label": "fog"}, "one of calm, storm, got 'fog'"),
        ({"constraint": lambda: Constrained(["Bounds"])}, "expected rules.* got 'Bounds'"),
        ({"constraint": lambda: Constrained([Fixed(value=float("nan"))])}, "expected rules.* got Fixed"),
    ],
)
def test_what_cannot_be_told_is_refused_in_one_line(labelled, settings, says):
    model, _, data = labelled
    settings = FEW | settings
    with pytest.raises(ValueError, match=says):
        model.impute(data, 2, **{k: v() if callable(v) else v for k, v in settings.items()})


def test_the_linear_model_hears_no_labels(labelled):
    model, table, data = labelled
    plain = model.impute(table[["id", "time", "load"]], 2, "linear")
    pd.testing.assert_frame_equal(model.impute(data, 2, "linear", label=np.array(["calm"] * 3)), plain)


@pytest.mark.parametrize("count", [0, 2.5])
def test_a_number_of_samples_that_is_none_is_refused(model, count):
    with pytest.raises(ValueError, match="expected num_samples from 1 to"):
        model.impute(gappy(), count)
