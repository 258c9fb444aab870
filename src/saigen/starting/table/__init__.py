"""What `saigen init-data` copies into src/project for a table, to be changed there."""
