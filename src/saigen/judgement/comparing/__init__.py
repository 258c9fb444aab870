"""Why do two runs differ: the diff, its verdict, and what proves it."""
