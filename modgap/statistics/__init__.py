"""Inference for errors on samples: repeated splits, permutation tests, intervals and paired comparisons."""
