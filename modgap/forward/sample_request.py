"""The request that all analyses share: which samples, at what size, and on what device."""

from dataclasses import dataclass, fields

from modgap.errors import UsageError, check_maximum, check_minimum, unknown_name

SPLIT_NAMES = ("all", "train", "val", "test")
DTYPE_NAMES = ("float32", "bfloat16", "float16")
SEED_LIMIT = 1 << 62
LARGEST_INPUT = 1 << 16
"""Largest height and width of the input that can be requested, in pixels; no model takes more."""


@dataclass(frozen=True)
class SampleRequest:
    """The part that all requests share: which samples go through a source, at what size, and on what device.

    The requests for logits, features, a ranking and a training run hold one as their field `samples`.

    Attributes:
        split: `all`, `train`, `val` or `test`. None stands for all samples of a target, and for the split of a
            surrogate that the source was not trained on.
        limit: Largest number of samples, chosen in proportion to the classes; None for all.
        seed: Seed of the choice of samples, and of every other random draw of the analysis.
        input_size: Height and width of the source's input in pixels; None for the source's default.
        representation: How time series and audio are turned into model input; None for the manifest's choice.
        dtype: float32, or bfloat16 or float16 for mixed precision. `auto` becomes bfloat16 where the device is a CUDA
            GPU of this machine that has it, and else float32; cache keys have what it became.
        device: auto, cpu, cuda or mps. No cache key contains it, because devices differ by rounding only.
        batch_size: Number of samples in a batch; None for an automatic choice.
        loader_workers: Number of processes that read and prepare samples ahead of the model, which does not change the
            outputs; 0 for a thread. None for a thread on the CPU and up to four processes on other devices.

    Raises:
        UsageError: When a value is out of range.

    Example:
        >>> SampleRequest(limit=500, device="cpu").limit
        500
        >>> SampleRequest(limit=0)
        Traceback (most recent call last):
        ...
        modgap.errors.UsageError: `limit` is 0, but it must be at least 1.
    """

    split: str | None = None
    limit: int | None = None
    seed: int = 0
    input_size: int | None = None
    representation: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    batch_size: int | None = None
    loader_workers: int | None = None

    def __post_init__(self) -> None:
        """Replace the dtype `auto` by the one that it stands for, and raise if a value is out of range."""
        if self.split not in (None, *SPLIT_NAMES):
            raise unknown_name("split", str(self.split), SPLIT_NAMES)
        if self.dtype == "auto":
            from modgap.process.devices import fastest_dtype

            object.__setattr__(self, "dtype", fastest_dtype(self.device))
        if self.dtype not in DTYPE_NAMES:
            raise unknown_name("dtype", self.dtype, ("auto", *DTYPE_NAMES))
        check_minimum("limit", self.limit, 1)
        check_minimum("seed", self.seed, 0)
        if self.seed >= SEED_LIMIT:
            raise UsageError(f"`seed` is {self.seed}. Expected an integer below 2**62.")
        check_minimum("input_size", self.input_size, 1)
        check_maximum("input_size", self.input_size, LARGEST_INPUT)
        check_minimum("batch_size", self.batch_size, 1)
        check_minimum("loader_workers", self.loader_workers, 0)

    @property
    def split_label(self) -> str:
        """The split in a few words, such as `train split`."""
        return "all splits" if self.split in (None, "all") else f"{self.split} split"

    def refuse_changes(self, *names: str, purpose: str) -> None:
        """Raise if one of these fields was changed from its default, because `purpose` makes no use of it.

        Raises:
            UsageError: When one of the fields has another value than its default.
        """
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise UsageError(
                    f"`{name}` is {getattr(self, name)!r}, but it does not apply to {purpose}. Leave it out."
                )
