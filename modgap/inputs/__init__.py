"""Turning samples of any modality into input for any source."""
