"""What goes in: one file a layer."""
