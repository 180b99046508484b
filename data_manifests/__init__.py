"""One TOML manifest a target."""
