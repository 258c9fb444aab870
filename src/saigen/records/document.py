"""What a verb answers under `--json`: one document whose schema is published in docs/schemas/."""

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """Frozen, no unknown key; the first key of the JSON text names the schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def json_text(self) -> str:
        """The document as it stands on standard output."""
        return self.model_dump_json(indent=2, by_alias=True)
