"""The options of `modgap discrepancy`, by theme."""

import click

from modgap.cli.completion import (
    complete_embedders,
    complete_files,
    heads_completer,
)
from modgap.cli.options import (
    all_options,
    batch_size_option,
    custom_data_options,
    device_option,
    dtype_option,
    input_size_option,
    loader_workers_option,
    option_group,
    output_options,
    representation_option,
    sample_options,
    seed_option,
    source_option,
    target_option,
    weight_option,
    weights_option,
)
from modgap.errors import CUSTOM_DATA_FORMATS

discrepancy_options = all_options(
    option_group(
        "Source and target",
        source_option(
            "Source model: a short name (modgap sources lists them), timm:NAME, hf:NAME, onnx:FILE, a folder or "
            "a plug-in. With random: in front, it is the same architecture with random weights, as a control.",
            required=False,
        ),
        target_option(f"Target data: a name (modgap targets lists them), {CUSTOM_DATA_FORMATS}.", required=False),
        click.option(
            "--logits",
            metavar="FILE",
            shell_complete=complete_files,
            help="Use the logits in this file instead of a source and a target: a .npz, .safetensors or .pt file with "
            "logits (N, C) and labels (N,), logits.npy with labels.npy beside it, or a .csv or .parquet file with a "
            "column of labels.",
        ),
        weights_option,
    ),
    sample_options(default_limit=None),
    custom_data_options,
    option_group(
        "How samples pass through the source",
        input_size_option,
        representation_option,
        click.option(
            "--embedder",
            metavar="native|RUN_DIR",
            default="native",
            show_default=True,
            shell_complete=complete_embedders,
            help="Embedder in front of the encoder: native for the source's, or the folder of a modgap train run for "
            "the embedder that it trained. Samples that the run was trained on are left out.",
        ),
        click.option(
            "--head",
            metavar="NAME",
            default="own",
            show_default=True,
            shell_complete=heads_completer("own"),
            help="Classification head: own for the source's head, or probe:SURROGATE to fit a linear probe for a bare "
            "encoder.",
        ),
    ),
    option_group(
        "Estimators",
        click.option(
            "--estimator",
            "estimators",
            type=click.Choice(["montecarlo", "assignment", "search", "soft", "all"]),
            default="all",
            show_default=True,
            help="Estimator to run.",
        ),
        click.option(
            "--trials", type=int, default=100_000, show_default=True, help="Number of random maps for montecarlo."
        ),
        click.option(
            "--subsets",
            type=int,
            default=1000,
            show_default=True,
            help="Number of random subsets of classes for assignment.",
        ),
        click.option(
            "--restarts",
            type=int,
            help="Number of restarts of search. The default restarts until the best value was found three times.",
        ),
        click.option(
            "--classes",
            type=int,
            metavar="K",
            help="Also compare K target classes at a time. This also works if the target has more classes than the "
            "source.",
        ),
        click.option(
            "--per-class",
            type=int,
            metavar="N",
            help="Fit maps on N samples of each class, so that targets of different size are comparable.",
        ),
        click.option(
            "--measure",
            "measures",
            multiple=True,
            default=("zero-one",),
            show_default=True,
            type=click.Choice(["zero-one", "brier", "hellinger", "jensen-shannon", "kl", "total-variation"]),
            help="Also report this measure for the map of each estimator. Can be repeated.",
        ),
        click.option(
            "--temperature",
            type=float,
            default=1.0,
            show_default=True,
            help="Temperature of the softmax that --measure is computed from.",
        ),
    ),
    option_group(
        "Statistics",
        weight_option,
        click.option(
            "--per-group",
            type=int,
            metavar="N",
            help="Use N samples of each group. The permutation test is then exact if group sizes depend on the class.",
        ),
        click.option(
            "--splits",
            type=int,
            default=20,
            show_default=True,
            help="Number of repeated splits of the samples into a part to fit on and a part to test on.",
        ),
        click.option(
            "--permutations",
            type=int,
            default=99,
            show_default=True,
            help="Largest number of permutations of the labels. The test stops at the tenth value that is at or below "
            "the real one. 0 makes no test.",
        ),
        click.option(
            "--permutations-for",
            type=click.Choice(["soft", "search", "montecarlo"]),
            default="soft",
            show_default=True,
            help="Estimator that the permutation test is made with.",
        ),
        click.option(
            "--permutations-by",
            type=click.Choice(["shuffle", "shifts"]),
            default="shuffle",
            show_default=True,
            help="How labels move inside a group of several classes: shuffled, or shifted along its samples if these "
            "are in the order of time.",
        ),
        click.option(
            "--control",
            type=int,
            is_flag=False,
            flag_value=3,
            default=0,
            metavar="[N]",
            help="Compare with N random-weights controls of the source (3 without a number), sample by sample. Fewer "
            "than 3 do not show whether pretraining helps.",
        ),
        click.option(
            "--bound-seconds",
            type=float,
            default=0.0,
            show_default=True,
            help="Time limit in seconds for a certified lower bound, and again for that of permuted labels. 0 computes "
            "none.",
        ),
        seed_option,
    ),
    option_group(
        "Hardware",
        device_option,
        dtype_option,
        batch_size_option,
        loader_workers_option,
        click.option(
            "--threads",
            type=int,
            help="Number of threads for the estimators. The default is one per idle core. Results do not depend on it.",
        ),
    ),
    output_options("Write result.json and figures to this folder."),
)
