"""Sentences that a newcomer can follow: short ones, in the documents, docstrings and help texts.

The rules are functions of a text, so that one of them can be tried on any text, and turned on for more files.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/decisions/*.md")),
]
MOST_WORDS = 35
FRAGMENTS = [
    "Of",
    "What",
    "Where",
    "Who",
    "Whose",
    "Whether",
    "Against",
    "How",
    "As",
    "When",
    "If",
    "Which",
]  # no way to begin a docstring

C_FRAGMENTS = ["Of", "What", "Where", "Who", "Whose", "Whether", "Against", "How", "Which"]
# The C code whose comments keep the rules.
C_FOLDERS = ["native", "bench", "tests/native", "tests/emulated", "tests/fuzz"]
C_OTHERS = {
    "native/src/ops/trigonometry.c",
    "native/src/kernels/kernels.h",
    "tests/native/check_ops_elements.c",
}

_C_COMMENT = re.compile(r"/\*(.*?)\*/", re.DOTALL)
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_LIST_ITEM = re.compile(r"^\s*([-*+]|\d+[.)])\s+")
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)[)\"'*_]*\s+")
_ARGUMENT = re.compile(r"^\s+\*{0,2}\w+( \(.*?\))?: ")


def sentences(text: str) -> list[str]:
    """The sentences of some prose. Code in backticks is one word; the target of a link is none."""
    text = re.sub(r"(`+).+?\1", "`code`", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"<?https?://\S+", "link", " ".join(text.split()))
    return [part for part in _END_OF_SENTENCE.split(text) if part]


def words(sentence: str) -> int:
    return sum(any(character.isalnum() for character in word) for word in sentence.split())


def long_sentences(blocks: Iterator[str]) -> list[str]:
    """What has more than 35 words, each with its count."""
    found = (sentence for block in blocks for sentence in sentences(block))
    return [f"{words(sentence)} words: {sentence}" for sentence in found if words(sentence) > MOST_WORDS]


def markdown_blocks(text: str) -> Iterator[str]:
    """Paragraphs, headings and items of lists; no code blocks, tables or comments."""
    text = re.sub(r"<!--.*?-->", "", _FENCE.sub("\n", text), flags=re.DOTALL)
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        is_table, is_heading = line.lstrip().startswith("|"), line.startswith("#")
        if block and (not line.strip() or is_table or is_heading or _LIST_ITEM.match(line)):
            yield "\n".join(block)
            block = []
        if is_heading:
            yield line.lstrip("# ")
        elif line.strip() and not is_table:
            block.append(_LIST_ITEM.sub("", line))


def docstring_blocks(text: str) -> Iterator[str]:
    """Paragraphs, titles of sections and their entries; no examples."""
    block: list[str] = []
    indent = 0
    in_example = False
    for line in [*inspect.cleandoc(text).splitlines(), ""]:
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        depth = len(line) - len(line.lstrip())
        starts = not line.strip() or in_example or depth < indent or (depth == indent and _ARGUMENT.match(line))
        if block and (starts or block[-1].endswith(":") or _LIST_ITEM.match(line)):
            yield "\n".join(block)
            block = []
        if line.strip() and not in_example:
            indent = indent if block else depth
            block.append(line.strip())


def texts_of(source: str) -> Iterator[tuple[int, str, bool]]:
    """Line, text and "is a docstring" of the docstrings of a module and of the values of ``help=``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if docstring := ast.get_docstring(node, clean=False):
                yield node.body[0].lineno, docstring, True
        elif isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
            yield node.value.lineno, str(node.value.value), False


def problems_of_module(source: str) -> list[tuple[int, str]]:
    """What is wrong with the docstrings and help texts of a module: the line, and what it is."""
    found = []
    for line, text, is_docstring in texts_of(source):
        blocks = list(docstring_blocks(text))
        first = blocks[0].split(maxsplit=1)[0].strip(",:;.") if is_docstring and blocks else ""
        if first in FRAGMENTS:
            found.append((line, f"begins with {first!r}: {blocks[0].splitlines()[0]}"))
        found += [(line, problem) for problem in long_sentences(iter(blocks))]
    return sorted(found)


def c_comment_blocks(comment: str) -> Iterator[str]:
    """Paragraphs and items of a C comment, given without its first and last mark; no rows of tables."""
    block: list[str] = []
    indent = 0
    for line in [*re.sub(r"\n[ \t]*\* ?", "\n", comment).strip().splitlines(), ""]:
        depth = len(line) - len(line.lstrip())
        is_row = re.search(r"\S {2,}\S", line) or (depth > 8 and not block)
        if block and (not line.strip() or is_row or depth < indent or depth > indent == 0 or depth == indent > 0):
            yield "\n".join(block)
            block = []
        if line.strip() and not is_row:
            indent = indent if block else depth
            block.append(line.strip())


def problems_of_c(source: str) -> list[tuple[int, str]]:
    """What is wrong with the comments of a C file: the line, and what it is."""
    found = []
    for comment in _C_COMMENT.finditer(source):
        line = source.count("\n", 0, comment.start()) + 1
        blocks = list(c_comment_blocks(comment[1]))
        for block in blocks:
            first = block.split(maxsplit=1)[0].strip(",:;.")
            if first in C_FRAGMENTS:
                found.append((line, f"begins with {first!r}: {block}"))
        found += [(line, problem) for problem in long_sentences(iter(blocks))]
    return found


def problems_of_files(paths: Iterable[Path]) -> list[str]:
    """The same for Python and C files, as ``file:line: what``."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {problem}"
        for path in paths
        for line, problem in (problems_of_module if path.suffix == ".py" else problems_of_c)(
            path.read_text(encoding="utf-8")
        )
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sentence_of_the_documents_is_long(document: Path) -> None:
    assert long_sentences(markdown_blocks(document.read_text(encoding="utf-8"))) == []


def test_docstrings_and_help_texts_are_short_whole_sentences() -> None:
    files = sorted((ROOT / "python" / "dynq").rglob("*.py"))
    assert files
    assert problems_of_files(files) == []


@pytest.mark.parametrize("folder", C_FOLDERS)
def test_comments_in_c_are_short_whole_sentences(folder: str) -> None:
    files = [
        path
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".c", ".h", ".def"} and str(path.relative_to(ROOT)) not in C_OTHERS
    ]
    assert files
    assert problems_of_files(files) == []


LONG = "A sentence " + "of words " * 17  # 36 words with the last one


def test_a_long_sentence_is_found_wherever_it_stands() -> None:
    for text in (
        LONG,
        f"- a list\n- {LONG}\n  that goes on.",
        f"Short. {LONG}. Short.",
        f"# {LONG}",
        f"[{LONG}](https://example.org)",
    ):
        assert len(long_sentences(markdown_blocks(text + "end"))) == 1, text


def test_code_tables_and_targets_of_links_do_not_count() -> None:
    for text in (
        f"```sh\n{LONG} end\n```",
        f"| {LONG} | end |",
        f"A [link]({LONG.replace(' ', '-')}) and `{LONG} end`.",
        f"Half a {LONG[:80]}. And the {LONG[:80]}.",
        f"{LONG[:80]}\n\n{LONG[:80]}",
    ):
        assert long_sentences(markdown_blocks(text)) == [], text


def test_a_fragment_and_a_long_sentence_in_a_docstring_are_found() -> None:
    for docstring, wrong in (
        ("Return the sum.", 0),
        ("Of two numbers, the sum.", 1),
        ("Whether it fits.", 1),
        ("The sum.\n\nArgs:\n    x: " + LONG + "end.", 1),
        ("The sum.\n\n>>> " + LONG + "end\n1", 0),
        ("The sum.\n\nArgs:\n    x: " + LONG[:80] + "\n    y: " + LONG[:80], 0),
    ):
        source = f"def f():\n    {docstring!r}\n"
        assert len(problems_of_module(source)) == wrong, docstring
    assert len(problems_of_module(f"option(help={LONG + 'end'!r})")) == 1


def test_a_fragment_and_a_long_sentence_in_a_comment_are_found() -> None:
    for comment, wrong in (
        ("/* Returns the sum. */", 0),
        ("int n; /* Of a row. */", 1),
        ("/*\n * A head.\n *\n * Whether it fits.\n */", 1),
        (f"/* {LONG[:200]}\n * {LONG[200:]}end. */", 1),
        (f"/*\n * Rows:\n *   a: {LONG[:80]}\n *   b: {LONG[:80]}\n *   a   {LONG}\n */", 0),
    ):
        assert len(problems_of_c(comment)) == wrong, comment
