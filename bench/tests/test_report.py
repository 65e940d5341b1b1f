import json
import unittest
from html.parser import HTMLParser

from tithon_bench.measurements.floods import lines_lost
from tithon_bench.report import as_json, page, terminal
from tithon_bench.report.numbers import number, spread_text
from tithon_bench.results import Results
from tithon_bench.scale import FULL, with_sizes
from tithon_bench.environments import CannotRun
from tithon_bench.targets import TARGETS, verdicts


class WellFormed(HTMLParser):
    """Fails on a tag that is closed without having been opened."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def sample():
    results = Results()
    for at in range(3):
        results.recorder("attach-cells", "tithon", at)("attach", 1.0 + at, "ms", size=100)
        results.recorder("attach-cells", "tithon", at)("attach", 4.0 + at, "ms", size=1_000)
        results.recorder("attach-cells", "tithon-py", at)("attach", 10.0, "ms", size=1_000)
        results.recorder("round-trip", "tithon", at)("median", 3.0, "ms")
        results.recorder("round-trip", "jupyter", at)("median", 2.5 if at else 0.5, "ms")
    return results


class Report(unittest.TestCase):
    def test_the_terminal_shows_medians_ranges_and_ratios(self):
        said = terminal.render(sample(), {"date": "today"}, {"attach-cells": "cells", "round-trip": "trips"})
        row = next(line for line in said.splitlines() if "attach @ 1,000" in line)
        self.assertRegex(row, r"5\.00 \(4\.00–6\.00\) +10\.0 .*0\.5× \(0\.4–0\.6\)")
        self.assertRegex(said, r"attach-cells/attach +0\.40")

    def test_targets_are_judged_by_the_rounds_they_share(self):
        judged = {one.target.figure + one.target.peer: one for one in verdicts(sample())}
        self.assertTrue(judged["round-trip/medianjupyter"].reached)  # 3.0 against 2.5 + 1
        self.assertTrue(judged["attach-cells/attach@1000"].reached)
        self.assertNotIn("round-trip/mediantithon-py", judged)  # not measured: nothing is said

    def test_a_missed_target_is_said(self):
        results = Results()
        results.recorder("attach-cells", "tithon", 0)("attach", 10.0, "ms", size=1_000)
        self.assertIn("missed: 2.00 of it", terminal.render(results, {}, {"attach-cells": ""}))

    def test_failures_are_on_every_report(self):
        results = sample()
        results.fail("restart", "tithon-py", "<it> would not start")
        self.assertIn("FAILED: restart of tithon-py", terminal.render(results, {}, {}))
        self.assertIn("&lt;it&gt; would not start", page.render(results, {}, FULL, {}))
        self.assertEqual(len(as_json(results, {}, FULL, {})["failures"]), 1)

    def test_the_page_is_whole_and_needs_nothing_else(self):
        text = page.render(sample(), {"processor": "a <fast> one"}, FULL, {"attach-cells": "cells"})
        parser = WellFormed()
        parser.feed(text)
        self.assertEqual(parser.open, [])
        self.assertIn("svg", parser.seen)
        self.assertNotIn("http", text)

    def test_json_has_single_values(self):
        written = json.loads(json.dumps(as_json(sample(), {}, FULL, {})))
        figure = next(one for one in written["figures"] if one["size"] == 100)
        self.assertEqual(figure["values"], {"tithon": [1.0, 2.0, 3.0]})

    def test_a_unit_may_not_change(self):
        record = Results().recorder("m", "tithon", 0)
        record("a", 1, "s")
        with self.assertRaises(ValueError):
            record("a", 1, "ms")

    def test_numbers(self):
        said = [number(one) for one in (0, 0.01234, 1.234, 12.34, 1234.5)]
        self.assertEqual(said, ["0", "0.0123", "1.23", "12.3", "1,234"])
        self.assertEqual(spread_text(None), "")


class Figures(unittest.TestCase):
    def test_every_target_names_a_measurement_there_is(self):
        from tithon_bench.measurements import known

        for target in TARGETS:
            for figure in filter(None, (target.figure, target.than)):
                self.assertIn(figure.split("/")[0], known())

    def test_sizes_can_be_overridden(self):
        self.assertEqual(with_sizes(FULL, ["lines=10", "cells=1,2"]).cells, (1, 2))
        for wrong in ("nothing=1", "lines=x", "lines=0", "lines"):
            with self.assertRaises(CannotRun):
                with_sizes(FULL, [wrong])

    def test_lost_lines_are_counted(self):
        wanted = ["0", "1", "2", "3"]
        self.assertEqual(lines_lost("0\n1\n2\n3\n", wanted), 0)
        self.assertEqual(lines_lost("0\n2\n3\n", wanted), 1)
        self.assertEqual(lines_lost("0\n1\n1\n2\n3\n", wanted), 1)
        self.assertEqual(lines_lost("0\n2\n1\n3\n", wanted), 1)
        self.assertEqual(lines_lost("", wanted), 4)
