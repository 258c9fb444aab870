"""How a clone becomes a project: its name, its data, and a newer instrument."""
