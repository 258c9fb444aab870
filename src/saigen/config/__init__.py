"""Config: from YAML and overrides to one typed, frozen config."""
