"""The JSON Schemas of every document that a verb answers with, as published in docs/schemas/.

python -m saigen.analysis.schemas     writes them anew
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from saigen.analysis.claims import Verification
from saigen.analysis.compare import Weighed
from saigen.analysis.diff import Diff
from saigen.analysis.doctor import Diagnosis
from saigen.config.explain import Explanation
from saigen.config.schema import Config
from saigen.files import write_json
from saigen.runs.audit import Audit
from saigen.runs.listing import Listing
from saigen.runs.record import Record

FOLDER = Path("docs/schemas")
DOCUMENTS: dict[str, type[BaseModel]] = {
    "audit-1": Audit,
    "compare-1": Weighed,
    "config-1": Config,
    "diff-1": Diff,
    "doctor-1": Diagnosis,
    "explain-1": Explanation,
    "record-2": Record,
    "runs-1": Listing,
    "verify-1": Verification,
}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one document."""
    found = DOCUMENTS[name].model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


if __name__ == "__main__":
    for document in DOCUMENTS:
        write_json(FOLDER / f"{document}.json", schema(document))
