"""Find words and constructions that this project does not use, in pages, docstrings, comments and messages.

    python tests/prose.py             check all files but those in prose_pending.txt; exit code 1 if something is found
    python tests/prose.py --all       show what is left to do in the files of prose_pending.txt too
    python tests/prose.py --shrink    take the files that became clean off prose_pending.txt
    python tests/prose.py --start     write prose_pending.txt from the beginning, after a merge of unclean files

A machine sees only a part of what makes a text hard to read. `codespell` checks the spelling.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PENDING = ROOT / "tests" / "prose_pending.txt"
PLACES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md", "docs/*.md", "docs/*.py")
CODE = ("jaxdescramble/**/*.py", "examples/*.py", "benchmarks/**/*.py", "tests/prose.py")

# A pattern, and what to write.
VOCABULARY = (
    # Constructions
    (r"\bAs (?:for|in) `|\bas for `|\b[Aa]s for (?:the|all)\b|: as (?:in|for) [`A-Z]", "write the sentence again"),
    (r"(?:^|\. )Of (?:all|both|each|every|one|the|these|those|two|what)\b", "begin with the subject"),
    (r"\bthat there (?:is|are) not\b", "name what is missing: 'index out of range'"),
    (r"\b(?:is|are) none of\b", "'is not one of'"),
    (
        r"\b(?:is|are) to be (?:\w+ed|done|found|had|kept|made|read|said|seen|set|taken|told)\b",
        "'must be', or an imperative",
    ),
    (r"\bto be had\b", "'available'"),
    (r"\bfor who(?:ever)? asks\b|\bwho asks\b", "'on request'"),
    (r"\bhow it was come by\b|\bcame? by it\b", "'result of'"),
    (
        r"\b(?:know|known|knows|said|say|says|tell|tells|told) of (?:each|it|its|itself|one|them|themselves|what)\b",
        "'about'",
    ),
    (r"\bof which (?:it|no|none|there)\b", "begin with the subject: 'none of them is'"),
    (r"\bif none is given\b|\bNone (?:as|for) (?:it|they|the|what)\b", "'None means ...'"),
    (r"; it is not \w+[.\"']", "'must be ...'"),
    (r"\bhas not[.,;]", "'does not have'"),
    (r"\bto speak of\b", "say how small it is"),
    (r"\bof (?:one|the user)'s own\b", "'of your own', 'user-defined'"),
    (r"\bis said at once\b|\bit is said\b", "'raise an error', 'report'"),
    (r"\bit cannot be said\b|\bwhat can be known\b", "'unknown', 'what is known early'"),
    (r"\b(?:alone|all) (?:chance|randomness) comes\b|(?i:\bsource of chance\b)|\bwhere all chance\b", "'random key'"),
    (r"\bput (?:it|them|what|to) (?:in|on|to) its place\b", "'replace'"),
    # Words
    (r"\banew\b", "'again'"),
    (r"\bbut for\b", "'except'"),
    (r"\bin place of\b", "'instead of'"),
    (r"\bfor ever\b", "'always'"),
    (r"\bso many\b", "'that many', or name the number"),
    (r"\b(?:is|are|was|were) lent\b|\blent to\b", "'received', 'was given'"),
    (r"\bheld against\b|\bhold(?:s)? .{1,20} against\b", "'compare with'"),
    (r"\bnot a word\b|\bwithout a word\b", "'silently'"),
    (r"\bturned round\b", "'reversed'"),
    (r"(?<!there )\b(?:is|are) none[.;]", "'does not count'"),
    (r"\b(?:here|there|where)(?:by|from|in|of|upon|with)\b", "use a modern word"),
    (r"\b(?:albeit|ere|hither|howbeit|lest|nigh|oft|thither|thrice|unto|whence|whilst)\b", "use a modern word"),
    # One word for one thing
    (r"\bpre-activation", "'preactivation'"),
    (r"\b[Pp]erceptron", "'neuron'"),
    (r"\b[Dd]ata ?points?\b", "'sample'"),
    (r"\b[Dd]escrambling matri", "'descrambler'"),
)
NOT_IMPERATIVE = re.compile(
    r"`|(?:A|All|An|Another|Any|Both|Each|Every|For|How|In|Of|On|One|That|The|Their|These|This|Those|Two|What|When|Where|"
    r"Whether|Which|Who|Whose|With)\b"
)
RULES = tuple((re.compile(pattern), advice) for pattern, advice in VOCABULARY)


def files() -> list[Path]:
    """Return the files whose words are checked."""
    found = {path for pattern in (*PLACES, *CODE) for path in ROOT.glob(pattern)}
    return sorted(path for path in found if not path.name.startswith("prose.py"))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield pieces of prose with their first lines: paragraphs of a page; docstrings, comments, strings of a module."""
    yield from (markdown_texts if path.suffix == ".md" else module_texts)(path.read_text())


def markdown_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs outside of code blocks."""
    source = re.sub(r"^( *)(`{3,}|~{3,}).*?^\1\2", _blank, source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"\A---\n.*?^---", _blank, source, flags=re.DOTALL | re.MULTILINE)
    yield from paragraphs(source, 1)


def module_texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield comments, docstrings without their examples, and strings of three words or more."""
    comments: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text, line = token.string.lstrip("# "), token.start[0]
            if comments and comments[-1][0] + comments[-1][1].count("\n") + 1 == line:
                comments[-1] = (comments[-1][0], f"{comments[-1][1]}\n{text}")
            else:
                comments.append((line, text))
    yield from comments
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield node.lineno, "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 1:
            text = re.sub(r"^ *>>>.*?(?:\n\s*\n|\Z)", _blank, node.value, flags=re.DOTALL | re.MULTILINE)
            yield from paragraphs(text, node.lineno)


def paragraphs(text: str, line: int) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of a text with their first lines."""
    for match in re.finditer(r"(?:^.*\S.*\n?)+", text, flags=re.MULTILINE):
        yield line + text.count("\n", 0, match.start()), match[0]


def _blank(match: re.Match) -> str:
    return "\n" * match[0].count("\n")


def findings(path: Path) -> list[str]:
    """Return what a file holds that this project does not write: `file:line: found -> advice`."""
    found = []
    for line, text in texts(path):
        joined = re.sub(r"\s+", " ", text)
        for pattern, advice in RULES:
            found += [(line, match[0].strip(), advice) for match in pattern.finditer(joined)]
    if path.suffix == ".py":
        found += nouns_for_verbs(path.read_text())
    name = path.relative_to(ROOT)
    return [f"{name}:{line}: {what!r} -> {advice}" for line, what, advice in sorted(set(found))]


def nouns_for_verbs(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield the docstrings of public functions that do not begin with a verb."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not node.name.startswith("test"):
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            docstring = ast.get_docstring(node) or ""
            if NOT_IMPERATIVE.match(docstring) and not any("property" in name for name in decorators):
                words = " ".join(docstring.split()[:4])
                yield node.lineno, f"{node.name}: {words}", "begin with an imperative: 'Return', 'Check'"


def pending() -> list[str]:
    """Return the files that are not clean yet."""
    return [line for line in PENDING.read_text().splitlines() if line and not line.startswith("#")]


def main(arguments: list[str]) -> int:
    """Check the files, print what is found, and return an exit code."""
    waiting = set(pending())
    found = {str(path.relative_to(ROOT)): findings(path) for path in files()}
    unclean = {name for name, some in found.items() if some}
    if "--shrink" in arguments or "--start" in arguments:
        comments = [line for line in PENDING.read_text().splitlines() if line.startswith("#")]
        waiting = unclean if "--start" in arguments else waiting & unclean
        PENDING.write_text("\n".join([*comments, *sorted(waiting)]) + "\n")
    for name in sorted(unclean if "--all" in arguments else unclean - waiting):
        print(*found[name], sep="\n")
    count = sum(len(found[name]) for name in waiting & unclean)
    print(f"{len(found)} files checked, {len(waiting)} of them not clean yet ({count} places).")
    return 1 if unclean - waiting or waiting - unclean else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
