"""Sources whose weights are in Python packages; their architectures are written here after the papers."""
