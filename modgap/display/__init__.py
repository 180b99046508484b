"""Display of results: the layout of figures, text tables, and display in notebooks."""
