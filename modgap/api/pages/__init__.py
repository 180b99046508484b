"""HTML pages of result folders: rankings, matrices, discrepancies, distortions and trained models, one file each."""
