"""Pictures for the documentation, made from our own data whenever it is built.

=======================  ====================================================================
``status-diagram``       the table of status changes (``statuses``)
``workflow-graph``       a configuration: its tasks, and what they wait for (``workflow``)
``timeline``             a scenario, as a session played it (``timeline``)
``call-sequence``        the calls of one firing, as they were recorded (``sequence``)
``cost-chart``           the benchmarks' table as bars (``chart``)
=======================  ====================================================================

They are plain SVG inside the page: no program is needed to draw them, and the theme's colours hold
for them. Builders other than HTML leave them out; what they say stands in the text, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class _Picture(SphinxDirective):
    """A directive whose argument is the title of a picture, for those who do not see it."""

    required_arguments = 1
    final_argument_whitespace = True

    def draw(self) -> str:
        """The picture, as SVG."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        try:
            svg = self.draw()
        except (ValueError, RuntimeError, OSError) as error:
            raise self.error(f"{self.name}: {error}") from error
        frame = f'<div class="picture" style="overflow-x: auto; margin: 1em 0">\n{svg}\n</div>'
        return [nodes.raw("", frame, format="html")]

    def depends_on(self, path: str | Path) -> None:
        """Build the page anew when this file has changed."""
        self.env.note_dependency(str(path))

    def json_of_content(self) -> Any:
        return json.loads("\n".join(self.content))

    def file(self, name: str) -> Path:
        """A file beside the page, or from the root of the documentation."""
        _relative, path = self.env.relfn2path(name)
        self.depends_on(path)
        return Path(path)


class StatusDiagram(_Picture):
    """The statuses of a task instance, as a picture and as a table."""

    required_arguments = 0
    optional_arguments = 1

    def draw(self) -> str:
        from pictures import statuses
        from triggers.engine import transitions

        self.depends_on(transitions.__file__)
        table = statuses.table_of_engine()
        return statuses.draw(table, title="Which status of a task instance may follow which")

    def run(self) -> list[nodes.Node]:
        from pictures import statuses

        return [*super().run(), statuses.as_table(statuses.table_of_engine())]


class WorkflowGraph(_Picture):
    """A configuration: JSON in the directive, or in the file that the option names."""

    has_content = True
    option_spec: ClassVar = {"file": directives.unchanged_required}

    def draw(self) -> str:
        from pictures import workflow

        if "file" in self.options:
            tasks = json.loads(self.file(self.options["file"]).read_text(encoding="utf-8"))
        else:
            tasks = self.json_of_content()
        return workflow.draw(tasks, title=self.arguments[0])


class Timeline(_Picture):
    """A scenario: a step on each line, played with the workflow of the option."""

    has_content = True
    option_spec: ClassVar = {"workflow": directives.unchanged_required}

    def draw(self) -> str:
        from pictures import timeline

        tasks = json.loads(self.options["workflow"])
        played = timeline.play(tasks, timeline.read(list(self.content)))
        return timeline.draw(played, title=self.arguments[0])


class CallSequence(_Picture):
    """One firing: on each line a participant, a colon, and the functions of it to watch."""

    has_content = True

    def draw(self) -> str:
        from django.core.management import call_command
        from django.db import connection

        from pictures import sequence

        if not connection.introspection.table_names():
            call_command("migrate", verbosity=0)
        lanes = {}
        for line in filter(None, map(str.strip, self.content)):
            lane, _colon, functions = line.partition(": ")
            lanes[lane.removesuffix(":")] = functions.split()
        calls = sequence.one_firing(lanes)
        return sequence.draw(calls, list(lanes), title=self.arguments[0])


class CostChart(_Picture):
    """The benchmarks' table, in the file that the option names."""

    option_spec: ClassVar = {"file": directives.unchanged_required}

    def draw(self) -> str:
        from pictures import chart

        text = self.file(self.options["file"]).read_text(encoding="utf-8")
        return chart.draw(chart.read(text), title=self.arguments[0])


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("status-diagram", StatusDiagram)
    app.add_directive("workflow-graph", WorkflowGraph)
    app.add_directive("timeline", Timeline)
    app.add_directive("call-sequence", CallSequence)
    app.add_directive("cost-chart", CostChart)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
