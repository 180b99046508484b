"""Manifests of the targets, one TOML file each."""
