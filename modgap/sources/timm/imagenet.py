"""Names of ImageNet's classes, as timm ships them."""

from collections import Counter

__all__ = ["imagenet_class_names", "short_class_names"]


def imagenet_class_names(subset: str = "imagenet-1k") -> tuple[str, ...]:
    """All lemmas of each class's synset, in the order of a classifier's outputs.

    Example:
        >>> imagenet_class_names()[:2]
        ('tench, Tinca tinca', 'goldfish, Carassius auratus')
    """
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo(subset).label_descriptions())


def short_class_names() -> tuple[str, ...]:
    """One name a class of ImageNet-1k, no two alike: the first lemma, with the definition where two share it.

    Example:
        >>> short_class_names()[0], short_class_names()[639]
        ('tench', "maillot, a woman's one-piece bathing suit")
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    lemmas, detailed = info.label_descriptions(), info.label_descriptions(detailed=True)
    first = [lemma.split(",")[0] for lemma in lemmas]
    times = Counter(first)
    return tuple(
        name if times[name] == 1 else f"{name}, {described.removeprefix(f'{lemma}: ')}"
        for name, lemma, described in zip(first, lemmas, detailed, strict=True)
    )
