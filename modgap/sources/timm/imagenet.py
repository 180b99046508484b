"""Names of the classes of ImageNet, from timm."""

from collections import Counter

__all__ = ["imagenet_class_names", "short_class_names"]


def imagenet_class_names(subset: str = "imagenet-1k") -> tuple[str, ...]:
    """Return all lemmas of the synset of each class, in the order of a classifier's outputs.

    Example:
        >>> imagenet_class_names()[:2]
        ('tench, Tinca tinca', 'goldfish, Carassius auratus')
    """
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo(subset).label_descriptions())


def short_class_names() -> tuple[str, ...]:
    """Return a unique name of each class of ImageNet-1k: the first lemma, with the definition if two classes share it.

    Example:
        >>> short_class_names()[0], short_class_names()[639]
        ('tench', "maillot, a woman's one-piece bathing suit")
    """
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    lemmas = info.label_descriptions()
    descriptions = info.label_descriptions(detailed=True)
    first_lemmas = [lemma.split(",")[0] for lemma in lemmas]
    counts = Counter(first_lemmas)
    return tuple(
        name if counts[name] == 1 else f"{name}, {description.removeprefix(f'{lemma}: ')}"
        for name, lemma, description in zip(first_lemmas, lemmas, descriptions, strict=True)
    )
