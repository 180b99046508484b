"""Distortion of a source's knowledge by training: features, probes, maps and similarity of encoders."""
