"""The pictures of workflows show what the code beside them says."""

import ast
import json
import re

from tests.servers import ROOT

DOCS = ROOT / "docs"


def drawn_on(page: str) -> list[dict[str, object]]:
    """The workflows of a page whose JSON is in the directive."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^\.\. workflow-graph::.*\n\n((?:   .*\n)+)", text, re.MULTILINE)
    return [json.loads(each) for each in found]


def test_the_picture_of_the_first_workflow_is_of_what_the_reader_types() -> None:
    text = (DOCS / "tutorial" / "first_workflow.rst").read_text(encoding="utf-8")
    typed = re.search(r"^    WORKFLOW = (\{\n(?:.*\n)*?    \})$", text, re.MULTILINE)
    added = re.findall(r'^    WORKFLOW\["(\w+)"\] = (\{.*\})$', text, re.MULTILINE)
    assert typed is not None
    assert added, "the page adds a task to its workflow"
    workflow = ast.literal_eval(typed[1])
    workflow |= {name: ast.literal_eval(task) for name, task in added}
    assert drawn_on("tutorial/first_workflow.rst") == [workflow]


def test_the_picture_of_a_fan_out_is_of_the_code_above_it() -> None:
    text = (DOCS / "howto" / "migrate.rst").read_text(encoding="utf-8")
    code = re.search(r"^    FAN_OUT = (\{\n(?:.*\n)*?    \})$", text, re.MULTILINE)
    assert code is not None
    assert drawn_on("howto/migrate.rst") == [ast.literal_eval(code[1])]
