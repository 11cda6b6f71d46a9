"""The pictures of the documentation show what is so, and can be read by everybody."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pictures import chart, drawing, sequence, statuses, timeline, workflow
from sphinx.testing.util import SphinxTestApp

from tests.servers import ROOT
from triggers.exceptions import ConfigurationError
from triggers.runners import task_runners

SVG = "{http://www.w3.org/2000/svg}"

QUESTIONNAIRE = json.loads((ROOT / "examples/questionnaire/workflow.json").read_text())
EVERYTHING: Mapping[str, Any] = {
    "t_page": {"andEvery": "page", "run": "app.page"},
    "t_publish": {
        "after": [
            "started",
            {"trigger": "t_page", "times": {"from": "started.pages"}},
            {"atLeast": 2, "of": ["ann", "bob", "eve"]},
            {"settled": "t_page"},
            {"elapsed": "PT1H", "since": "quiet"},
            {"all": ["both"]},
            ["listed"],
            {"trigger": "often", "times": 3},
            {"trigger": "once"},
        ],
        "unless": {"any": ["cancelled", "t_page:failed"]},
        "run": "app.publish",
    },
}
JOIN = {"t_ship": {"after": ["ordered", "paid"], "within": "PT1H"}}
LIFE = """
    0 s   fire paid
    40 s  fire ordered
    42 s  start t_ship#0
    43 s  die t_ship#0
    103 s recover
    104 s start t_ship#0
    105 s fail t_ship#0
    2 min replay t_ship#0
    3 min start t_ship#1
    4 min finish t_ship#1
"""
LANES = {
    "your view": [],
    "manager": ["triggers.manager:TriggerManager.fire"],
    "runner": ["pictures.sequence:WaitingRunner.run"],
    "worker": ["triggers.task:TriggerTask.run", "pictures.sequence:your_code"],
    "storage": ["triggers.storages.session:SessionStorage.transact"],
    "engine": ["triggers.engine:decide"],
    "database": [],
}
CALLS = [
    sequence.Call(caller="a", callee="b", label="one"),
    sequence.Call(caller="b", callee="b", label="itself"),
    sequence.Call(caller="b", callee="a", label="back", is_first=True),
]
TABLE = """
.. list-table::
   :header-rows: 1

   * - Benchmark
     - Case
     - Ratio
     - Limit
   * - one
     - under its limit
     - 1.5
     - ≤ 2
   * - one
     - over its limit
     - 2.5
     - ≤ 2
   * - two
     - fast enough
     - 0.75
     - ≥ 0.5
   * - two
     - too slow
     - 0.25
     - ≥ 0.5
   * - two
     - without a limit
     - 3.0
     -
"""


def play(workflow_: Mapping[str, Any], text: str) -> timeline.Played:
    return timeline.play(workflow_, timeline.read(text.splitlines()))


PICTURES = {
    "statuses": lambda: statuses.draw(statuses.table_of_engine(), title="<a> & b"),
    "graph": lambda: workflow.draw(QUESTIONNAIRE, title="<a> & b"),
    "graph of everything": lambda: workflow.draw(EVERYTHING, title="<a> & b"),
    "timeline": lambda: timeline.draw(play(JOIN, LIFE), title="<a> & b"),
    "sequence": lambda: sequence.draw(CALLS, ["a", "b"], title="<a> & b"),
    "chart": lambda: chart.draw(chart.read(TABLE), title="<a> & b"),
}


@pytest.fixture(params=PICTURES.values(), ids=PICTURES.keys())
def picture(request: pytest.FixtureRequest) -> ElementTree.Element:
    return ElementTree.fromstring(request.param())


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def numbers(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.get(name) or 0) for name in names]


class TestAnyPicture:
    def test_says_in_words_what_it_shows(self, picture: ElementTree.Element) -> None:
        title, description = picture.find(f"{SVG}title"), picture.find(f"{SVG}desc")
        assert title is not None
        assert description is not None
        assert picture.get("role") == "img"
        assert title.text == "<a> & b"
        assert len(description.text or "") > 20
        assert picture.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"

    def test_takes_every_colour_from_the_page(self, picture: ElementTree.Element) -> None:
        text = ElementTree.tostring(picture, encoding="unicode")
        colours = set(re.findall(r'(?:fill|stroke)(?:="|: )([^";]+)', text))
        assert colours <= {"none", "currentColor", drawing.ACCENT, drawing.PAPER}
        assert "currentColor" in colours

    def test_shows_nothing_outside_of_it(self, picture: ElementTree.Element) -> None:
        _x, _y, width, height = map(float, (picture.get("viewBox") or "").split())
        for box in picture.iter(f"{SVG}rect"):
            x, y, wide, high = numbers(box, "x", "y", "width", "height")
            assert 0 <= x <= x + wide <= width
            assert 0 <= y <= y + high <= height
        for text in picture.iter(f"{SVG}text"):
            x, y = numbers(text, "x", "y")
            assert 0 <= x <= width
            assert 0 < y <= height

    def test_has_an_id_of_its_own(self) -> None:
        draw = PICTURES["graph"]
        assert parse(draw()).get("aria-labelledby") != parse(draw()).get("aria-labelledby")


class TestGraph:
    def arrows(self, tasks: Mapping[str, Any]) -> set[tuple[str, str, str]]:
        groups = parse(workflow.draw(tasks, title="")).iter(f"{SVG}g")
        return {
            (str(each.get("data-from")), str(each.get("data-to")), str(each.get("data-as")))
            for each in groups
            if each.get("data-from")
        }

    def test_has_the_arrows_of_the_configuration_and_no_other(self) -> None:
        expected = set()
        for task, directives in QUESTIONNAIRE.items():
            for kind in ("after", "unless"):
                expected |= {(trigger, task, kind) for trigger in directives.get(kind, ())}
            if "andEvery" in directives:
                expected.add((directives["andEvery"], task, "andEvery"))
        assert self.arrows(QUESTIONNAIRE) == expected

    def test_knows_every_kind_of_condition(self) -> None:
        tasks = workflow.waits_for(EVERYTHING["t_publish"])
        assert {name: how for name, (_directive, how) in tasks.items()} == {
            "started": "how many",
            "t_page": "settled",
            "ann": "2 of 3",
            "bob": "2 of 3",
            "eve": "2 of 3",
            "quiet": "PT1H after",
            "both": "",
            "listed": "",
            "often": "3 times",
            "once": "",
            "cancelled": "any",
            "t_page:failed": "any",
        }

    def test_leads_an_outcome_from_its_task(self) -> None:
        tasks = {
            "t_a": {"after": ["a"], "run": "x"},
            "t_b": {"after": ["t_a:failed"], "run": "x"},
        }
        assert ("t_a", "t_b", "after") in self.arrows(tasks)
        assert ">failed<" in workflow.draw(tasks, title="")

    def test_explains_only_the_lines_that_it_has(self) -> None:
        plain = {"t_a": {"after": ["a"], "run": "x"}}
        assert ">unless<" not in workflow.draw(plain, title="")
        assert ">unless<" in workflow.draw({"t_a": {**plain["t_a"], "unless": ["b"]}}, title="")

    def test_refuses_what_is_no_configuration(self) -> None:
        with pytest.raises(ConfigurationError, match=r"t_a\.run: is required"):
            workflow.draw({"t_a": {"after": ["a"]}}, title="")


class TestTimeline:
    def test_shows_what_the_session_said(self) -> None:
        played = play(JOIN, LIFE)
        assert [statuses.get("t_ship#0") for statuses in played.statuses] == [
            "unstarted",
            "scheduled",
            "running",
            "running",
            "scheduled",
            "running",
            "failed",
            "replayed",
            "replayed",
            "replayed",
        ]
        bars = [
            (each.get("data-instance"), each.get("data-status"))
            for each in parse(timeline.draw(played, title="")).iter(f"{SVG}g")
        ]
        assert bars == [
            ("t_ship#0", "unstarted"),
            ("t_ship#0", "scheduled"),
            ("t_ship#0", "running"),
            ("t_ship#0", "scheduled"),
            ("t_ship#0", "running"),
            ("t_ship#0", "failed"),
            ("t_ship#0", "replayed"),
            ("t_ship#1", "scheduled"),
            ("t_ship#1", "running"),
            ("t_ship#1", "finished"),
        ]

    def test_shows_deadlines_and_skips(self) -> None:
        expired = play(JOIN, "0 s fire paid\n1 h look")
        assert expired.statuses[-1] == {"t_ship#0": "abandoned"}
        text = "0 s fire paid\n1 s fire ordered\n2 s start t_ship#0\n3 s fail t_ship#0\n"
        skipped = play(JOIN, f"{text}4 s skip t_ship#0")
        assert skipped.statuses[-1] == {"t_ship#0": "skipped"}

    def test_bars_of_an_instance_follow_each_other_without_a_gap(self) -> None:
        svg = parse(timeline.draw(play(JOIN, LIFE), title=""))
        ends: dict[str, float] = {}
        for group in svg.iter(f"{SVG}g"):
            name, box = str(group.get("data-instance")), group.find(f"{SVG}rect")
            assert box is not None
            x, wide = numbers(box, "x", "width")
            assert x == pytest.approx(ends.get(name, x))
            ends[name] = x + wide

    @pytest.mark.parametrize("text", ["fire paid", "3 weeks fire paid", "1 s dance", "1 s facts"])
    def test_refuses_what_is_no_step(self, text: str) -> None:
        with pytest.raises(ValueError, match="is no step"):
            timeline.read([text])

    def test_refuses_a_step_that_does_nothing(self) -> None:
        with pytest.raises(RuntimeError, match="'2 s look ' changed nothing"):
            play(JOIN, "0 s fire paid\n2 s look")
        assert timeline_runner_is_gone()


def timeline_runner_is_gone() -> bool:
    return not [name for name in task_runners.names() if name.startswith("docs-pictures")]


@pytest.mark.django_db(transaction=True)
class TestSequence:
    def test_records_who_calls_whom(self) -> None:
        calls = sequence.one_firing(LANES)
        assert [(call.caller, call.callee, call.label) for call in calls[:6]] == [
            ("your view", "manager", "fire"),
            ("manager", "storage", "transact"),
            ("storage", "database", "BEGIN … SELECT"),
            ("storage", "engine", "decide"),
            ("storage", "database", "INSERT … COMMIT"),
            ("manager", "runner", "run"),
        ]
        assert calls[6] == sequence.Call(
            caller="runner", callee="worker", label="run", is_first=True
        )
        assert [call.label for call in calls].count("your_code") == 1
        assert timeline_runner_is_gone()

    def test_a_function_that_is_not_called_is_an_error(self) -> None:
        lanes = {**LANES, "manager": ["triggers.manager:TriggerManager.erase"]}
        with pytest.raises(RuntimeError, match="never called: erase"):
            sequence.one_firing(lanes)
        assert timeline_runner_is_gone()

    def test_a_function_that_is_not_there_is_an_error(self) -> None:
        with pytest.raises(AttributeError):
            sequence.one_firing({**LANES, "outbox": ["triggers.outbox:nobody"]})


class TestChart:
    def test_reads_the_table_that_the_benchmarks_write(self) -> None:
        found = [
            (each.case, each.ratio, each.limit, each.is_kept, each.words)
            for each in chart.read(TABLE)
        ]
        assert found == [
            ("under its limit", 1.5, 2.0, True, "1.50 (≤ 2)"),
            ("over its limit", 2.5, 2.0, False, "2.50 (≤ 2, missed)"),
            ("fast enough", 0.75, 0.5, True, "0.75 (≥ 0.5)"),
            ("too slow", 0.25, 0.5, False, "0.25 (≥ 0.5, missed)"),
            ("without a limit", 3.0, None, True, "3.00"),
        ]

    def test_reads_what_the_benchmarks_write_today(self) -> None:
        from benchmarks.measure import Comparison, Row
        from benchmarks.table import as_rst

        figures = Comparison(ours=3.0, base=2.0, ratio=1.5, low=1.4, high=1.6)
        rows = [Row(benchmark="redis", case="a join", figures=figures, limit=1.8, aim=None)]
        [found] = chart.read(as_rst(rows, {"processors": 2}, "make bench"))
        assert (found.case, found.ratio, found.limit) == ("a join", 1.5, 1.8)

    def test_a_bar_is_as_long_as_its_ratio(self) -> None:
        svg = parse(chart.draw(chart.read(TABLE), title=""))
        lengths = [numbers(box, "width")[0] for box in svg.iter(f"{SVG}rect")]
        assert [length / lengths[0] for length in lengths] == pytest.approx(
            [ratio / 1.5 for ratio in (1.5, 2.5, 0.75, 0.25, 3.0)]
        )

    def test_reads_the_table_of_the_page(self) -> None:
        page = ROOT / "docs" / "explanation" / "cost_table.inc"
        assert len(chart.read(page.read_text(encoding="utf-8"))) >= 5

    @pytest.mark.parametrize("text", ["", "Some text.", TABLE.replace("Limit", "Border")])
    def test_refuses_another_table(self, text: str) -> None:
        with pytest.raises(ValueError, match="expected a list-table"):
            chart.read(text)


class TestPage:
    """What a reader's browser gets, built by Sphinx."""

    def build(self, directory: Path, page: str) -> tuple[str, str]:
        (directory / "conf.py").write_text('extensions = ["pictures"]\nkeep_warnings = False\n')
        (directory / "index.rst").write_text(f"Title\n=====\n\n{page}\n")
        app = SphinxTestApp(srcdir=directory)
        try:
            app.build()
            return (app.outdir / "index.html").read_text(), app.warning.getvalue()
        finally:
            app.cleanup()

    def test_has_the_picture_and_not_only_words(self, tmp_path: Path) -> None:
        (tmp_path / "shop.json").write_text('{"t_x": {"after": ["inFile"], "run": "x"}}')
        (tmp_path / "table.inc").write_text(TABLE)
        html, warnings = self.build(
            tmp_path,
            ".. status-diagram::\n\n"
            '.. workflow-graph:: Inline\n\n   {"t_x": {"after": ["inPage"], "run": "x"}}\n\n'
            ".. workflow-graph:: A file\n   :file: shop.json\n\n"
            '.. timeline:: Times\n   :workflow: {"t_x": {"after": ["a"]}}\n\n   3 s fire a\n\n'
            ".. cost-chart:: Bars\n   :file: table.inc\n",
        )
        assert warnings == ""
        pictures = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
        words = [">abandoned<", ">inPage<", ">inFile<", ">scheduled<", "1.50 (≤ 2)"]
        assert [word for word, svg in zip(words, pictures, strict=True) if word in svg] == words

    @pytest.mark.parametrize(
        ("page", "said"),
        [
            (".. workflow-graph:: T\n\n   {", "workflow-graph: Expecting property name"),
            ('.. workflow-graph:: T\n\n   {"t": {"after": ["a"]}}', "t.run: is required"),
            (".. workflow-graph:: T\n   :file: none.json", "No such file"),
            (".. timeline:: T\n   :workflow: {}\n\n   1 s dance", "is no step"),
            (".. cost-chart:: T\n   :file: index.rst", "expected a list-table"),
        ],
    )
    def test_what_cannot_be_drawn_stops_the_build(
        self, tmp_path: Path, page: str, said: str
    ) -> None:
        assert said in self.build(tmp_path, page)[1]
