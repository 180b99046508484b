"""Names of probes and similarity measures as tables and figures print them."""

__all__ = ["display_name"]

DISPLAY_NAMES = {
    "knn": "k-NN",
    "linear_cka": "linear CKA",
    "kernel_cka": "kernel CKA",
    "procrustes": "Procrustes",
    "knn_overlap": "k-NN overlap",
}


def display_name(name: str) -> str:
    """Return the printed name of a probe or a similarity measure.

    Example:
        >>> display_name("linear_cka"), display_name("ridge")
        ('linear CKA', 'ridge')
    """
    return DISPLAY_NAMES.get(name, name.replace("_", " "))
