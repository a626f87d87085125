#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of the comparison's arithmetic and tables."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import report  # noqa: E402
from cases import all_cases  # noqa: E402
from stats import Summary, compare, markdown, median, number, ratio, select, spread  # noqa: E402


class Statistics(unittest.TestCase):
    def test_a_median_leaves_out_what_was_not_measured(self):
        self.assertEqual(median([3, None, 1, 2]), 2)
        self.assertIsNone(median([None]))

    def test_an_even_number_of_runs_gives_the_mean_of_the_middle(self):
        self.assertEqual(median([1, 2, 4, 9]), 3)

    def test_a_spread_is_least_and_greatest(self):
        self.assertEqual(spread([5, None, 2]), (2, 5))
        self.assertIsNone(spread([]))

    def test_a_ratio_to_nothing_is_none(self):
        self.assertIsNone(ratio(1, 0))
        self.assertIsNone(ratio(None, 1))
        self.assertEqual(ratio(3, 2), 1.5)

    def test_numbers_have_three_figures(self):
        self.assertEqual([number(value) for value in (12345.6, 123.4, 12.34, 1.234, 0.1234, 0, None)],
                         ["12,346", "123", "12.3", "1.23", "0.123", "0.00", ""])

    def test_globs_select_in_the_order_of_the_names(self):
        self.assertEqual(select(["b", "a1", "a2"], ["a*", "b"]), ["b", "a1", "a2"])
        self.assertEqual(select(["b", "a"], []), ["b", "a"])


class Comparison(unittest.TestCase):
    def test_a_comparison_is_of_medians(self):
        ours = Summary([{"rate": 4, "cpu": 1}, {"rate": 100, "cpu": 1}, {"rate": 2, "cpu": 3}])
        self.assertEqual(compare(ours, Summary([{"rate": 2, "cpu": 2}])), {"rate": 2, "cpu": 0.5, "p50_us": None})

    def test_a_failed_run_is_not_compared(self):
        good, bad = Summary([{"rate": 1}]), Summary([{"rate": 1}, {"error": "it ended"}])
        with self.assertRaisesRegex(ValueError, "it ended"):
            compare(good, bad)
        with self.assertRaises(ValueError):
            compare(bad, good)
        with self.assertRaises(ValueError):
            compare(good, Summary([]))


class Tables(unittest.TestCase):
    def setUp(self):
        self.case = next(case for case in all_cases() if case.name == "tcp-1-up-v4-1500")

    def results(self, **runs):
        return report.summarise({(self.case.name, label.replace("_", "-")): one for label, one in runs.items()})

    def test_a_table_is_padded(self):
        self.assertEqual(markdown(("a", "b", "c"), [("long", "x", 1)]).splitlines(),
                         ["| a    | b   |   c |", "| ---- | --- | --: |", "| long | x   |   1 |"])

    def test_each_kind_has_a_row_with_its_share_of_direct(self):
        rows = report.table([self.case], self.results(direct=[{"rate": 40}], passt=[{"rate": 10, "cpu": 0.5}]))
        self.assertIn("0.250", rows.splitlines()[-1])
        self.assertEqual(len(rows.splitlines()), 4)

    def test_ratios_are_ours_by_theirs(self):
        rows = report.ratios([self.case], self.results(taploom_ns=[{"rate": 30}], passt=[{"rate": 10}]),
                             ["taploom-ns"])
        self.assertIn("taploom-ns / passt", rows)
        self.assertIn("3.00", rows)

    def test_failures_are_named(self):
        lines = report.failures(self.results(passt=[{"rate": 1}, {"error": "no word"}]))
        self.assertEqual(lines, ["tcp-1-up-v4-1500 by passt: 1 of 2 runs failed: no word"])


class Cases(unittest.TestCase):
    def test_names_are_unique(self):
        names = [case.name for case in all_cases(("cubic", "bbr"))]
        self.assertEqual(len(names), len(set(names)))

    def test_a_further_congestion_control_repeats_the_cases_of_tcp_only(self):
        bbr = [case for case in all_cases(("cubic", "bbr")) if case.congestion == "bbr"]
        self.assertTrue(bbr)
        self.assertTrue(all(case.load in ("bulk", "trans") for case in bbr))


if __name__ == "__main__":
    unittest.main()
