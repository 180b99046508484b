"""Sources from the timm library, and packaged weights of timm architectures."""
