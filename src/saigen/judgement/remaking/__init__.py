"""A run made again elsewhere: source, data, environment, config."""
