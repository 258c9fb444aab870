"""Environment: packages, machine, and the flags that move bits."""
