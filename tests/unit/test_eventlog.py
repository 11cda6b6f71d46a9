"""Reading event logs: what becomes an event, what does not, and on which line that is said."""

from __future__ import annotations

import csv
import gzip
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.backtest import bytestream
from triggers.backtest.eventlog import (
    Columns,
    Event,
    EventLog,
    EventLogError,
    Malformed,
    MissingColumn,
)
from triggers.backtest.spool import Spool, read_cases, worker_of

HEADER = "case:concept:name,concept:name,time:timestamp,cost\n"
ROW = "c1,paid,2026-01-02T03:04:05+01:00,12\n"

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
NAMES = TEXTS.filter(str.strip)

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def read(path: Path, **columns: str) -> list[Event | Malformed]:
    return list(EventLog(path, Columns(**columns)))


def events(path: Path, **columns: str) -> list[Event]:
    return [record for record in read(path, **columns) if isinstance(record, Event)]


def troubles(path: Path, **columns: str) -> list[tuple[int, str]]:
    found = [record for record in read(path, **columns) if isinstance(record, Malformed)]
    return [(record.line, record.reason) for record in found]


class TestValues:
    def test_an_event_refuses_a_naive_time(self) -> None:
        with pytest.raises(ValueError, match="aware"):
            Event(case="c", activity="a", time=datetime(2026, 1, 1), line=1, attributes={})

    @pytest.mark.parametrize(("case", "activity"), [("", "a"), ("c", "")])
    def test_an_event_has_a_case_and_an_activity(self, case: str, activity: str) -> None:
        with pytest.raises(ValueError, match="case and an activity"):
            Event(case=case, activity=activity, time=None, line=1, attributes={})


class TestCsv:
    def test_a_row_becomes_an_event_with_all_of_its_cells(self, write: Write) -> None:
        assert read(write("log.csv", HEADER + ROW)) == [
            Event(
                case="c1",
                activity="paid",
                time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1))),
                line=2,
                attributes={
                    "case:concept:name": "c1",
                    "concept:name": "paid",
                    "time:timestamp": "2026-01-02T03:04:05+01:00",
                    "cost": "12",
                },
            )
        ]

    def test_an_empty_cell_is_no_attribute(self, write: Write) -> None:
        path = write("log.csv", HEADER + "c1,paid,2026-01-02T03:04:05Z,\n")
        assert "cost" not in events(path)[0].attributes

    def test_other_columns_can_be_chosen(self, write: Write) -> None:
        path = write("log.csv", "order,step,at\n7,paid,2026-01-02 03:04:05Z\n")
        (event,) = events(path, case="order", activity="step", time="at")
        assert (event.case, event.activity) == ("7", "paid")
        assert event.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    @pytest.mark.parametrize("role", ["case", "activity", "time"])
    def test_a_missing_column_is_named_with_those_that_there_are(
        self, write: Write, role: str
    ) -> None:
        path = write("log.csv", HEADER + ROW)
        with pytest.raises(MissingColumn) as caught:
            EventLog(path, Columns(**{role: "nope"}))
        assert (caught.value.role, caught.value.column) == (role, "nope")
        assert ", ".join(HEADER.strip().split(",")) in str(caught.value)

    def test_without_the_default_time_column_events_have_no_time(self, write: Write) -> None:
        path = write("log.csv", "case:concept:name,concept:name\nc1,paid\n")
        assert [event.time for event in events(path)] == [None]

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_the_delimiter_is_found_in_the_first_line(self, write: Write, delimiter: str) -> None:
        path = write("log.csv", (HEADER + ROW).replace(",", delimiter))
        assert [event.case for event in events(path)] == ["c1"]

    def test_the_delimiter_is_the_one_that_brings_out_the_columns(self, write: Write) -> None:
        path = write("log.csv", "case:concept:name;concept:name;a,b,c,d,e\nc1;paid;x\n")
        assert [event.activity for event in events(path)] == ["paid"]

    def test_any_other_delimiter_can_be_given(self, write: Write) -> None:
        path = write("log.csv", (HEADER + ROW).replace(",", "|"))
        (event,) = EventLog(path, delimiter="|")
        assert isinstance(event, Event)
        assert event.activity == "paid"

    def test_a_byte_order_mark_is_tolerated(self, write: Write) -> None:
        assert [event.case for event in events(write("log.csv", "\ufeff" + HEADER + ROW))] == ["c1"]

    def test_a_file_in_utf_16_is_refused_with_the_remedy(self, write: Write) -> None:
        with pytest.raises(EventLogError, match="save it as UTF-8"):
            EventLog(write("log.csv", (HEADER + ROW).encode("utf-16")))

    def test_an_empty_file_is_refused(self, write: Write) -> None:
        with pytest.raises(EventLogError, match="empty"):
            EventLog(write("log.csv", ""))

    def test_a_first_row_that_cannot_be_read_is_refused(self, write: Write) -> None:
        with pytest.raises(EventLogError, match="Line 1, the row of column names: a quote"):
            EventLog(write("log.csv", '"case:concept:name,concept:name\nc1,paid\n'))
        with pytest.raises(EventLogError, match="Line 1, the row of column names: new-line"):
            EventLog(write("log.csv", "case:concept:name,concept:name\rc1,paid\r"))

    def test_two_columns_of_one_name_are_refused_if_the_name_matters(self, write: Write) -> None:
        with pytest.raises(EventLogError, match="Two columns are named 'concept:name'"):
            EventLog(write("log.csv", "case:concept:name,concept:name,concept:name\n"))

    def test_a_row_may_go_over_several_lines_and_counts_from_its_first(self, write: Write) -> None:
        path = write(
            "log.csv",
            HEADER
            + 'c1,paid,2026-01-02T03:04:05Z,"a\nb\r\nc"\n'
            + "\n"
            + "c2,paid,2026-01-02T03:04:05Z,\n",
        )
        assert [(event.case, event.line) for event in events(path)] == [("c1", 2), ("c2", 6)]
        assert events(path)[0].attributes["cost"] == "a\nb\r\nc"

    def test_lines_may_end_as_on_windows_and_the_last_may_have_no_end(self, write: Write) -> None:
        path = write("log.csv", (HEADER + ROW + ROW).replace("\n", "\r\n").rstrip())
        assert [(event.line, event.attributes["cost"]) for event in events(path)] == [
            (2, "12"),
            (3, "12"),
        ]

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ("c1,paid,2026-01-02T03:04:05Z\n", "3 cells where the first row has 4"),
            ("c1,paid,2026-01-02T03:04:05Z,1,2\n", "5 cells where the first row has 4"),
            (",paid,2026-01-02T03:04:05Z,1\n", "no case: column 'case:concept:name' is empty"),
            ("c1, ,2026-01-02T03:04:05Z,1\n", "no activity: column 'concept:name' is empty"),
            ("c1,paid,,1\n", "no time: column 'time:timestamp' is empty"),
            ("c1,paid,yesterday,1\n", "'yesterday' is no ISO 8601 timestamp"),
            ("c1,paid,0001-01-01T00:00:00+10:00,1\n", "is no ISO 8601 timestamp"),
            ('c1,"pa"id,2026-01-02T03:04:05Z,1\n', "',' expected after '\"'"),
            ("c1,pa\x00id,2026-01-02T03:04:05Z,1\n", "U+0000 in column 'concept:name'"),
        ],
    )
    def test_a_bad_row_is_told_with_its_line_and_the_others_are_read(
        self, write: Write, row: str, reason: str
    ) -> None:
        path = write("log.csv", HEADER + ROW + row + ROW)
        (trouble,) = troubles(path)
        assert trouble[0] == 3
        assert reason in trouble[1]
        assert [event.line for event in events(path)] == [2, 4]

    def test_bytes_that_are_no_utf_8_spoil_their_row_only(self, write: Write) -> None:
        bad = b'c1,"two\nl\xefnes",2026-01-02T03:04:05Z,1\n'
        path = write("log.csv", HEADER.encode() + ROW.encode() + bad + ROW.encode())
        assert troubles(path) == [(3, "line 4 is not UTF-8 (byte 0xef)")]
        assert [event.line for event in events(path)] == [2, 5]

    def test_a_quote_that_is_never_closed_costs_its_line_only(self, write: Write) -> None:
        path = write("log.csv", HEADER + ROW + 'c1,"paid,2026-01-02T03:04:05Z,1\n' + ROW + ROW)
        assert troubles(path) == [(3, "a quote is opened that is never closed")]
        assert [event.line for event in events(path)] == [2, 4, 5]

    def test_such_a_quote_is_given_up_before_it_swallows_a_long_file(self, write: Write) -> None:
        path = write("log.csv", HEADER + 'c1,"paid,2026-01-02T03:04:05Z,1\n' + ROW * 10_000)
        ((line, reason),) = troubles(path)
        assert line == 2
        assert "its quote is never closed" in reason
        assert len(events(path)) == 10_000

    def test_a_line_that_is_too_long_to_keep_is_told_and_left(self, write: Write) -> None:
        long = "c1,paid,2026-01-02T03:04:05Z," + "x" * (bytestream.LONGEST_LINE + 1) + "\n"
        path = write("log.csv", HEADER + long + ROW)
        assert troubles(path) == [(2, "line 2 is too long")]
        assert [event.line for event in events(path)] == [3]

    def test_a_time_without_an_offset_is_taken_as_utc_and_counted(self, write: Write) -> None:
        log = EventLog(write("log.csv", HEADER + "c1,paid,2026-01-02 03:04:05,1\n" + ROW))
        first, _ = (record for record in log if isinstance(record, Event))
        assert first.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert log.naive_times == 1

    @given(st.lists(st.tuples(NAMES, NAMES, TEXTS), max_size=20))
    def test_what_the_csv_module_writes_is_read_back(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
    ) -> None:
        path = tmp_path_factory.mktemp("csv") / "log.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["case:concept:name", "concept:name", "note"])
            writer.writerows(rows)
        found = [
            (event.case, event.activity, event.attributes.get("note", "")) for event in events(path)
        ]
        assert found == [(case, act, note if note.strip() else "") for case, act, note in rows]


def xes(*traces: str, prolog: str = "", attributes: str = "") -> str:
    body = "\n".join(traces)
    return f'<?xml version="1.0" encoding="UTF-8"?>{prolog}\n<log{attributes}>\n{body}\n</log>\n'


def trace(*lines: str, case: str = '<string key="concept:name" value="c1"/>') -> str:
    return "\n".join(["<trace>", case, *lines, "</trace>"])


PAID = '<event><string key="concept:name" value="paid"/></event>'


def one_event(attributes: str) -> str:
    return xes(trace(f'<event><string key="concept:name" value="paid"/>{attributes}</event>'))


class TestXes:
    def test_attributes_keep_their_types_and_those_of_the_trace_get_a_prefix(
        self, write: Write
    ) -> None:
        path = write(
            "log.xes",
            xes(
                trace(
                    '<int key="priority" value="3"/>',
                    '<event><string key="concept:name" value="paid"/>',
                    '<date key="time:timestamp" value="2026-01-02T03:04:05.678+01:00"/>',
                    '<int key="n" value="-7"/><float key="f" value="1.5e3"/>',
                    '<boolean key="b" value="true"/><id key="i" value="a-b"/></event>',
                )
            ),
        )
        assert read(path) == [
            Event(
                case="c1",
                activity="paid",
                time=datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone(timedelta(hours=1))),
                line=6,
                attributes={
                    "case:concept:name": "c1",
                    "case:priority": 3,
                    "concept:name": "paid",
                    "time:timestamp": "2026-01-02T03:04:05.678+01:00",
                    "n": -7,
                    "f": 1500.0,
                    "b": True,
                    "i": "a-b",
                },
            )
        ]

    @pytest.mark.parametrize(
        ("attribute", "value"),
        [
            (
                '<list key="a"><values><int key="x" value="1"/><int key="x" value="2"/></values>'
                "</list>",
                [{"x": 1}, {"x": 2}],
            ),
            (
                '<container key="a"><int key="x" value="1"/><id key="y" value="z"/></container>',
                {"x": 1, "y": "z"},
            ),
            (
                '<string key="a" value="v"><int key="x" value="1"/></string>',
                {"value": "v", "children": {"x": 1}},
            ),
            ('<list key="a"/>', []),
        ],
    )
    def test_nested_attributes_become_plain_json(
        self, write: Write, attribute: str, value: object
    ) -> None:
        (event,) = events(write("log.xes", one_event(attribute)))
        assert event.attributes["a"] == value

    def test_an_activity_may_have_attributes_of_its_own(self, write: Write) -> None:
        path = write(
            "log.xes",
            xes(
                trace(
                    '<event><string key="concept:name" value="paid">'
                    '<string key="lang" value="en"/></string></event>'
                )
            ),
        )
        assert [event.activity for event in events(path)] == ["paid"]

    def test_a_number_that_is_none_is_no_attribute(self, write: Write) -> None:
        (event,) = events(write("log.xes", one_event('<float key="f" value="NaN"/>')))
        assert "f" not in event.attributes

    @pytest.mark.parametrize(
        "attributes",
        ["", ' xmlns="http://www.xes-standard.org/"', ' xmlns:x="http://www.xes-standard.org/"'],
    )
    def test_namespaces_are_optional(self, write: Write, attributes: str) -> None:
        text = xes(trace(PAID), attributes=attributes)
        if "xmlns:x" in attributes:
            text = text.replace("</", "</x:").replace("<", "<x:")
            text = text.replace("<x:/x:", "</x:").replace("<x:?", "<?")
        assert [event.case for event in events(write("log.xes", text))] == ["c1"]

    def test_defaults_and_attributes_of_the_log_are_no_events(self, write: Write) -> None:
        path = write(
            "log.xes",
            xes(
                '<extension name="Concept" prefix="concept" uri="x"/>',
                '<global scope="event"><string key="concept:name" value="unknown"/></global>',
                '<classifier name="a" keys="concept:name"/><string key="concept:name" value="l"/>',
                trace(PAID),
            ),
        )
        assert [(event.case, event.activity) for event in events(path)] == [("c1", "paid")]
        assert troubles(path) == []

    def test_other_attributes_can_be_chosen(self, write: Write) -> None:
        path = write("log.xes", one_event('<string key="org:group" value="g"/>'))
        (event,) = events(path, activity="org:group", case="concept:name")
        assert (event.case, event.activity) == ("paid", "g")

    @pytest.mark.parametrize(
        ("attribute", "reason"),
        [
            ('<int key="n" value="7.5"/>', "'n': '7.5' is no integer (line 6)"),
            ('<int key="n" value="1_000"/>', "'n': '1_000' is no integer (line 6)"),
            (f'<int key="n" value="{"9" * 5000}"/>', "is no integer (line 6)"),
            ('<float key="f" value="much"/>', "'f': 'much' is no number (line 6)"),
            ('<float key="f" value="1_0"/>', "'f': '1_0' is no number (line 6)"),
            ('<float key="f" value="INF"/>', "'f': 'INF' is not finite"),
            ('<boolean key="b" value="yes"/>', "'b': 'yes' is neither true nor false (line 6)"),
            ('<date key="d" value="12/31/2026"/>', "'d': '12/31/2026' is no ISO 8601 timestamp"),
            ('<string key="s"/>', "'s' has no value (line 6)"),
            ('<string value="s"/>', "a <string> without a key (line 6)"),
        ],
    )
    def test_a_bad_attribute_spoils_its_event_and_both_lines_are_told(
        self, write: Write, attribute: str, reason: str
    ) -> None:
        bad = f'<event><string key="concept:name" value="paid"/>\n{attribute}\n</event>'
        path = write("log.xes", xes(trace(bad, PAID)))
        (trouble,) = troubles(path)
        assert trouble[0] == 5
        assert reason in trouble[1]
        assert [event.line for event in events(path)] == [8]

    def test_an_event_without_a_name_is_told(self, write: Write) -> None:
        path = write("log.xes", xes(trace(PAID, '<event>\n<int key="n" value="1"/></event>', PAID)))
        assert troubles(path) == [(6, "no activity: 'concept:name' is missing or empty")]
        assert len(events(path)) == 2

    @pytest.mark.parametrize("case", ["", '<string key="concept:name" value=" "/>'])
    def test_each_event_of_a_trace_without_a_name_is_told(self, write: Write, case: str) -> None:
        path = write("log.xes", xes(trace(PAID, PAID, case=case), trace(PAID)))
        reason = "no case: 'case:concept:name' is missing or empty"
        assert troubles(path) == [(5, reason), (6, reason)]
        assert len(events(path)) == 1

    def test_an_event_outside_of_any_trace_has_no_case(self, write: Write) -> None:
        assert [line for line, _ in troubles(write("log.xes", xes(PAID)))] == [3]

    def test_a_bad_attribute_of_a_trace_is_told_once_and_left_out(self, write: Write) -> None:
        path = write("log.xes", xes(trace('<int key="n" value="x"/>', PAID, PAID)))
        assert troubles(path) == [(5, "attribute of a trace left out: 'n': 'x' is no integer")]
        assert [event.attributes.get("case:n") for event in events(path)] == [None, None]

    def test_an_event_may_do_without_a_time_unless_one_was_asked_for(self, write: Write) -> None:
        path = write("log.xes", xes(trace(PAID)))
        assert [event.time for event in events(path)] == [None]
        assert troubles(path, time="at") == [(5, "no time: 'at' is missing or empty")]

    def test_a_time_without_an_offset_is_taken_as_utc_and_counted(self, write: Write) -> None:
        log = EventLog(
            write(
                "log.xes",
                one_event('<date key="time:timestamp" value="2026-01-02T03:04:05"/>'),
            )
        )
        assert [e.time for e in log if isinstance(e, Event)] == [
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        ]
        assert log.naive_times == 1

    def test_a_file_that_ends_in_the_middle_is_told_and_what_was_read_counts(
        self, write: Write
    ) -> None:
        text = xes(trace(PAID, PAID, PAID))
        path = write("log.xes", text[: text.rindex("<event>") + 20])
        assert [event.line for event in events(path)] == [5, 6]
        ((line, reason),) = troubles(path)
        assert line == 7
        assert "the rest was not read" in reason

    def test_bytes_that_are_no_xml_are_told_with_their_line(self, write: Write) -> None:
        path = write("log.xes", xes(trace(PAID, "<event><a></b></event>", PAID)))
        assert [event.line for event in events(path)] == [5]
        ((line, reason),) = troubles(path)
        assert line == 6
        assert "mismatched tag" in reason

    @pytest.mark.parametrize(
        "declaration",
        [
            '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">',
            '<!ENTITY a SYSTEM "file:///etc/passwd">',
            '<!ENTITY % a "b">',
        ],
    )
    def test_a_file_that_declares_entities_is_refused(self, write: Write, declaration: str) -> None:
        path = write("log.xes", xes(trace(PAID), prolog=f"<!DOCTYPE log [{declaration}]>"))
        with pytest.raises(EventLogError, match=r"declares the entity '[ab]'"):
            read(path)

    def test_other_xml_is_refused(self, write: Write) -> None:
        with pytest.raises(EventLogError, match="root element is <html>"):
            read(write("log.xes", "<html></html>"))

    def test_attributes_may_not_be_nested_without_end(self, write: Write) -> None:
        deep = '<container key="k">' * 5000 + "</container>" * 5000
        path = write("log.xes", one_event(deep))
        ((line, reason),) = troubles(path)
        assert line == 5
        assert "nested deeper" in reason


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "is_xes"),
        [
            ("log.csv", False),
            ("log.csv.gz", False),
            ("log.xes", True),
            ("log.XES.gz", True),
            ("log", False),
            ("log.xml", True),
            ("log.gz", True),
            ("2026.01", False),
        ],
    )
    @pytest.mark.parametrize("is_gzip", [False, True])
    def test_the_format_is_told_by_the_name_or_else_the_content(
        self, write: Write, name: str, is_xes: bool, is_gzip: bool
    ) -> None:
        content = (xes(trace(PAID)) if is_xes else HEADER + ROW).encode()
        path = write(name, gzip.compress(content) if is_gzip else content)
        assert EventLog(path).format == ("xes" if is_xes else "csv")
        assert [event.case for event in events(path)] == ["c1"]

    def test_a_gzip_file_may_have_several_members_and_padding(self, write: Write) -> None:
        content = gzip.compress((HEADER + ROW).encode()) + gzip.compress(ROW.encode())
        assert len(events(write("log.csv.gz", content + b"\0" * 512))) == 2

    @pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
    def test_a_gzip_file_that_ends_in_the_middle_is_told_and_what_was_read_counts(
        self, write: Write, keep: float
    ) -> None:
        rows = [f"c{n},paid,2026-01-02T03:04:05Z,{n * n}\n" for n in range(20_000)]
        content = gzip.compress((HEADER + "".join(rows)).encode())
        path = write("log.csv.gz", content[: int(len(content) * keep)])
        found = events(path)
        assert [event.attributes["cost"] for event in found] == [
            str(n * n) for n in range(len(found))
        ]
        assert 0.5 * keep < len(found) / 20_000 < 1
        reason = "the gzip data end in the middle; the rest was not read"
        assert troubles(path) == [(found[-1].line + 1, reason)]

    def test_so_is_a_xes_file(self, write: Write) -> None:
        content = gzip.compress(xes(*[trace(PAID, PAID) for _ in range(5000)]).encode())
        path = write("log.xes.gz", content[: len(content) // 2])
        found = events(path)
        assert 1000 < len(found) < 10_000
        ((line, reason),) = troubles(path)
        assert found[-1].line <= line <= found[-1].line + 6
        assert "end in the middle" in reason

    def test_a_gzip_file_without_any_content_is_refused(self, write: Write) -> None:
        with pytest.raises(EventLogError, match="the gzip data end in the middle"):
            EventLog(write("log.csv.gz", gzip.compress(HEADER.encode())[:10]))

    def test_damaged_gzip_data_are_told(self, write: Write) -> None:
        rows = [f"c{n},paid,2026-01-02T03:04:05Z,{n * n}\n" for n in range(100_000)]
        content = bytearray(gzip.compress((HEADER + "".join(rows)).encode()))
        middle = len(content) // 2
        content[middle : middle + 8] = b"\xff" * 8
        path = write("log.csv.gz", bytes(content))
        # What the damage makes of the bytes up to the place where it shows may be no rows either.
        *_, (_, last) = troubles(path)
        assert "the gzip data are damaged" in last
        assert events(path)[0].case == "c0"

    def test_a_log_can_be_read_twice(self, write: Write) -> None:
        log = EventLog(write("log.csv", HEADER + "c1,paid,2026-01-02 03:04:05,1\n"))
        assert list(log) == list(log)
        assert log.naive_times == 1

    def test_how_far_reading_has_come_is_known(self, write: Write) -> None:
        log = EventLog(write("log.csv", HEADER + ROW * 10_000))
        positions = [log.position for _ in log]
        assert 0 < positions[0] < log.size
        assert positions[-1] == log.size == log.path.stat().st_size

    @pytest.mark.parametrize("name", ["log.csv.gz", "log.xes.gz"])
    def test_memory_does_not_grow_with_the_file(self, write: Write, name: str) -> None:
        """Ten times the events must not take noticeably more than the events at any moment do."""

        def peak(count: int) -> int:
            text = HEADER + ROW * count if "csv" in name else xes(trace(*[PAID] * count))
            path = write(f"{count}.{name}", gzip.compress(text.encode()))
            del text
            tracemalloc.start()
            read_all = sum(1 for _ in EventLog(path))
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert read_all == count
            return most

        assert peak(40_000) < peak(4_000) * 1.5 + 100_000


def timed(case: str, activity: str, hour: int | None) -> Event:
    time = None if hour is None else datetime(2026, 1, 1, hour, tzinfo=UTC)
    return Event(case=case, activity=activity, time=time, line=1, attributes={"a": activity})


class TestSpool:
    def spooled(
        self, path: Path, *events: Event, workers: int = 1, shuffle: int | None = None
    ) -> dict[str, list[str]]:
        spool = Spool(path, workers=workers, shuffle=shuffle)
        for event in events:
            spool.add(event)
        spool.seal()
        found: dict[str, list[str]] = {}
        for worker in range(workers):
            for case, firings in read_cases(path, worker):
                assert case not in found
                assert worker_of(case, workers) == worker
                found[case] = [firing.trigger for firing in firings]
        path.unlink()
        return found

    def test_events_of_a_case_come_in_the_order_of_their_times(self, tmp_path: Path) -> None:
        found = self.spooled(
            tmp_path / "s",
            timed("c1", "third", 3),
            timed("c2", "other", 5),
            timed("c1", "first", 1),
            timed("c1", "second", 2),
        )
        assert found == {"c1": ["first", "second", "third"], "c2": ["other"]}

    def test_at_the_same_time_they_come_in_the_order_of_the_log(self, tmp_path: Path) -> None:
        names = [f"e{n}" for n in range(50)]
        found = self.spooled(tmp_path / "s", *[timed("c", name, 1) for name in names])
        assert found == {"c": names}

    def test_times_are_compared_across_offsets(self, tmp_path: Path) -> None:
        east = datetime(2026, 1, 1, 9, 0, tzinfo=timezone(timedelta(hours=9)))
        utc = datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
        one = Event(case="c", activity="utc", time=utc, line=1, attributes={})
        other = Event(case="c", activity="east", time=east, line=2, attributes={})
        assert self.spooled(tmp_path / "s", one, other) == {"c": ["east", "utc"]}

    def test_events_without_time_keep_the_order_of_the_log(self, tmp_path: Path) -> None:
        names = ["b", "a", "d", "c"]
        found = self.spooled(tmp_path / "s", *[timed("c", name, None) for name in names])
        assert found == {"c": names}

    def test_an_event_without_time_stays_behind_the_one_before_it(self, tmp_path: Path) -> None:
        found = self.spooled(
            tmp_path / "s",
            timed("c", "zero", None),
            timed("c", "late", 9),
            timed("c", "after late", None),
            timed("c", "early", 1),
            timed("c", "after early", None),
        )
        assert found == {"c": ["zero", "early", "after early", "late", "after late"]}

    @given(
        st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 23)), max_size=40),
        st.integers(1, 5),
    )
    def test_nothing_is_lost_or_doubled_whatever_the_number_of_workers(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        log: list[tuple[str, int]],
        workers: int,
    ) -> None:
        events = [timed(case, str(n), hour) for n, (case, hour) in enumerate(log)]
        expected: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for n, (case, hour) in enumerate(log):
            expected[case].append((hour, n))
        path = tmp_path_factory.mktemp("spool") / "s"
        assert self.spooled(path, *events, workers=workers) == {
            case: [str(n) for _, n in sorted(found)] for case, found in expected.items()
        }

    def test_a_seed_gives_an_order_that_depends_on_nothing_else(self, tmp_path: Path) -> None:
        log = [timed(f"c{n % 7}", f"e{n}", 1) for n in range(70)]
        orders = {
            (seed, workers): self.spooled(tmp_path / "s", *log, shuffle=seed, workers=workers)
            for seed in (1, 2)
            for workers in (1, 4)
        }
        assert orders[1, 1] == orders[1, 4]
        assert orders[2, 1] == orders[2, 4]
        assert orders[1, 1] != orders[2, 1]
        for order in orders.values():
            assert {name for case in order.values() for name in case} == {
                event.activity for event in log
            }

    def test_a_random_order_is_fair(self, tmp_path: Path) -> None:
        """Each of three events comes first in about a third of 600 cases."""
        log = [timed(f"case {n}", name, 1) for n in range(600) for name in "abc"]
        firsts = [order[0] for order in self.spooled(tmp_path / "s", *log, shuffle=7).values()]
        assert all(150 < firsts.count(name) < 250 for name in "abc")

    def test_the_share_of_a_case_is_the_same_on_every_machine(self) -> None:
        assert [worker_of(case, 4) for case in ("case-10011", "Case 1", "ä", "")] == [0, 1, 3, 0]
