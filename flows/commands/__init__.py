"""Groups of `ring` commands, one module each; `flows.cli` registers them."""
