"""The language model of reactions: against the library alone, and its tokens."""

import importlib.util
import json
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from modgap.errors import InputError, UsageError
from modgap.forward.surrogate_target import default_surrogate
from modgap.sources import open_source, source_infos
from modgap_zoo import sources
from modgap_zoo.reactions import smiles_tokenizer

CPU = torch.device("cpu")
REACTIONS = (
    "CC(=O)O.OCC>>CC(=O)OCC.O",
    "Nc1cccc2cnccc12.O=C(O)c1cc([N+](=O)[O-])c(Sc2c(Cl)cncc2Cl)s1>>O=C(Nc1cccc2cnccc12)c1cc([N+](=O)[O-])c(Sc2c(Cl)cncc2Cl)s1",
    "BrCc1ccccc1.C1CCOC1.OCC1CC1.[H-].[Na+]>>c1ccc(COCC2CC2)cc1",
)


def absent(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"not installed: {package}")


def described(name):
    (info,) = [info for info in source_infos() if info.name == name]
    return info


@pytest.fixture(scope="module")
def rxnfp():
    return open_source("rxnfp").load(None)


@pytest.fixture(scope="module")
def original():
    """The same model by the library alone."""
    folder = Path(importlib.util.find_spec("rxnfp").submodule_search_locations[0])
    folder /= "models/transformers/bert_pretrained"
    model = transformers.BertForMaskedLM(transformers.BertConfig.from_pretrained(folder)).eval()
    state = torch.load(folder / "pytorch_model.bin", weights_only=True, map_location="cpu")
    names = {n.replace("gamma", "weight").replace("beta", "bias"): t for n, t in state.items()}
    missing = model.load_state_dict(names, strict=False).missing_keys
    assert set(missing) <= {"bert.embeddings.position_ids", "cls.predictions.decoder.bias"}
    model.tie_weights()
    return model


@pytest.mark.long
@absent("rxnfp")
def test_rxnfp_knows_the_token_that_was_hidden(rxnfp, original):
    tokenizer = rxnfp.input.tokenizer
    ranks = []
    for reaction in REACTIONS:
        ids = tokenizer(reaction, return_tensors="pt")["input_ids"][0]
        places = torch.arange(1, len(ids) - 1)
        hidden = ids.repeat(len(places), 1)
        hidden[torch.arange(len(places)), places] = tokenizer.mask_token_id
        with torch.inference_mode():
            logits = original(input_ids=hidden).logits[torch.arange(len(places)), places]
        ranks += (logits > logits.gather(1, ids[places, None])).sum(dim=1).tolist()
    # Of 591 tokens chance puts the right one first once in 591 times; with wrong ids it would be no better.
    assert np.mean(np.array(ranks) == 0) > 0.8
    assert np.median(ranks) == 0


@absent("rxnfp")
def test_rxnfps_logits_are_its_own_averaged_over_the_tokens(rxnfp, original):
    batch = rxnfp.input.batch(REACTIONS, CPU)
    with torch.inference_mode():
        logits = rxnfp.model(batch)
        rows = original(**batch).logits
        parts = rxnfp.split()
        assert torch.equal(parts.head(parts.encoder(parts.embedder(batch))), logits)
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    wanted = torch.stack([row[1 : n - 1].mean(dim=0) for row, n in zip(rows, lengths, strict=True)])
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
    # The tokens that are there stand high in the mean.
    top = logits.topk(20, dim=1).indices
    for row, ids, n in zip(top, batch["input_ids"], lengths, strict=True):
        assert np.mean([int(i in row) for i in set(ids[1 : n - 1].tolist())]) > 0.6


@absent("rxnfp")
def test_rxnfp_is_what_its_entry_says(rxnfp):
    info, handle = described("rxnfp"), open_source("rxnfp")
    assert info.is_installed
    assert (len(rxnfp.class_names), rxnfp.class_names[15:18]) == (info.n_classes, ("c", "C", "("))
    assert sum(p.numel() for p in rxnfp.model.parameters()) == info.parameters
    assert handle.fingerprint()["architecture"] == "BertForMaskedLM"
    control = open_source("random:rxnfp").load(None)
    batch = rxnfp.input.batch(REACTIONS, CPU)
    with torch.inference_mode():
        assert control.model(batch).std() < 0.2 * rxnfp.model(batch).std()


@absent("rxnfp")
def test_each_of_its_tokens_is_one_token(rxnfp):
    tokenizer = rxnfp.input.tokenizer
    for token in rxnfp.class_names[15:]:
        assert tokenizer.tokenize(token) == [token]
    wanted = ["[CLS]", "[C@H]", "(", "Br", ")", "Cl", ">>", "c", "1", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("[C@H](Br)Cl>>c1")["input_ids"]) == wanted
    assert tokenizer("é")["input_ids"][1] == tokenizer.unk_token_id


def test_smiles_tokens_of_any_vocabulary(tmp_path):
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["C", "%12", "Cl", "N"]])
    )
    tokenizer = smiles_tokenizer(tmp_path)
    assert tokenizer("CN%12Cl")["input_ids"] == [2, 5, 8, 6, 7, 3]
    padded = tokenizer(["C", "CCC"], padding=True, truncation=True, max_length=4)
    assert padded["input_ids"] == [[2, 5, 3, 0], [2, 5, 5, 3]]


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(PathFinder, "find_spec", lambda name, path: None)
    assert sources.rxnfp.describe().is_installed is False
    with pytest.raises(
        InputError, match=r"Source rxnfp needs a package that is not installed.*pip install --no-deps rxnfp"
    ):
        sources.rxnfp.open(None)


def test_a_source_without_a_surrogate_says_how_to_name_one():
    with pytest.raises(UsageError, match=r"source rxnfp is registered.*stage1\.surrogate.*NAME"):
        default_surrogate("rxnfp")


@absent("rxnfp")
def test_a_csv_of_texts_for_a_source_of_text(modgap, tmp_path):
    lines = [f"{'C' * (1 + i % 7)}O,alcohol\n{'C' * (1 + i % 7)}N,amine" for i in range(20)]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(lines))
    quick = ("--trials", "2000", "--permutations", "2", "--json")
    done = modgap("discrepancy", "--source", "rxnfp", *quick, "--target", tmp_path / "data.csv")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_source_classes"] == 591
