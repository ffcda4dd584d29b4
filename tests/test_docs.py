"""Every code cell of the README and of the site runs; the API pages miss no public name."""

import collections
import importlib
import importlib.util
import re
import types
from pathlib import Path

import jax
import pytest

import jaxdescramble

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
CELL = re.compile(r"^```\{code-cell\}.*?\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
RUN = [name for name, text in PAGES.items() if CELL.search(text)]
QUICK = ["film", "start"]

pytestmark = pytest.mark.usefixtures("as_installed")


def run(cells, name):
    """Run the cells of a page one after another, in one namespace, as a reader would."""
    namespace = {}
    with jax.numpy_rank_promotion("allow"):
        for number, cell in enumerate(cells, 1):
            exec(compile(cell, f"{name}, cell {number}", "exec"), namespace)


def test_the_code_of_the_readme_runs_in_order(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # it writes a report
    cells = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    assert cells
    run(cells, "README")


@pytest.mark.default_precision
def test_the_recipes_for_contributors_run():
    if not hasattr(jaxdescramble.Objective, "value"):
        pytest.skip("objectives are not classes here")
    run(
        re.findall(r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE),
        "recipes",
    )


@pytest.mark.every_case
@pytest.mark.parametrize("name", QUICK)
def test_quick_pages_run(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run(CELL.findall(PAGES[name]), name)


@pytest.mark.default_precision
@pytest.mark.every_case
@pytest.mark.parametrize("name", [name for name in RUN if name not in QUICK])
def test_pages_run(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run(CELL.findall(PAGES[name]), name)


def test_only_code_of_other_libraries_is_shown_and_not_run():
    for name, text in PAGES.items():
        shown = re.findall(r"^```(?:python|py|pycon)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        if name in ("coming-from", "explain"):
            assert shown
            assert all("jd." not in block and "jaxdescramble" not in block for block in shown)
        else:
            assert shown == [], f"{name}: make it a code-cell, so that it runs"


def test_links_lead_to_files_and_sections_that_exist():
    texts = {ROOT / "docs" / f"{name}.md": text for name, text in PAGES.items()}
    texts |= {ROOT / name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")}
    texts[ROOT / "tests" / "README.md"] = (ROOT / "tests" / "README.md").read_text()
    broken = []
    for path, text in texts.items():
        targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^```\{image\} (\S+)", text, flags=re.MULTILINE)
        for target in targets:
            file, _, section = target.partition("#")
            goal = (path.parent / file).resolve() if file else path
            if "://" in target:
                continue
            if not goal.exists() or (section and section not in sections(goal.read_text())):
                broken.append(f"{path.name}: {target}")
    assert broken == []


def sections(text):
    """The anchors of a page's headings, as MyST and GitHub make them."""
    titles = re.findall(r"^#+ (.*)", text, flags=re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.lower())) for title in titles}


def test_one_version_stands_everywhere():
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)[1]
    assert re.search(r"^version: (.*)", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)[1] == version
    release = version.split(".dev")[0]
    assert re.search(rf"^## {re.escape(release)}\b", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_every_page_is_in_the_table_of_contents():
    listed = set(re.findall(r"^[\w/-]+$", PAGES["index"], flags=re.MULTILINE))
    assert set(PAGES) - {"index"} == {name for name in listed if "/" not in name}


def test_every_example_is_in_the_list():
    listed = set(re.findall(r"^\| \[(\w+\.py)\]\(\.\./examples/\1\)", PAGES["examples"], flags=re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "examples").glob("*.py")}


def test_the_api_pages_document_every_public_name_once(tmp_path):
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    site_pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(site_pages)
    site_pages.write_api(tmp_path)
    pages = {path.stem: path.read_text() for path in tmp_path.glob("*.md")}
    entries = re.findall(r"^`+\{py:(?:function|class|data)\} ([\w.]+)", "\n".join(pages.values()), flags=re.MULTILINE)
    assert len(entries) == len(set(entries)) > 150
    missing = [name for name in public_names(jaxdescramble) if f"`{name} <" not in pages["front-door"]]
    for room in rooms():
        module = importlib.import_module(f"jaxdescramble.{room}")
        inner = [getattr(module, name) for name in getattr(module, "__all__", [])]
        for part in [module, *(member for member in inner if isinstance(member, types.ModuleType))]:
            missing += [f"{part.__name__}.{name}" for name in public_names(part) if f"`{name} <" not in pages[room]]
    assert missing == []
    targets = set(re.findall(r"\{py:obj\}`\w+ <([\w.]+)>`", "\n".join(pages.values())))
    assert targets == set(entries)


def rooms():
    return [name for name in (*jaxdescramble.__all__, "show") if importlib.util.find_spec(f"jaxdescramble.{name}")]


def public_names(module):
    """The names in `__all__` that are no modules."""
    names = getattr(module, "__all__", [])
    return [name for name in names if not isinstance(getattr(module, name), types.ModuleType)]


def test_ci_calls_the_very_test_command_of_the_readme_and_then_the_thorough_tier():
    commands = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    assert any('pip install -e ".[demo]" && jaxdescramble demo' in block for block in commands)
    assert any('pip install -e ".[test]" && pytest' in block for block in commands)
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script
    thorough = re.findall(r"^.*pytest -m .*$", script, flags=re.MULTILINE)
    described = (ROOT / "tests" / "README.md").read_text()
    assert len(thorough) == 2
    assert all(command in described for command in thorough)


def test_every_marker_that_leaves_tests_out_belongs_to_a_tier():
    """What the default command leaves out, the thorough tier runs, or the README of the tests tells how to."""
    options = (ROOT / "pyproject.toml").read_text()
    left_out = set(re.findall(r"not (\w+)", re.search(r"-m '(.*?)'", options)[1]))
    described = (ROOT / "tests" / "README.md").read_text()
    assert left_out == {"thorough", "slow", "gpu", "default_precision"}
    assert all(f"`{name}`" in described for name in left_out)


def test_two_cases_of_a_parametrised_test_are_in_the_default_tier(request):
    if "not thorough" not in request.config.option.markexpr:
        pytest.skip("this is not the default tier")
    items = [item for item in request.session.items if not item.get_closest_marker("every_case")]
    cases = collections.Counter((item.path, item.originalname) for item in items)
    assert max(cases.values()) <= 2


def test_the_layout_on_the_site_is_the_layout_there_is():
    layout = PAGES["layout"]
    rooms = {path.name for path in (ROOT / "jaxdescramble").iterdir() if not path.name.startswith("__")}
    rooms = {room if room.endswith(".py") else f"{room}/" for room in rooms if room != "py.typed"}
    described = set(re.findall(r"^\s*([a-z_]+(?:\.py|/))\s", layout, flags=re.MULTILINE)) - {"jaxdescramble/"}
    assert described == rooms
