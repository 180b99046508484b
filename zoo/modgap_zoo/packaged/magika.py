"""Magika: a network that tells the type of a file from its first and last bytes.

Reference: Fratantonio, Invernizzi et al., Magika: AI-Powered Content-Type Detection (ICSE 2025).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from modgap.errors import UsageError
from modgap.sources.inputs import TextInput
from modgap_zoo.packaged.network import LinearHead, PackagedNetwork

TOKENS = 2048
PADDING = 256
"""Number of the token that stands for no byte."""
BLOCK = 4096
"""Bytes at either end of a text that are read before white space is removed."""
WIDTH = 64
GROUP = 4
"""Neighboring tokens that become one."""
FEATURES = 512
KERNEL = 5
EPSILON = 1e-6
NAMES = (
    "3gp ace ai aidl apk applebplist appleplist asm asp autohotkey autoit awk batch bazel bib bmp bzip c cab cat chm "
    "clojure cmake cobol coff coffeescript cpp crt crx cs csproj css csv dart deb dex dicom diff dm dmg doc "
    "dockerfile docx dsstore dwg dxf elf elixir emf eml epub erb erlang flac flv fortran gemfile gemspec gif "
    "gitattributes gitmodules go gradle groovy gzip h5 handlebars haskell hcl hlp htaccess html icns ico ics "
    "ignorefile ini internetshortcut ipynb iso jar java javabytecode javascript jinja jp2 jpeg json jsonl julia "
    "kotlin latex lha lisp lnk lua m3u m4 macho makefile markdown matlab mht midi mkv mp3 mp4 mscompress msi mum npy "
    "npz nupkg objectivec ocaml odp ods odt ogg one onnx otf outlook parquet pascal pcap pdb pdf pebin pem perl php "
    "pickle png po postscript powershell ppt pptx prolog proteindb proto psd python pythonbytecode pytorch qt r "
    "randombytes randomtxt rar rdf rpm rst rtf ruby rust scala scss sevenzip sgml shell smali snap solidity sql "
    "sqlite squashfs srt stlbinary stltext sum svg swf swift tar tcl textproto tga thumbsdb tiff toml torrent tsv ttf "
    "twig txt typescript vba vcxproj verilog vhdl vtt vue wasm wav webm webp winregistry wmf woff woff2 xar xls xlsb "
    "xlsx xml xpi xz yaml yara zig zip zlibstream"
)
CLASSES = tuple(NAMES.split())
"""Types of files in the order of the outputs."""


class ByteTokenizer:
    """Bytes of texts as tokens, called as the tokenizers of transformers are.

    The first half of the tokens are the first bytes of a text without leading white space, and the second half the last
    bytes without trailing white space, so that the bytes of a short text occur twice. What is missing is padded: after
    the first bytes and before the last ones.
    """

    pad_token_id = PADDING

    def __call__(
        self,
        texts: str | bytes | Sequence[str | bytes],
        *,
        max_length: int = TOKENS,
        return_tensors: str | None = None,
        **_options: object,
    ) -> dict[str, Any]:
        """Return `input_ids` and `attention_mask` of a text (T,), or of several (B, T).

        Args:
            texts: Texts, which are encoded as UTF-8, or bytes.
            max_length: Number T of tokens.
            return_tensors: `pt` for tensors, None for lists.
        """
        if isinstance(texts, (str, bytes)):
            return {name: values[0] for name, values in self([texts], max_length=max_length).items()}
        rows = [_tokens(text, max_length) for text in texts]
        masks = [[int(token != PADDING) for token in row] for row in rows]
        encoded = {"input_ids": rows, "attention_mask": masks}
        return {name: torch.tensor(values) for name, values in encoded.items()} if return_tensors else encoded


def _tokens(text: str | bytes, length: int) -> list[int]:
    content = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    n_first = (length + 1) // 2
    n_last = length - n_first
    first = content[:BLOCK].lstrip()[:n_first]
    last = content[-BLOCK:].rstrip()
    last = last[max(0, len(last) - n_last) :]
    return [*first, *[PADDING] * (length - len(first) - len(last)), *last]


class _Embedder(nn.Module):
    """Vectors of bytes: a batch of tokens (B, T) to (B, T, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = nn.Embedding(PADDING + 1, WIDTH)
        self.bias = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        vectors: Tensor = self.bytes(batch["input_ids"])
        return vectors + self.bias


class _Encoder(nn.Module):
    """Groups of four tokens, a convolution, and the maximum over them: (B, T, 64) to one token (B, 1, 512).

    Fewer than 2,048 tokens are repeated, each as often as its neighbors or once more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.group_norm = nn.LayerNorm(TOKENS // GROUP, EPSILON)
        self.conv = nn.Conv1d(GROUP * WIDTH, FEATURES, KERNEL)
        self.norm = nn.LayerNorm(FEATURES, EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.shape[1] > TOKENS:
            raise UsageError(f"The encoder takes {TOKENS} tokens, but got {tokens.shape[1]}.")
        if tokens.shape[1] < TOKENS:
            tokens = functional.interpolate(tokens.transpose(1, 2), TOKENS).transpose(1, 2)
        grouped = _gelu(tokens).reshape(len(tokens), -1, GROUP * WIDTH)
        # The package normalizes each feature over the groups.
        maps = _gelu(self.conv(self.group_norm(grouped.transpose(1, 2))))
        features: Tensor = self.norm(maps.amax(dim=2))
        return features.unsqueeze(1)


def _gelu(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def build_network() -> PackagedNetwork:
    """Return Magika with random weights, and with logits before its softmax."""
    source_input = TextInput(ByteTokenizer(), TOKENS)
    return PackagedNetwork(source_input, CLASSES, _Embedder(), _Encoder(), LinearHead(FEATURES, len(CLASSES)))


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the ONNX file, where the bias of the convolution is a constant of its optimizer."""
    layers = "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/"
    return {
        "embedder.bytes.weight": weights["jax2tf_get_logits_/Const:0"],
        "embedder.bias": weights[f"{layers}Dense_0/Reshape:0"].flatten(),
        "encoder.group_norm.weight": weights[f"{layers}LayerNorm_0/Reshape_2:0"].flatten(),
        "encoder.group_norm.bias": weights[f"{layers}LayerNorm_0/Reshape_3:0"].flatten(),
        "encoder.conv.weight": weights[f"{layers}Conv_0/transpose_3:0"].squeeze(3),
        "encoder.conv.bias": weights["const_fold_opt__209"].flatten(),
        "encoder.norm.weight": weights[f"{layers}LayerNorm_1/Reshape_2:0"].flatten(),
        "encoder.norm.bias": weights[f"{layers}LayerNorm_1/Reshape_3:0"].flatten(),
        "head.linear.weight": weights["jax2tf_get_logits_/Const_24:0"].T.contiguous(),
        "head.linear.bias": weights[f"{layers}Dense_1/Reshape:0"].flatten(),
    }
