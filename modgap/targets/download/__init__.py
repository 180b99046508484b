"""Data on disk: locations, downloads, archives, checksums and converted copies."""
