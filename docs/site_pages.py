"""Make the pages of the site that are not written by hand: the API, the result tables, the examples.

Sphinx calls `write` before it reads the pages (conf.py). The pages are Markdown and are not committed.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jaxdescramble

ROOT = Path(__file__).resolve().parent.parent
FRONT_DOOR = "jaxdescramble"
# Rooms that `jaxdescramble.__all__` does not name, but that have public names.
FURTHER_ROOMS = ("show",)


def rooms() -> list[str]:
    """Return the names of the public rooms, in the order of the alphabet."""
    listed = [name for name in jaxdescramble.__all__ if isinstance(getattr(jaxdescramble, name), ModuleType)]
    return sorted([*listed, *FURTHER_ROOMS])


def public_names(module: ModuleType) -> list[str]:
    """Return `__all__`; without it, the functions and classes that the module defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.lower)
    return sorted(
        name
        for name, member in vars(module).items()
        if not name.startswith("_") and callable(member) and getattr(member, "__module__", None) == module.__name__
    )


def modules_of(room: str) -> Iterator[ModuleType]:
    """Yield a room and the public modules in it."""
    module = importlib.import_module(f"jaxdescramble.{room}")
    yield module
    for name in public_names(module):
        member = getattr(module, name)
        if isinstance(member, ModuleType):
            yield member


def documented_names() -> dict[str, str]:
    """Return every public name, and the name under which the site documents the object: the shortest one."""
    documented: dict[str, str] = {}
    seen: dict[int, str] = {}
    for module in [jaxdescramble, *(module for room in rooms() for module in modules_of(room))]:
        for name in public_names(module):
            member = getattr(module, name)
            if not isinstance(member, ModuleType):
                full = f"{module.__name__}.{name}"
                # Equal numbers are one object in Python, so only functions and classes can be aliases.
                documented[full] = seen.setdefault(id(member), full) if callable(member) else full
    return documented


# Docstrings to Markdown -------------------------------------------------------------------------------------------

SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Yields")


def markdown(docstring: str | None) -> str:
    """Turn a docstring into Markdown: sections become lists, examples and formulas become code blocks."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    if len(lines) > 1:  # the text after the first line may be indented by one level more
        rest = textwrap.dedent("\n".join(lines[1:])).splitlines()
        lines = [lines[0], *rest]
    out: list[str] = []
    while lines:
        line = lines.pop(0)
        heading = re.fullmatch(rf"({'|'.join(SECTIONS)}):", line.strip())
        if heading:
            body = _take(lines, lambda text: not text or text.startswith(" "))
            out += ["", f"**{ {'Args': 'Arguments'}.get(heading[1], heading[1]) }**", "", *_section(body), ""]
        elif line.startswith(">>>"):
            out += ["", "```pycon", line, *_take(lines, bool), "```", ""]
        elif line.startswith("    ") and (not out or not out[-1]):
            body = [line, *_take(lines, lambda text: not text or text.startswith(" "))]
            out += ["```text", *textwrap.dedent("\n".join(body)).strip("\n").splitlines(), "```", ""]
        else:
            out.append(_escape(re.sub(r"^(Source|References?): ", r"**\1.** ", line)))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


def _take(lines: list[str], wanted) -> list[str]:
    taken = []
    while lines and wanted(lines[0]):
        taken.append(lines.pop(0))
    return taken


def _section(body: list[str]) -> list[str]:
    """Turn `name: text` with indented further lines into a list; plain text stays a paragraph."""
    out = []
    for line in textwrap.dedent("\n".join(body)).splitlines():
        item = re.match(r"([\w*][\w*., `()]*): (.*)", line)
        if item:
            out.append(f"- `{item[1].replace('`', '')}`: {_escape(item[2])}")
        else:
            out.append(("  " if out and out[0].startswith("- ") and line else "") + _escape(line.strip()))
    return out


def _escape(text: str) -> str:
    """Escape what Markdown reads as a link or a tag, outside of code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\[\]<])", r"\\\1", part) for part in parts)


# The API ----------------------------------------------------------------------------------------------------------


def signature(member) -> str:
    """Return the arguments and their defaults, without types: the docstring says what each one is."""
    try:
        found = inspect.signature(member)
    except (TypeError, ValueError):
        return "()"
    parameters = []
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        default = parameter.default
        if default is not inspect.Parameter.empty:
            shown = getattr(default, "__name__", None) or repr(default)
            default = _Shown("..." if shown.startswith("<") or len(shown) > 60 else shown)
        parameters.append(parameter.replace(annotation=inspect.Parameter.empty, default=default))
    return str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


class _Shown(str):
    __repr__ = str.__str__


def entry(name: str, member, aliases: list[str]) -> str:
    """Return the directive that documents one function or class, with the methods of a class inside it."""
    if not callable(member):
        return f"`````{{py:data}} {name}\n\n`{type(member).__name__}`\n`````\n"
    kind = "class" if isinstance(member, type) else "function"
    canonical = f":canonical: {aliases[0]}\n" if aliases else ""
    text = f"`````{{py:{kind}}} {name}{signature(member)}\n{canonical}\n{markdown(member.__doc__)}\n"
    if kind == "class":
        for method, function in methods(member):
            what = "property" if not callable(function) else "method"
            arguments = "" if what == "property" else signature(function)
            document = markdown(inspect.getdoc(function))
            text += f"\n````{{py:{what}}} {method}{arguments}\n\n{document}\n````\n"
    return text + "`````\n"


def methods(kind: type) -> Iterator[tuple[str, object]]:
    """Yield the public methods and properties with docstrings that this package defines."""
    seen = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("jaxdescramble"):
            continue
        for name, member in vars(base).items():
            plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            public = not name.startswith("_") or name == "__call__"
            described = public and (inspect.isfunction(plain) or isinstance(plain, property)) and plain.__doc__
            if described and name not in seen:
                seen.add(name)
                yield name, plain


def first_sentence(docstring: str | None) -> str:
    """Return the first sentence of a docstring, for a table."""
    paragraph = " ".join(inspect.cleandoc(docstring or "").split("\n\n")[0].split())
    return _escape(re.split(r"(?<=[.!?]) (?=[A-Z`])", paragraph)[0]).replace("|", r"\|")


def room_page(title: str, modules: list[ModuleType], documented: dict[str, str]) -> str:
    """Return the page of one room: a table of its names, then their documentation."""
    text = f"# {title}\n\n"
    for module in modules:
        names = [name for name in public_names(module) if not isinstance(getattr(module, name), ModuleType)]
        if module is not modules[0]:
            text += f"## {module.__name__}\n\n"
        elif module is not jaxdescramble:
            text += markdown((module.__doc__ or "").split("\n\n>>>")[0]) + "\n\n"
        if names:
            text += "| name | what it is |\n|---|---|\n"
        details = ""
        for name in names:
            member, full = getattr(module, name), f"{module.__name__}.{name}"
            summary = first_sentence(member.__doc__) if callable(member) else f"`{type(member).__name__}`"
            text += f"| {{py:obj}}`{name} <{documented[full]}>` | {summary} |\n"
            if documented[full] == full:
                aliases = [alias for alias, target in documented.items() if target == full and alias != full]
                details += entry(full, member, aliases) + "\n"
        text += "\n" + details
    return text


def write_api(folder: Path) -> None:
    """Write one page for the front door and one for each room."""
    documented = documented_names()
    pages = {"front-door": room_page("jaxdescramble", [jaxdescramble], documented)}
    for room in rooms():
        pages[room] = room_page(f"jaxdescramble.{room}", list(modules_of(room)), documented)
    for name, page in pages.items():
        write_if_new(folder / f"{name}.md", page)
    entries = "\n".join(f"{'the front door' if name == 'front-door' else name} <{name}>" for name in pages)
    write_if_new(
        folder / "index.md",
        "# API\n\nEvery public name with its documentation. The front door is `jd`, after "
        "`import jaxdescramble as jd`. The rooms are `jd.exact`, `jd.solvers` and so on.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n",
    )


# Result tables and examples ---------------------------------------------------------------------------------------


def write_results(folder: Path) -> None:
    """Copy the tables of benchmarks/results, so that pages can link to them."""
    sources = sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    for source in sources:
        write_if_new(folder / source.name, source.read_text())
    entries = "\n".join(source.stem for source in sources)
    write_if_new(
        folder / "index.md",
        "# Result tables\n\nEach table names the command that makes it, and the machine.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n",
    )


def write_examples(folder: Path) -> None:
    """Write a page for each example: what its docstring says, and its code."""
    for source in sorted((ROOT / "examples").glob("*.py")):
        docstring = ast.get_docstring(ast.parse(source.read_text()))
        page = f"# {source.name}\n\n{markdown(docstring)}\n\n```{{literalinclude}} ../../examples/{source.name}\n```\n"
        write_if_new(folder / f"{source.stem}.md", page)


def write_if_new(path: Path, text: str) -> None:
    """Write a file only if its text changes, so that Sphinx does not read it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def write(folder: Path) -> None:
    """Write all generated pages below `folder`."""
    write_api(folder / "api")
    write_results(folder / "results")
    write_examples(folder / "examples")


# Links that leave docs/ in the repository stay inside the site.
OUTSIDE = (
    (re.compile(r"\]\((?:\.\./)?benchmarks/results/(\w+\.md)"), r"](/results/\1"),
    (re.compile(r"\]\((?:\.\./)?examples/(\w+)\.py"), r"](/examples/\1.md"),
    (re.compile(r"\]\((?:\.\./)?examples\)"), r"](/examples.md)"),
    (re.compile(r"\]\((?:\.\./)?CONTRIBUTING\.md"), r"](/contributing.md"),
    (re.compile(r"\]\((?:\.\./)?CHANGELOG\.md"), r"](/changelog.md"),
    (re.compile(r"\]\(docs/"), r"](/"),
)


def inside(text: str) -> str:
    """Put in the files of the root that a page includes, and point links at the pages of the site."""
    text = re.sub(
        r"^```\{include\} \.\./(\w+\.md)\n```$", lambda match: (ROOT / match[1]).read_text(), text, flags=re.MULTILINE
    )
    for pattern, replacement in OUTSIDE:
        text = pattern.sub(replacement, text)
    return text
