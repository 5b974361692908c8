"""The language of model files: a Pyro program becomes simulator, density and likelihood."""
