"""Predict target classes under one map."""

from modgap.discrepancy.kernels.compilation import kernel


@kernel
def fill_predictions(logits, rows, source_classes, target_classes, predicted):
    """Write the target class whose source class has the largest logit, for each row (N,), into predicted (N,).

    source_classes (K,) is sorted in increasing order, so that ties go to the lowest source class, and target_classes
    (K,) holds the target class of each of them.
    """
    for i in range(len(rows)):
        best = 0
        for k in range(1, len(source_classes)):
            if logits[rows[i], source_classes[k]] > logits[rows[i], source_classes[best]]:
                best = k
        predicted[i] = target_classes[best]
