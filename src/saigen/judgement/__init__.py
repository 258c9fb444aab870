"""What it means: reads record folders, never the inside of a loop."""
