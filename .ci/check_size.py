"""Check that the package stays small: lines of code, in all and of each function.

Blank lines, comments and docstrings do not count.
"""

import ast
import io
import sys
import tokenize
from pathlib import Path

MAX_LINES = 7320
MAX_FUNCTION_LINES = 40
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> int:
    """Print the size and each function that is too long; return 1 on a finding."""
    total = 0
    too_long = []
    for path in sorted(Path("moltin_jobs").rglob("*.py")):
        source = path.read_text("utf-8")
        tree = ast.parse(source)
        lines = code_lines(source, tree)
        total += len(lines)
        for node in ast.walk(tree):
            if isinstance(node, Function):
                length = len(lines & line_range(node))
                if length > MAX_FUNCTION_LINES:
                    too_long.append(f"{path}:{node.lineno}: {node.name} has {length} lines of code")
    print(*too_long, f"moltin_jobs: {total} lines of code, at most {MAX_LINES}", sep="\n")
    return int(bool(too_long) or total > MAX_LINES)


def code_lines(source: str, tree: ast.Module) -> set[int]:
    """Return the numbers of the lines that hold code."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if is_docstring(node):
            lines -= line_range(node)
    return lines


def is_docstring(node: ast.AST) -> bool:
    """Tell whether a node is a bare string: a docstring, that of an attribute included."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def line_range(node: ast.AST) -> set[int]:
    """Return the numbers of the lines of a node."""
    return set(range(node.lineno, node.end_lineno + 1))


if __name__ == "__main__":
    sys.exit(main())
