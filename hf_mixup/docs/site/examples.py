"""Examples in docstrings, told from prose."""

from __future__ import annotations


def with_examples(text: str) -> str:
    """Return a docstring whose trailing example is a section.

    >>> with_examples("Add.\\n\\n>>> 1 + 1\\n2").splitlines()[2:]
    ['Examples:', '    >>> 1 + 1', '    2']
    """
    before, mark, example = text.partition("\n>>> ")
    if not mark:
        return text
    indented = "\n".join(f"    {line}".rstrip() for line in f">>> {example}".splitlines())
    return f"{before}\nExamples:\n{indented}"
