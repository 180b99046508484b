"""Linear probes, and two-dimensional maps, of the features of an encoder.

A linear probe predicts classes by a linear function of standardized features, which is fitted with an L2 penalty on
everything but the intercept. `logistic` fits the logistic one, which "linear probe" means without further words;
`ridge` fits least squares, which has a closed form and also serves multi-label and regression targets. Folds and
held-out samples come from `folds` in both cases. `tsne_maps` computes the positions of samples that figures draw.
"""
