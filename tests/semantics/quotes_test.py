"""Every promise of docs/semantics.md is named by a test, and no test names a promise that is not there.

Promises are sentences marked with an id, as in "[S12] Once a path …"; a test names one by its id in square brackets.
"""

import collections
import os
import re
import unittest

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
PROMISES = os.path.join(TESTS, "..", "docs", "semantics.md")
ID = re.compile(r"\[(S[1-9][0-9]*)\]")
SUFFIXES = ("_test.py", "_test.cc")


def text_of(path):
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def promised_ids():
    """All ids in the document, in order, one for each place where it stands at the head of a sentence."""
    lines = text_of(PROMISES).splitlines()
    return [found[1] for line in lines if (found := re.match(r"\s*(?:[-*|]\s*)?\[(S[1-9][0-9]*)\]", line))]


def named_ids():
    """id -> the test files that name it."""
    named = collections.defaultdict(set)
    for folder, _, files in os.walk(TESTS):
        for name in files:
            path = os.path.join(folder, name)
            if name.endswith(SUFFIXES) and os.path.abspath(path) != os.path.abspath(__file__):
                for number in ID.findall(text_of(path)):
                    named[number].add(os.path.relpath(path, TESTS))
    return named


class QuotesTest(unittest.TestCase):
    def test_there_are_promises_and_each_has_an_id_of_its_own(self):
        promised = promised_ids()
        self.assertGreater(len(promised), 0)
        twice = [number for number, count in collections.Counter(promised).items() if count > 1]
        self.assertEqual(twice, [], "ids that stand twice in docs/semantics.md")

    def test_every_promise_is_named_by_a_test(self):
        self.assertEqual([number for number in promised_ids() if number not in named_ids()], [],
                         "promises of docs/semantics.md that no test names")

    def test_no_test_names_a_promise_that_is_not_there(self):
        promised = set(promised_ids())
        wrong = {number: sorted(files) for number, files in named_ids().items() if number not in promised}
        self.assertEqual(wrong, {}, "ids that docs/semantics.md does not have")


if __name__ == "__main__":
    unittest.main()
