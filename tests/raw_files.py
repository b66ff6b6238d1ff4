"""Small files in the layout in which each data set is published, made from a seed."""

import zlib
from datetime import date, timedelta
from pathlib import Path

import numpy as np

ECG_ROWS = {"mitbih_train.csv": 30, "mitbih_test.csv": 11, "ptbdb_normal.csv": 9, "ptbdb_abnormal.csv": 14}
TRADING_DAYS = [d for d in (date(2019, 1, 2) + timedelta(i) for i in range(364)) if d.weekday() < 5][:252]
WEATHER = [
    *("PRECTOT", "PS", "QV2M", "T2M", "T2MDEW", "T2MWET", "T2M_MAX", "T2M_MIN", "T2M_RANGE", "TS", "WS10M"),
    *("WS10M_MAX", "WS10M_MIN", "WS10M_RANGE", "WS50M", "WS50M_MAX", "WS50M_MIN", "WS50M_RANGE"),
]


def heartbeats(folder: Path) -> dict[str, np.ndarray]:
    """Tables without a header, 187 steps and a label, in the format of the published ones."""
    rng = np.random.default_rng(0)
    tables = {}
    for name, rows in ECG_ROWS.items():
        labels = np.arange(rows) % (5 if name.startswith("mitbih") else 2)
        tables[name] = np.column_stack([rng.random((rows, 187)), labels])
        np.savetxt(folder / name, tables[name], delimiter=",", fmt="%.18e")
    return tables


def stock(path: Path, days: list[date], first: float = 10.0, drop: tuple[int, str] | None = None) -> np.ndarray:
    """One stock: prices `(days, 6)` in the order of the file; `drop` empties a cell."""
    rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
    prices = np.round(first + rng.random((len(days), 6)).cumsum(0), 6)
    lines = ["Date,Open,High,Low,Close,Adj Close,Volume"]
    for i, (day, row) in enumerate(zip(days, prices, strict=True)):
        cells = [str(v) for v in row]
        if drop and i == drop[0]:
            cells[lines[0].split(",").index(drop[1]) - 1] = ""
        lines.append(",".join([day.isoformat(), *cells]))
    path.write_text("\n".join(lines) + "\n")
    return prices


def stocks(folder: Path, count: int = 6) -> None:
    """Stocks that are listed before 2019 and traded after."""
    (folder / "stocks").mkdir(parents=True, exist_ok=True)
    days = [date(2018, 12, 31), *TRADING_DAYS, date(2020, 1, 2)]
    for i in range(count):
        stock(folder / "stocks" / f"S{i:02}.csv", days)


def battery(path: Path, kind: str, seconds: float, step: float, seed: int = 0) -> np.ndarray:
    """One cycle: a reading every `step` seconds, as columns of the cleaned tables; `Time` is the last."""
    end = {"charge": "charge", "discharge": "load"}[kind]
    time = np.arange(0, seconds, step)
    values = np.random.default_rng(seed).random((len(time), 5)).cumsum(0)
    names = f"Voltage_measured,Current_measured,Temperature_measured,Current_{end},Voltage_{end},Time"
    table = np.column_stack([values, time])
    np.savetxt(path, table, delimiter=",", header=names, comments="")
    return table


def batteries(folder: Path) -> None:
    """Three cells with five cycles of each kind, and an impedance measurement."""
    data = folder / "cleaned_dataset" / "data"
    data.mkdir(parents=True)
    lines = ["type,start_time,ambient_temperature,battery_id,test_id,uid,filename,Capacity,Re,Rct"]
    kinds = ["charge", "discharge"] * 15 + ["impedance"]
    for i, kind in enumerate(kinds):
        name = f"{i + 1:05}.csv"
        lines.append(f'{kind},"[2010. 7. 21. 15. 0. {i}.093]",24,B{i // 10:04},{i},{i},{name},1.5,,')
        if kind == "impedance":
            (data / name).write_text("Sense_current,Battery_current\n(1+2j),(3+4j)\n")
        else:
            battery(data / name, kind, 5100 if kind == "charge" else 2100, 9.7, seed=i)
    (folder / "cleaned_dataset" / "metadata.csv").write_text("\n".join(lines) + "\n")


def weather(folder: Path, counties: tuple[int, ...] = (1001, 1003, 4001, 56045), year: int = 2011) -> np.ndarray:
    """Daily weather of counties `(counties, days, 18)`, with two days of the years around it."""
    (folder / "train_timeseries").mkdir(parents=True, exist_ok=True)
    days = [date(year, 1, 1) + timedelta(i) for i in range(-2, 367)]
    values = np.round(np.random.default_rng(0).random((len(counties), len(days), len(WEATHER))), 2)
    lines = [",".join(["fips", "date", *WEATHER, "score"])]
    for county, its in zip(counties, values, strict=True):
        for i, (day, row) in enumerate(zip(days, its, strict=True)):
            score = "1.0" if i % 7 == 0 else ""
            lines.append(",".join([str(county), day.isoformat(), *(str(v) for v in row), score]))
    (folder / "train_timeseries" / "train_timeseries.csv").write_text("\n".join(lines) + "\n")
    return values[:, [i for i, day in enumerate(days) if day.year == year]]


def stays(path: Path, count: int = 24, features: int = 50) -> np.ndarray:
    """Hourly means `(stays, 24, features)`, most of them missing; two stays a patient."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 24, features)).cumsum(1) * np.linspace(3, 1, features)
    x[rng.random(x.shape) < 0.7] = np.nan
    np.savez(path, x=x, subject_id=np.arange(count) // 2, columns=np.array([f"f{i}" for i in range(features)]))
    return x


def long_table(path: Path, names: str, steps: int = 400, quote: bool = False) -> np.ndarray:
    """One long series; the first name may be `date`."""
    header = names.split(",")
    channels = [name for name in header if name != "date"]
    values = np.round(np.random.default_rng(0).normal(size=(steps, len(channels))).cumsum(0), 4)
    mark = '"' if quote else ""
    lines = [",".join(f"{mark}{name}{mark}" for name in header)]
    for i, row in enumerate(values):
        cells = ([f"2016-07-01 00:{i:02}:00"] if "date" in header else []) + [str(v) for v in row]
        lines.append(",".join(f"{mark}{cell}{mark}" for cell in cells))
    path.write_text("\n".join(lines) + "\n")
    return values


def archive(folder: Path, name: str = "ArrowHead") -> np.ndarray:
    """A set of the UCR archive: 20 series to train on and 8 to test on, 30 steps."""
    x = np.round(np.random.default_rng(0).normal(size=(28, 30)), 4)
    for part, rows in (("TRAIN", x[:20]), ("TEST", x[20:])):
        lines = ["# a comment", f"@problemName {name}", "@univariate true", "@classLabel true a b", "@data"]
        lines += [f"{','.join(map(str, row))}:{'ab'[i % 2]}" for i, row in enumerate(rows)]
        (folder / f"{name}_{part}.ts").write_text("\n".join(lines) + "\n")
    return x


ETT = "date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT"
STOCKS = "Open,High,Low,Close,Adj_Close,Volume"


def everything(folder: Path) -> None:
    """Files of every data set that has some, as the configurations need them."""
    heartbeats(folder)
    stocks(folder)
    batteries(folder)
    weather(folder)
    stays(folder / "mimic3.npz")
    long_table(folder / "ETTh1.csv", ETT)
    long_table(folder / "stock_data.csv", STOCKS)
    long_table(folder / "energydata_complete.csv", "date,Appliances,lights,T1", quote=True)
    archive(folder)


def own_tables(folder: Path) -> None:
    """What a user may bring: an hourly table, heartbeats of several patients, and a folder of recordings."""
    rng = np.random.default_rng(0)
    rows = [f"{date(2020, 1, 1) + timedelta(i)},{a:.4f},{b:.4f}" for i, (a, b) in enumerate(rng.random((400, 2)))]
    (folder / "hourly.csv").write_text("\n".join(["date,load,temperature", *rows]) + "\n")
    beats = [f"{i // 4},{i},{t},{rng.random():.4f}" for i in range(40) for t in range(9)]
    (folder / "beats.csv").write_text("\n".join(["patient,beat,t,lead", *beats]) + "\n")
    people = [f"{'NV'[i % 2]},{40 + i},{'fm'[i % 3 > 0]}" for i in range(40)]
    told = [f"{i},{t},{rng.random():.4f},{one}" for i, one in enumerate(people) for t in range(9)]
    (folder / "told.csv").write_text("\n".join(["beat,t,lead,kind,age,sex", *told]) + "\n")
    (folder / "asked.csv").write_text("kind,age,sex\nV,40,f\nN,63,\nV,51,m\n,,\n")
    day = [f"{date(2024, 3, 1) + timedelta(i)},{0.1 * i:.1f}" for i in range(24)]
    (folder / "day.csv").write_text("\n".join(["date,temperature", *day]) + "\n")
    gaps = np.where(rng.random((60, 12)) < 0.2, np.nan, rng.normal(size=(60, 12)))
    lines = [",".join("" if value != value else f"{value:.3f}" for value in row) for row in gaps.tolist()]
    (folder / "gaps.csv").write_text("\n".join([",".join(f"s{i}" for i in range(12)), *lines]) + "\n")
    (folder / "recordings").mkdir()
    for i in range(12):
        steps = [f"{a:.4f},{b:.4f}" for a, b in rng.random((20 + i, 2))]
        (folder / "recordings" / f"{i}.csv").write_text("\n".join(["a,b", *steps]) + "\n")
