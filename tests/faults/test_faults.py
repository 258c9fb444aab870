"""The fault bench, verify's side: each planted fault breaks a claim, and its line is named."""

import json
import sys

import pytest

from faults.changed import CHANGED, EDITED
from faults.continued import VIOLATED
from faults.planted import PLANTED

# one for each of five claims: in `make test-full`, the others in `make test-faults`
SAMPLE = {
    "hash() of a string",
    "time-based seed",
    "unordered os.listdir",
    "a curriculum that forgets on resume",
    "seed taken from the rank",
}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            f, id=f.name, marks=pytest.mark.slow if f.name in SAMPLE else pytest.mark.faults
        )
        for f in PLANTED
    ],
)
def test_verify_breaks_the_claim_and_names_the_line(fault, project, score):
    path = project.root / fault.file
    text = path.read_text()
    assert fault.old in text, f"{fault.name}: {fault.file} has changed"
    path.write_text(text.replace(fault.old, fault.new, 1))
    command = ("verify", "--json", "--only", fault.claim, *fault.overrides)
    done = project.run(sys.executable, "-m", "saigen", *command)
    assert done.returncode == 1, done.stdout + done.stderr
    (claim,) = json.loads(done.stdout)["claims"]
    place = claim["location"] or {"file": None, "text": ""}
    score(
        detected=claim["result"] == "broken",
        layer=place["file"] == fault.file,
        name=fault.line in place["text"],
        told=claim,
    )


def test_the_bench_holds_more_than_eighty_causes():
    names = [fault.name for fault in (*CHANGED, *EDITED, *VIOLATED, *PLANTED)]
    assert len(set(names)) == len(names)
    assert len(names) > 80
