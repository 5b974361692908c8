"""The command line: `nuppl check | simulate | fit | infer | evidence | report | show`."""
