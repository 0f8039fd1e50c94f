"""A file has at most 350 lines, a function at most 60: past that it holds two ideas."""

import ast

from tests.project.sources import package_sources

FILE_LINES = 350
FUNCTION_LINES = 60


def too_long(sources: dict[str, str]) -> list[str]:
    """Every file and function past its limit, as one line each."""
    found = []
    for module, text in sources.items():
        lines = len(text.splitlines())
        if lines > FILE_LINES:
            found.append(f"{module}: {lines} lines, at most {FILE_LINES}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found.append(f"{module}.{node.name}: {length} lines, at most {FUNCTION_LINES}")
    return found


def test_files_and_functions_are_short():
    found = too_long(package_sources())
    assert not found, "\n" + "\n".join(found)


def test_the_check_counts_lines():
    body = "    x = 1\n"
    assert too_long({"m": "def f():\n" + body * 59}) == []
    assert too_long({"m": "def f():\n" + body * 60}) == ["m.f: 61 lines, at most 60"]
    method = "class C:\n    async def g(self):\n" + "        x = 1\n" * 60
    assert too_long({"m": method}) == ["m.g: 61 lines, at most 60"]
    assert too_long({"m": "x = 1\n" * 351}) == ["m: 351 lines, at most 350"]
