"""Pages, docstrings, comments and messages are written in the words of this project (prose.py)."""

import pytest
from prose import ROOT, RULES, VOCABULARY, files, findings, main, module_texts, pending


def test_files_are_clean_and_the_list_of_the_others_shrinks(capsys):
    failed = main([])
    printed = capsys.readouterr().out
    assert not failed, f"{printed}\nIf a file of prose_pending.txt became clean, run `python tests/prose.py --shrink`."
    assert set(pending()) <= {str(path.relative_to(ROOT)) for path in files()}


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Args:\n    x: as in `descramble`.", 1),
        ("Of both sets of samples, on this one's devices.", 1),
        ("a shard that there is not", 1),
        ("x is none of the operations", 1),
        ("got -1; it is not negative.", 1),
        ("computed only for who asks", 1),
        ("options of one's own", 1),
        ("Merge two accumulators; keep the devices of `self`.", 0),
        ("Return a copy that includes `batch`.", 0),
        ("got -1; must be at least 0.", 0),
    ],
)
def test_sentences_of_the_table_are_told_apart(text, count):
    assert sum(len(pattern.findall(text)) for pattern, _ in RULES) == count


def test_docstrings_comments_and_messages_are_read_and_code_is_not(tmp_path, monkeypatch):
    source = '''"""Module.

>>> in_place_of = "in place of"
"""
# A comment in place
# of another.
def f(in_place_of):
    """The answer, anew."""
    raise ValueError(f"got {in_place_of}; it is not negative.")
'''
    texts = [text for _, text in module_texts(source)]
    assert sum("in place\nof" in text for text in texts) == 1
    monkeypatch.setattr("prose.ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(source)
    found = findings(path)
    assert [line.split(":")[1] for line in found] == ["5", "7", "8", "9"], found


def test_advice_is_given_for_every_pattern():
    assert all(pattern and advice for pattern, advice in VOCABULARY)
