"""Comparison of systems on the same samples: paired differences, corrected for their number, and over targets."""
