"""What a config may call, with every parameter stated: no value is hidden in Python."""
