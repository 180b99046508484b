"""What training did to a source's knowledge: features, probes, maps and similarity."""
