"""The command line: `nuppl check | simulate | fit | infer | evidence | export | report | show`."""
