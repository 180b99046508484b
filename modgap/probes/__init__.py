"""Linear probes: how well classes can be predicted from the features of an encoder by a linear function.

A linear probe is fitted on standardized features with an L2 penalty on everything but the intercept. `linear_probe`
fits the logistic one, which "linear probe" means without further words; `ridge` fits least squares, which has a closed
form and also serves multi-label and regression targets. Folds and held-out samples come from `folds` in both cases.
"""
