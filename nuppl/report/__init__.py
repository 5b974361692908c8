"""One self-contained page per result, for people to read."""
