"""From a table to a first recorded run: what is looked at, what is written, what is refused."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project, copy_project

from saigen.errors import Refusal
from saigen.starting import example
from saigen.starting.columns import kind_of, read_table
from saigen.starting.init_data import init_data

NOTHING = {"name": None, "target": None, "task": None}


def cars(delimiter: str = ",") -> str:
    """A messy table of 150 rows: gaps, a constant, free text, odd names, quotes, an index."""
    draw = random.Random(7)
    lines = [delimiter.join(("", "Price ($)", "h.p.", "it's", "Built", "Origin", "Name", "Wheels"))]
    for number in range(150):
        power = draw.randrange(50, 200)
        price = "NA" if number % 25 == 3 else f"{power * 100 + draw.randrange(500)}.5"
        gap, origin = "" if number % 10 == 0 else str(power), draw.choice(("USA", "Japan", "日本"))
        date, name = f"19{70 + number % 12}/01/01 13:30", f'"a ""{number}"" car"'
        lines.append(delimiter.join((str(number), price, gap, " 3.5 " if number % 2 else "4",
                                     date, origin, name, "4")))  # fmt: skip
    return "\n".join(lines) + "\n"


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    """A project without the example."""
    project = copy_project(tmp_path / "bare")
    for name in ("README.md", ".gitignore"):
        (project.root / name).write_text((ROOT / name).read_text())
    example.remove(project.root, str)
    subprocess.run(["git", "init", "-q", "."], cwd=project.root, check=True)
    return project


def written(project: Project) -> set[str]:
    return {str(p.relative_to(project.root)) for p in project.root.rglob("*") if p.is_file()}


def test_a_messy_table_trains_at_once_and_predicts_new_rows(bare, tmp_path):
    table = tmp_path / "My cars.csv"
    table.write_text(cars(), encoding="utf-8-sig")
    told = bare.saigen("init-data", str(table), "--target", "Price ($)")
    assert "Name: left out: text with 144 different values" in told
    assert "Wheels: left out: it is the same in every row" in told
    assert "144 rows, 6 without Price ($) left out" in told
    found = yaml.safe_load((bare.root / "conf/prepare/my_cars.yaml").read_text())["preparation"]
    assert found["numbers"] == ["h.p.", "it's"]
    assert (found["dates"], found["may_lack"]) == (["Built"], ["h.p."])
    assert found["categories"] == [["Origin", "Japan", "USA", "日本"]]
    said = json.loads((bare.root / "data/my_cars_provenance.json").read_text())
    assert said["conditions"] == "144 rows, 6 without Price ($) left out"
    assert "my_cars" in bare.saigen("data")
    assert "rmse" in bare.saigen("train", "trainer.max_epochs=9")
    (model,) = bare.root.glob("runs/*/model")
    rows = cars().splitlines()
    new = ["h.p.,it's,Built,Origin", "120,4,1975-01-01,USA", "NA,,?,Mars"]
    (bare.root / "new.csv").write_text("\n".join(new) + "\n")
    (bare.root / "raw.csv").write_text("\n".join([rows[0], *rows[4:8]]) + "\n")  # one has no price
    for name, count in (("new.csv", 2), ("raw.csv", 4)):
        predicted = bare.saigen("predict", str(model), name).splitlines()
        assert predicted[0] == "id,value"
        assert all(float(line.split(",")[1]) for line in predicted[1:])
        assert len(predicted) == 1 + count
    edited = bare.root / "data/my_cars.csv"
    edited.write_text("".join(edited.read_text().splitlines(keepends=True)[:-1]))
    assert "the snapshot is not the one that was taken" in bare.refused("data")
    told = bare.saigen("provenance", "--source", "the desk of Ada")
    assert "143 rows" in told
    said = json.loads((bare.root / "data/my_cars_provenance.json").read_text())
    assert (said["source"], said["rows"]) == ("the desk of Ada", 143)
    assert "144 rows, 6 without" in said["conditions"]
    assert "143 rows" in bare.saigen("data")
    assert "says so already" in bare.saigen("provenance")
    tools = ROOT / "tools/hidden_defaults.py"
    lint = [sys.executable, tools, bare.root / "src/project"]
    assert subprocess.run(lint, cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
def test_classes_behind_semicolons_train_in_the_pipeline(bare, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(cars(";"))
    bare.saigen("init-data", str(table), "--target", "Origin", "--name", "mine")
    done = bare.run("dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((bare.root / "results/record.json").read_text())
    assert "accuracy" in record["outcome"]["metrics"]
    predictions = bare.saigen("predict", "model", "data/mine.csv").splitlines()
    recorded = (bare.root / "results/predictions.csv").read_text().splitlines()
    assert set(recorded) <= set(predictions)


def test_a_list_of_json_objects_is_a_table(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(
        json.dumps([{"a": n, "b": None if n else "x", "c": n % 2 == 0} for n in range(30)])
    )
    table = read_table(path)
    assert table.names == ("a", "b", "c")
    assert kind_of(table, "a").kind == "number"
    assert kind_of(table, "c").values == ("false", "true")
    assert kind_of(table, "b").empty == 29


WRONG = {  # content, target and task -> what the refusal says
    "t.csv": [
        ("", "y", None, "20 rows or more"),
        (",y\n" + "2,3\n" * 30, "y", None, "name for each column"),
        ("a,y\n1,2\n", "y", None, "20 rows or more"),
        ("a,a\n" + "1,2\n" * 30, "a", None, "each once"),
        ("a,y\n" + "1,2\n" * 30 + "1\n", "y", None, ":32"),
        ('a,y\n1,"2\n' + "1,2\n" * 30, "y", None, "rows of CSV"),
        ("a,b\n" + "1,2\n" * 30, None, None, "which column is to be predicted?"),
        ("a,b\n" + "1,2\n" * 30, "c", None, "one of a, b"),
        ("a,y\n" + "".join(f"1,{n}\n" for n in range(30)), "y", None, "no column is of use"),
        ("a,y\n" + "".join(f"{n},t{n}\n" for n in range(30)), "y", None, "cannot be learned"),
        ("a,y\n" + "".join(f"{n},{'tf'[n % 2]}\n" for n in range(30)), "y", "regression",
         "--task classification"),
        ("a,y\n" + "".join(f"{n},{n}.5\n" for n in range(30)), "y", "classification",
         "--task regression"),
        ("id,a,y\n" + "".join(f"1,{n},{n}\n" for n in range(30)), "y", None, "not name one row"),
    ],
    "t.json": [("{", "y", None, "JSON list"), ('[{"a": [1]}]', "a", None, "is nested")],
    "t.parquet": [("PAR1", "y", None, "read_parquet")],
}  # fmt: skip


def test_what_is_no_table_is_refused_by_name_and_nothing_is_written(bare, tmp_path):
    before = written(bare)
    for name, cases in WRONG.items():
        for text, target, task, says in cases:
            (tmp_path / name).write_text(text)
            given = {"name": None, "target": target, "task": task}
            with pytest.raises(Refusal) as refused:
                init_data(bare.root, tmp_path / name, given, str)
            assert says in str(refused.value), refused.value
    (tmp_path / "latin.csv").write_bytes(b"a,y\n\xe9,1\n")
    for path, says in ((tmp_path / "latin.csv", "iconv"), (tmp_path, "a folder"),
                       (tmp_path / "none.csv", "no such file")):  # fmt: skip
        with pytest.raises(Refusal, match=says):
            init_data(bare.root, path, NOTHING, str)
    assert written(bare) == before


def test_neither_the_example_nor_a_file_of_ones_own_is_overwritten(bare, project, tmp_path):
    table = tmp_path / "cars.csv"
    table.write_text(cars())
    given = NOTHING | {"target": "h.p."}
    with pytest.raises(Refusal, match="the example is still here") as refused:
        init_data(project.root, table, given, str)
    assert refused.value.fix == "make remove-example"
    (bare.root / "src/project/task.py").write_text('"""Mine."""\n')
    before = written(bare)
    with pytest.raises(Refusal, match="would be overwritten") as refused:
        init_data(bare.root, table, given, str)
    assert refused.value.where == "src/project/task.py"
    with pytest.raises(Refusal, match="no name for a data set"):
        init_data(bare.root, table, given | {"name": "a/b"}, str)
    assert written(bare) == before
