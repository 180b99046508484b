"""How samples of any modality become input of any source."""
