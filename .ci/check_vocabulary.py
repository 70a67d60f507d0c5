"""Find words that the project does not use: in names, docstrings, messages and comments.

The command takes files and directories; the default is the package.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

PHRASES = re.compile(
    r"\b(lest|dearer|whoever|whichever|forestalls?|besides|is\s+told\s+of|none\s+that"
    r"|of\s+the\s+caller's|the\s+way\s+to|stays\s+so)\b",
    re.IGNORECASE,
)
NAME_PARTS = {
    "temporary", "storm", "renew", "told", "said", "asking", "turn", "grant", "trouble", "joined",
    "settled", "doubtful", "shown",
}  # fmt: skip
FOREIGN_NAMES = {"NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile"}  # of tempfile
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

Finding = tuple[int, str]  # the line, and what was found there


def main(arguments: list[str]) -> int:
    """Print each finding with its file and line; return 1 if there is one."""
    paths = [Path(argument) for argument in arguments or ["moltin_jobs"]]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))]
    found = False
    for file in sorted(files):
        for line, text in sorted(set(findings(file))):
            found = True
            print(f"{file}:{line}: {text}")
    return int(found)


def findings(file: Path) -> Iterator[Finding]:
    """Yield the findings of one file."""
    source = file.read_text("utf-8")
    yield from check_name(1, file.stem)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                yield from check_text(node.lineno, node.value)
        else:
            line = getattr(node, "lineno", 1)
            for name in names(node):
                yield from check_name(line, name)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from check_text(token.start[0], token.string)


def names(node: ast.AST) -> Iterator[str]:
    """Yield the identifiers of a node: in the syntax tree, every string that is no constant."""
    for _, value in ast.iter_fields(node):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield item


def check_text(line: int, text: str) -> Iterator[Finding]:
    """Yield the phrases in a string or comment that begins at a line."""
    for match in PHRASES.finditer(text):
        phrase = " ".join(match[0].split())
        yield line + text.count("\n", 0, match.start()), f"phrase {phrase!r}"


def check_name(line: int, name: str) -> Iterator[Finding]:
    """Yield the words in an identifier."""
    if name in FOREIGN_NAMES:
        return
    for part in WORD.findall(name):
        if part.lower() in NAME_PARTS:
            yield line, f"word {part.lower()!r} in the name {name!r}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
