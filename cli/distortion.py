"""`modgap distortion`."""

import time

import click

from modgap.cli.options import check_minimums, device_option, dtype_option, input_size_option, sample_request
from modgap.errors import UsageError

__all__ = ["distortion"]


@click.command()
@click.option("--source", metavar="NAME", required=True, help="As for modgap discrepancy; its encoder is the first.")
@click.option(
    "--surrogate", "surrogates", metavar="NAME", multiple=True,
    help="Labeled data of the source's modality; the source's own if absent. May be repeated.",
)  # fmt: skip
@click.option(
    "--run", "runs", metavar="DIR[@EPOCH]", multiple=True,
    help="A folder of modgap train, with what it made of the encoder; wildcards allowed. May be repeated.",
)  # fmt: skip
@click.option(
    "--epochs", metavar="chosen|all|N,N", default="chosen", show_default=True,
    help="Which weights of each run: the chosen ones, or epochs that stage2.keep_epochs kept.",
)  # fmt: skip
@click.option(
    "--other", "others", metavar="NAME", multiple=True,
    help="Another source to read beside it, such as random:NAME. May be repeated.",
)  # fmt: skip
@click.option(
    "--probe", "probes", multiple=True, default=("linear",), show_default=True,
    type=click.Choice(["linear", "ridge", "knn", "nearest-mean"]), help="The first is compared. May be repeated.",
)  # fmt: skip
@click.option(
    "--similarity", "similarities", multiple=True, default=("linear_cka", "procrustes", "knn_overlap"),
    show_default=True, type=click.Choice(["linear_cka", "kernel_cka", "procrustes", "knn_overlap"]),
    help="To the untouched encoder. May be repeated.",
)  # fmt: skip
@click.option(
    "--layer", "layers", metavar="NAME", multiple=True, default=("output",), show_default=True,
    help="Of the encoder: a module's name, a pattern, blocks for all blocks. Probes read the last. May be repeated.",
)  # fmt: skip
@click.option("--normalized", is_flag=True, help="Divide each sample's features by their norm.")
@click.option("--few-shot", is_flag=True, help="Also the first probe's error by training samples a class, five draws.")
@click.option("--maps", is_flag=True, help="Make a t-SNE map of each encoder, as the paper's Fig. 2.")
@click.option("--perplexity", type=float, default=30.0, show_default=True, help="Of the maps.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Of the surrogates.")
@click.option("--limit", type=int, default=5000, show_default=True, help="At most so many samples of a surrogate.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of probes, intervals and maps.")
@input_size_option
@click.option("--weights", metavar="PATH", help="Take the source's weights from this file or folder.")
@device_option
@click.option("--batch-size", type=int, help="Samples at a time through the encoder; found if absent.")
@dtype_option
@click.option("--threads", type=int, default=1, show_default=True, help="Of the maps. Changes no result.")
@click.option("--out", metavar="DIR", help="Write distortion.json and figures there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the tables.")
@click.option("--quiet", is_flag=True, help="No progress and no messages but warnings.")
def distortion(**given) -> None:
    """What fine-tuning did to the source's knowledge.

    Labeled data of the source's own modality goes through the source's own embedder and the encoder as it was and as
    runs left it. A probe's error says how much of the knowledge can still be read off; lower is better.

    Example: modgap distortion --source vit-fashion --run run --out distortion
    """
    from modgap.cli.output import log_to_stderr, progress_bars
    from modgap.discrepancy.result_folder import create_output_folder
    from modgap.distortion.measurement import distortion as read
    from modgap.distortion.report import to_json

    _check(given)
    log_to_stderr(given["quiet"])
    request = _request(given)
    folder = create_output_folder(given["out"]) if given["out"] else None
    began = time.perf_counter()
    with progress_bars(given["quiet"]) as progress:
        found = read(
            given["source"], given["surrogates"], _folders(given["runs"]), request,
            others=given["others"], weights=given["weights"], progress=progress,
        )  # fmt: skip
    record = to_json(given["source"], found, request, time.perf_counter() - began)
    if folder:
        from modgap.distortion.result_folder import write_folder

        written = write_folder(record, found, folder)
        click.echo(f"modgap: wrote {', '.join(str(path) for path in written)}", err=True)
    if given["as_json"]:
        click.echo(record)
    else:
        _print(found)


def _check(given: dict) -> None:
    check_minimums(given, {"limit": 20, "threads": 1})


def _request(given: dict):
    from modgap.distortion.features import FeatureRequest
    from modgap.distortion.measurement import DistortionRequest

    return DistortionRequest(
        features=FeatureRequest(sample_request(given), layers=given["layers"], normalized=given["normalized"]),
        probes=tuple(dict.fromkeys(given["probes"])),
        similarities=tuple(dict.fromkeys(given["similarities"])),
        epochs=_epochs(given["epochs"]),
        few_shot=given["few_shot"],
        maps=given["maps"],
        perplexity=given["perplexity"],
        threads=given["threads"],
    )


def _epochs(text: str):
    if text in ("chosen", "all"):
        return text
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"expected --epochs chosen, all, or numbers such as 1,5,15, got {text!r}") from None


def _folders(given: tuple[str, ...]) -> list[str]:
    """Wildcards may come unresolved, from a shell that found too many or from a script."""
    import glob

    found: list[str] = []
    for text in given:
        folder, at, epoch = text.rpartition("@") if text.rpartition("@")[2].isdigit() else (text, "", "")
        matches = sorted(glob.glob(folder)) if glob.has_magic(folder) else [folder]
        if not matches:
            raise UsageError(f"expected folders of runs at {folder}, found none")
        found += [f"{match}{at}{epoch}" for match in matches]
    return list(dict.fromkeys(found))


def _print(found) -> None:
    from modgap.cli.output import print_table, print_text
    from modgap.distortion.report import grid_cells, reading_rows

    for one in found:
        size = f"fitted on {one.trained_on:,}, tested on {one.tested:,}, chance {one.chance:.3f}"
        heads, rows = reading_rows(one.readings)
        print_table(heads, rows, f"{one.name}: {size}; lower errors mean that more knowledge is left")
        _print_grid(one.name, grid_cells(one.readings))
        _print_few_shot(one)
        for note, of in _notes(one).items():
            print_text(f"note on {', '.join(of)}: {note}")


def _notes(found) -> dict[str, list[str]]:
    """What probes say besides their errors, and which of which encoders say it."""
    notes: dict[str, list[str]] = {}
    for reading in found.readings:
        for name, probe in reading.probes.items():
            for note in probe.notes:
                notes.setdefault(note, []).append(f"{name} of {reading.label}")
    return notes


def _print_few_shot(found) -> None:
    from modgap.cli.output import print_table

    if found.readings[0].few_shot is None:
        return
    shots = found.readings[0].few_shot.shots
    rows = [
        [reading.label, *(f"{mean:.3f} ± {sd:.3f}" for mean, sd in zip(curve.mean, curve.sd, strict=True))]
        for reading in found.readings
        if (curve := reading.few_shot)
    ]
    print_table(["encoder", *map(str, shots)], rows, f"{found.name}: error by training samples a class, five draws")


def _print_grid(name: str, cells) -> None:
    """Means over seeds, where there are several."""
    from modgap.cli.output import print_table

    if not any(cell.seeds > 1 for cell in cells):
        return
    heads = ["target", "method", "epoch", "error", "95 % over seeds", "seeds"]
    rows = [
        [c.target, c.method, str(c.epoch), f"{c.mean:.4f}", f"{c.interval[0]:.4f} - {c.interval[1]:.4f}", str(c.seeds)]
        for c in cells
    ]
    print_table(heads, rows, f"{name}: runs")
