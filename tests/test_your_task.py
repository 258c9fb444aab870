"""Every snippet of docs/your-task.md trains."""

import re

import pytest
import yaml
from conftest import ROOT

PAGE = (ROOT / "docs/your-task.md").read_text()
IMPORTS = '''"""What docs/your-task.md shows."""

import numpy as np
import torch

from project.data import Digits
from project.prepare import Standardize
from project.task import Classification
from saigen.data.order import sample_index
from saigen.data.splits import split_of

'''
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def leaves(values, path=""):
    for key, value in values.items():
        name = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict):
            yield from leaves(value, name)
        elif not (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
            yield name


@pytest.fixture(scope="module")
def snippets(lab):
    """A project with all Python of the page, and an experiment a snippet of YAML."""
    root = lab.project.root
    (root / "src/project/yours.py").write_text(IMPORTS + "\n\n".join(PYTHON))
    for number, text in enumerate(YAML):
        sets = ", ".join(leaves(yaml.safe_load(text)))
        head = f"# @package _global_\n# sets: {sets}\n" if sets else "# @package _global_\n"
        (root / f"conf/experiment/snippet{number}.yaml").write_text(head + text)
    return lab.project


@pytest.mark.parametrize("number", range(len(YAML)))
def test_a_snippet_of_the_page_trains(snippets, number):
    said = snippets.saigen("train", f"experiment=snippet{number}", "trainer.max_steps=5")
    assert "accuracy" in said
