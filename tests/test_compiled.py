"""A compiled model is another recipe, and as repeatable as any."""

import json
import shutil

import pytest

COMPILED = ("trainer.max_steps=8", "hardware.compile=true")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_anew_the_bits_are_the_same(prepared_project, tmp_path):
    records = []
    for name, overrides in (("a", COMPILED), ("b", COMPILED), ("c", COMPILED[:1])):
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / name)}
        prepared_project.saigen("train", *overrides, env=cache)
        records.append(json.loads(prepared_project.saigen("show", "last", "--json")))
    compiled, again, plain = records
    assert compiled["outcome"]["digest"] == again["outcome"]["digest"]
    assert compiled["recipe"]["digest"] == again["recipe"]["digest"] != plain["recipe"]["digest"]
