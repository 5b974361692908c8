"""The command line: `nuppl check | simulate | fit | infer | report | show`."""
