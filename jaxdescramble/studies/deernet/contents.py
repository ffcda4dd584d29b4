"""Types of what `report.json` of a demonstration holds. `show.papers.report` writes it, `seeds` and the page read it.

Settings, smoothness and agreement hold further entries, which only people read.
"""

from typing import TypedDict


class PlanContent(TypedDict):
    """The training."""

    layers: int
    steps: int


class SettingsContent(TypedDict):
    """The settings of a demonstration."""

    seed: int
    plan: PlanContent


class SmoothnessContent(TypedDict):
    """Values of the smoothness objective at one side of a layer."""

    descrambled: float
    float64_bound: float
    fall: float
    fall_held_out: float


class AgreementContent(TypedDict):
    """How well two sets of answers agree."""

    correlation: float


class NullContent(TypedDict):
    """A null beside a reading. None stands for numbers that do not exist, such as the spread of one draw."""

    draws: list[float | None]
    mean: float | None
    sd: float | None
    difference: float | None
    effect: float | None
    p_value: float | None
    beaten: bool | None


class ReadingContent(TypedDict):
    """A reading and its nulls by name."""

    name: str
    value: float | None
    unit: str
    depends_on_point: bool
    direction: int
    note: str
    nulls: dict[str, NullContent]


class FindingContent(TypedDict):
    """A claim of the paper and its verdict."""

    claim: str
    layer: str
    reading: str
    verdict: str
    because: str
    depends_on_point: bool


class ReportContent(TypedDict):
    """The whole report: readings by layer, smoothness by layer and side, seconds by stage."""

    format: int
    settings: SettingsContent
    training: dict[str, float]
    smoothness: dict[str, SmoothnessContent]
    function_change: float
    agreement: dict[str, AgreementContent]
    readings: dict[str, list[ReadingContent]]
    findings: list[FindingContent]
    seconds: dict[str, float]
    versions: dict[str, str]
    hardware: dict[str, object]
