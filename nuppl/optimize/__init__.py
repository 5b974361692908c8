"""Best fits: bounded Gauss-Newton with many starts, profile errors, and iminuit as the reference."""
