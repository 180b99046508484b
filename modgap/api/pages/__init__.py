"""HTML pages of result folders: rankings, discrepancies and distortions. Each page is one file without a network."""
