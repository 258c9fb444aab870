"""Analysis: what runs mean, compared, proven, and made again."""
