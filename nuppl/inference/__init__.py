"""Engines: each turns a program into draws of its posterior. `registry` lists them."""
