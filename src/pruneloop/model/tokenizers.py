"""Fast tokenizers: any model's as a plain one, our own WordPiece, and KoBERT's from its file."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram, WordPiece
from tokenizers.trainers import WordPieceTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from pruneloop.errors import InputError

KOBERT_FILE = "tokenizer_78b3253a26.model"

_BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_KOBERT_SPECIALS = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
_NORMAL_PIECE = 1
_FILES = ("tokenizer*.json", "vocab*", "*.model", "*.bpe*", "*.tiktoken", "merges.txt")


def _wrap(backend: Tokenizer, max_length: int) -> PreTrainedTokenizerFast:
    """Add [CLS] ... [SEP] and the names of BERT's special tokens."""
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
    )


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a folder or hub id, without its code, as a plain fast one.

    Raises:
        InputError: there is none, or one that exists in Python only.
        Exception: whatever transformers says of a file that it cannot read.
    """
    folder = Path(name)
    if folder.is_dir() and not any(p for glob in _FILES for p in folder.glob(glob)):
        raise InputError(
            f"model.name={name}: the folder has no tokenizer; copy tokenizer.json or vocab.txt "
            "there, and tokenizer_config.json, from the model that it was made from"
        )
    loaded = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise InputError(
            f"model.name={name}: its tokenizer ({type(loaded).__name__}) exists in Python only; "
            "a fast one (tokenizer.json) is needed, which the exported checkpoint carries"
        )
    if not set(loaded.get_vocab().values()) - set(loaded.all_special_ids):
        raise InputError(f"model.name={name}: its tokenizer has no words: a file of it is missing")
    return _plain(loaded)


def _plain(loaded: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Return the same tokenizer as no class of a model's own.

    Such a class makes its parts anew from the vocabulary when it is loaded again, and would
    lose what `add_nfc` adds; and transformers 4 knows fewer of them.
    """
    backend = loaded.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    flags = {str(token): token for token in loaded.added_tokens_decoder.values()}
    specials = {key: flags.get(word, word) for key, word in loaded.special_tokens_map.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **specials,
        extra_special_tokens=[flags.get(str(w), w) for w in loaded.extra_special_tokens],
        model_max_length=loaded.model_max_length,
        padding_side=loaded.padding_side,
        truncation_side=loaded.truncation_side,
        model_input_names=list(loaded.model_input_names),
        pad_token_type_id=loaded.pad_token_type_id,
    )


def add_nfc(tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a tokenizer join decomposed Hangul itself, as the rows it was trained on were.

    Whoever is served by the saved tokenizer may send text as macOS writes it.
    """
    backend = tokenizer.backend_tokenizer
    known = json.loads(backend.to_str())["normalizer"] or {}
    first = known.get("normalizers", [known])[0]
    if first.get("type") == "NFC":
        return
    own = backend.normalizer
    nfc = normalizers.NFC()
    backend.normalizer = normalizers.Sequence([nfc, own]) if own is not None else nfc


def train_wordpiece(
    texts: Iterable[str], vocab_size: int, max_length: int
) -> PreTrainedTokenizerFast:
    """Train a cased WordPiece vocabulary on the texts.

    Cased, because lower-casing also strips accents, which splits Hangul into jamo. The
    same texts give the same vocabulary, which the trainer alone does not promise.
    """
    normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    backend = Tokenizer(WordPiece(_wordpiece_vocabulary(words, vocab_size), unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    backend.decoder = decoders.WordPiece()
    return _wrap(backend, max_length)


def _wordpiece_vocabulary(words: Counter[str], vocab_size: int) -> dict[str, int]:
    """Return pieces and their ids; at most a third as many letters as pieces are known."""
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    ranked = sorted(letters, key=lambda letter: (-letters[letter], letter))
    common = set(ranked[: vocab_size // 3])
    known = [word for word in sorted(words) if set(word) <= common]
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        # The trainer meets words in random order, numbers "##x" as it meets it, and
        # breaks ties by number. Naming those first takes the chance out of it.
        special_tokens=[
            *_BERT_SPECIALS,
            *sorted({f"##{letter}" for word in known for letter in word[1:]}),
        ],
        show_progress=False,
    )
    scratch = Tokenizer(WordPiece(unk_token="[UNK]"))
    scratch.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    scratch.train_from_iterator((" ".join([word] * words[word]) for word in known), trainer)
    return scratch.get_vocab()


def load_kobert_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """Build KoBERT's fast tokenizer from the SentencePiece file of a folder or hub id.

    The ids are [UNK] [PAD] [CLS] [SEP] [MASK] and then the model's 7,997 normal pieces,
    sorted. As in KoBERT's own code, accents are stripped first; the NFC after it joins
    the jamo again, which the SentencePiece normaliser alone would leave apart.

    Raises:
        OSError: the file is not there.
        InputError: it is not a SentencePiece unigram model.
    """
    path = cached_file(name, KOBERT_FILE, revision=revision)
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        model.ParseFromString(Path(str(path)).read_bytes())
    except Exception as error:  # protobuf's DecodeError has no stable import path
        raise InputError(f"{path}: is not a SentencePiece model") from error
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == _NORMAL_PIECE}
    if not scores:
        raise InputError(f"{path}: has no pieces")
    vocabulary = [(special, 0.0) for special in _KOBERT_SPECIALS] + sorted(scores.items())
    backend = Tokenizer(Unigram(vocabulary, unk_id=0, byte_fallback=False))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.NFC(),
            normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    return _wrap(backend, max_length=512)
