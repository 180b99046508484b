"""Small random models of each family, with tokenizers and preprocessing, as transformers itself saves them."""

import itertools

import torch
import transformers as hf
from tokenizers.pre_tokenizers import ByteLevel

SENTENCE = "the cat sat on a mat and long text much so that first one is padded with dog"
CHARACTERS = "abcdefghijklmnopqrstuvwxyz"
TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
VISION = {**TEXT, "image_size": 32, "patch_size": 8}


def bert_tokenizer():
    pieces = [*SENTENCE.split(), *CHARACTERS, *(f"##{c}" for c in CHARACTERS), ",", "."]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(pieces)]
    return hf.BertTokenizer({token: i for i, token in enumerate(tokens)}, model_max_length=40)


def roberta_tokenizer():
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), "Ġt", "he", "<mask>"]
    merges = [("Ġ", "t"), ("h", "e")]
    return hf.RobertaTokenizer({token: i for i, token in enumerate(tokens)}, merges, model_max_length=40)


def clip_tokenizer():
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{c}</w>" for c in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return hf.CLIPTokenizer({token: i for i, token in enumerate(tokens)}, [], model_max_length=77)


def image_processor(**options):
    return hf.ViTImageProcessor(size={"height": 32, "width": 32}, **options)


def _bert(cls, **options):
    tokenizer = bert_tokenizer()
    config = hf.BertConfig(vocab_size=len(tokenizer) + 3, max_position_embeddings=48, **TEXT, **options)
    return cls(config), tokenizer


def _roberta(cls, **options):
    tokenizer = roberta_tokenizer()
    config = hf.RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=34, type_vocab_size=1, **TEXT, **options
    )
    return cls(config), tokenizer


def _clip():
    tokenizer = clip_tokenizer()
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**TEXT, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 77}
    model = hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))
    size = {"shortest_edge": 32}
    return model, tokenizer, hf.CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32})


def _swin(**options):
    config = hf.SwinConfig(
        image_size=32, patch_size=2, embed_dim=16, depths=[1, 2], num_heads=[2, 4], window_size=4, num_labels=7,
        **options,
    )  # fmt: skip
    return hf.SwinForImageClassification(config), image_processor(resample=3)


def _ast():
    config = hf.ASTConfig(**{**TEXT, "patch_size": 8}, num_mel_bins=32, max_length=64, frequency_stride=8,
                          time_stride=8, num_labels=6)  # fmt: skip
    return hf.ASTForAudioClassification(config), hf.ASTFeatureExtractor(num_mel_bins=32, max_length=64)


def _wav2vec2(mask=False, **options):
    config = hf.Wav2Vec2Config(
        **TEXT, conv_dim=(16, 16), conv_kernel=(10, 3), conv_stride=(5, 2), num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2, classifier_proj_size=12, num_labels=5,
        feat_extract_norm="layer" if mask else "group", **options,
    )  # fmt: skip
    model = hf.Wav2Vec2ForSequenceClassification(config)
    return model, hf.Wav2Vec2FeatureExtractor(return_attention_mask=mask, sampling_rate=16000)


def _wav2vec2_ctc(mask=False, kind=hf.Wav2Vec2ForCTC):
    classifier, extractor = _wav2vec2(mask, vocab_size=9, pad_token_id=0)
    return kind(classifier.config), extractor


def _hubert():
    config = hf.HubertConfig(
        **TEXT, conv_dim=(16, 16), conv_kernel=(10, 3), conv_stride=(5, 2), num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2, vocab_size=7, pad_token_id=3,
    )  # fmt: skip
    return hf.HubertForCTC(config), hf.Wav2Vec2FeatureExtractor(return_attention_mask=False, sampling_rate=16000)


def _gpt2():
    tokenizer = roberta_tokenizer()
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    byte_level = hf.GPT2Tokenizer(tokenizer.get_vocab(), [("Ġ", "t"), ("h", "e")], **ends, model_max_length=40)
    config = hf.GPT2Config(
        vocab_size=len(tokenizer) + 3, n_positions=40, n_embd=32, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=2
    )
    return hf.GPT2LMHeadModel(config), byte_level


def _llama():
    tokenizer = bert_tokenizer()
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=48, num_key_value_heads=1, pad_token_id=0, **TEXT
    )
    return hf.LlamaForCausalLM(config), tokenizer


def _t5():
    tokenizer = bert_tokenizer()
    config = hf.T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, pad_token_id=0,
        decoder_start_token_id=0,
    )  # fmt: skip
    return hf.T5ForConditionalGeneration(config), tokenizer


def _whisper():
    config = hf.WhisperConfig(
        d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=48, decoder_ffn_dim=48, vocab_size=60, num_mel_bins=16, max_source_positions=50,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
    )  # fmt: skip
    return hf.WhisperForConditionalGeneration(config), hf.WhisperFeatureExtractor(feature_size=16, chunk_length=1)


MODELS = {
    "swin": _swin,
    "swin-positions": lambda: _swin(use_absolute_embeddings=True),
    "vit": lambda: (hf.ViTForImageClassification(hf.ViTConfig(**VISION, num_labels=7)), image_processor()),
    "deit": lambda: (
        hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**VISION, num_labels=7)),
        image_processor(),
    ),
    "beit": lambda: (hf.BeitForImageClassification(hf.BeitConfig(**VISION, num_labels=7)), image_processor()),
    "dinov2": lambda: (hf.Dinov2ForImageClassification(hf.Dinov2Config(**VISION, num_labels=7)), image_processor()),
    "convnext": lambda: (
        hf.ConvNextForImageClassification(
            hf.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], image_size=32, num_labels=7)
        ),
        image_processor(),
    ),
    "resnet": lambda: (
        hf.ResNetForImageClassification(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=7)
        ),
        image_processor(),
    ),
    "clip": _clip,
    "bert-mlm": lambda: _bert(hf.BertForMaskedLM),
    "roberta-mlm": lambda: _roberta(hf.RobertaForMaskedLM),
    "gpt2-clm": _gpt2,
    "llama-clm": _llama,
    "bert-texts": lambda: _bert(hf.BertForSequenceClassification, num_labels=4),
    "roberta-texts": lambda: _roberta(hf.RobertaForSequenceClassification, num_labels=4),
    "bert-words": lambda: _bert(hf.BertForTokenClassification, num_labels=9),
    "ast": _ast,
    "wav2vec2": _wav2vec2,
    "wav2vec2-masked": lambda: _wav2vec2(mask=True),
    "wav2vec2-layers": lambda: _wav2vec2(use_weighted_layer_sum=True),
    "wav2vec2-ctc": _wav2vec2_ctc,
    "wav2vec2-ctc-masked": lambda: _wav2vec2_ctc(mask=True),
    "hubert-ctc": _hubert,
    "wav2vec2-pretraining-bare": lambda: _wav2vec2_ctc(kind=hf.Wav2Vec2ForPreTraining),
    "bert-bare": lambda: _bert(hf.BertModel),
    "t5-bare": _t5,
    "whisper-bare": _whisper,
    "vit-bare": lambda: (hf.ViTModel(hf.ViTConfig(**VISION)), image_processor()),
    "swin-bare": lambda: (_swin()[0].swin, image_processor()),
    "wav2vec2-bare": lambda: (_wav2vec2()[0].wav2vec2, _wav2vec2()[1]),
}
BARE = [name for name in MODELS if name.endswith("-bare")]


def made(name):
    """The model, with random weights none of which is zero throughout, and its tokenizer or preprocessing."""
    torch.manual_seed(0)
    model, *others = MODELS[name]()
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point() and not tensor.any():
            torch.nn.init.normal_(tensor, std=0.1)
    with torch.no_grad():
        for tensor in model.parameters():
            # At their initial size the blocks change next to nothing, under which wrong parts agree with right ones.
            tensor.mul_(3 if tensor.ndim > 1 else 1)
    return (model.eval(), *others)
