"""What the results of `published.py` say: one paragraph for each network, with numbers filled in."""

PARAGRAPHS: dict[str, str] = dict.fromkeys(
    ("crepe tiny", "crepe full", "minilm", "deernet", "pnet", "rnet", "onet"), ""
)
