"""The rooms import downward only: `make lint` says where one does not."""

import importlib.util
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("arrows", ROOT / "tools/arrows.py")
arrows = importlib.util.module_from_spec(spec)
spec.loader.exec_module(arrows)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrows") / "saigen"
    shutil.copytree(ROOT / "src/saigen", folder)
    return folder


def test_no_room_imports_one_above_it_and_there_is_no_circle(capsys):
    assert arrows.main(ROOT / "src/saigen") == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("config/keys.py", "from saigen.runs.folders import RUNS", "keys imports runs.folders"),
        ("data/order.py", "import saigen.training.run", "data.order imports training.run"),
        ("digest.py", "from saigen.files import locked", "digest -> files -> "),
        (
            "runs/folders.py",
            "def f():\n    from saigen.analysis import diff",
            "imports analysis.diff",
        ),
    ],
)
def test_an_arrow_upward_or_a_circle_is_named(copied, capsys, file, line, said):
    path = copied / file
    before = path.read_text()
    path.write_text(f"{before}\n{line}\n")
    assert arrows.main(copied) == 1
    path.write_text(before)
    assert said in capsys.readouterr().out
