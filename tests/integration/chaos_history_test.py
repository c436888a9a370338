#!/usr/bin/python3 -B
"""The judge of the chaos test finds what it is for, and finds nothing in what is allowed."""
import unittest

from chaos_history import judge_records, judge_transactions, parse


def log(*operations):
    """(id, previous, count, begin, end[, outcome]) on one key."""
    lines = []
    for id, previous, count, begin, end, *outcome in operations:
        lines.append('T %s k %d %s %d' % (id, count, previous, begin))
        lines.append('%s %s %d' % (outcome[0] if outcome else 'A', id, end))
    return parse(lines)


class Records(unittest.TestCase):
    def judge(self, operations, last, interruptions=None):
        return judge_records(operations, {'k': last}, interruptions or {})

    def test_a_line_is_fine(self):
        verdict = self.judge(log(('0.1.1', '-', 1, 10, 11), ('1.1.1', '0.1.1', 2, 20, 21)), '1.1.1')
        self.assertEqual((verdict.violations, verdict.operations), ([], 2))

    def test_a_lost_increment_of_a_living_node_is_found(self):
        lost = log(('0.1.1', '-', 1, 10, 11), ('1.1.1', '0.1.1', 2, 20, 21), ('0.1.2', '0.1.1', 2, 30, 31))
        self.assertEqual(len(self.judge(lost, '0.1.2').violations), 1)
        self.assertEqual(len(self.judge(lost, '0.1.2', {0: [(15, 40)]}).violations), 1, 'another node left')
        self.assertEqual(len(self.judge(lost, '0.1.2', {1: [(35, 40)]}).violations), 1, 'it left later')

    def test_an_increment_may_go_with_its_node(self):
        lost = log(('0.1.1', '-', 1, 10, 11), ('1.1.1', '0.1.1', 2, 20, 21), ('0.1.2', '0.1.1', 2, 30, 31))
        verdict = self.judge(lost, '0.1.2', {1: [(25, 40)]})
        self.assertEqual((verdict.violations, verdict.rolled_back), ([], ['1.1.1']))

    def test_the_last_increment_is_judged_by_the_final_value(self):
        self.assertEqual(len(self.judge(log(('0.1.1', '-', 1, 10, 11), ('1.1.1', '0.1.1', 2, 20, 21)), '0.1.1').violations), 1)

    def test_a_stale_node_that_goes_on_is_found_although_its_own_branch_is_excused(self):
        stale = log(('1.1.1', '-', 1, 10, 11), ('0.1.1', '1.1.1', 2, 30, 31), ('1.1.2', '1.1.1', 2, 40, 41),
                    ('0.1.2', '0.1.1', 3, 50, 51))
        self.assertEqual(len(self.judge(stale, '0.1.2', {1: [(20, 60)]}).violations), 1)

    def test_two_open_at_once_lose_one(self):
        both = log(('0.1.1', '-', 1, 10, 15), ('1.1.1', '-', 1, 12, 16), ('0.1.2', '0.1.1', 2, 20, 21))
        self.assertEqual(len(self.judge(both, '0.1.2').violations), 1)

    def test_an_unknown_writer_and_a_wrong_count_are_found(self):
        self.assertTrue(self.judge(log(('0.1.1', '9.9.9', 1, 10, 11)), '0.1.1').violations)
        self.assertTrue(self.judge(log(('0.1.1', '-', 1, 10, 11), ('0.1.2', '0.1.1', 3, 20, 21)), '0.1.2').violations)

    def test_a_refused_increment_that_was_written_is_found(self):
        self.assertTrue(self.judge(log(('0.1.1', '-', 1, 10, 11, 'N')), '0.1.1').violations)

    def test_everything_lost_is_found(self):
        again = log(('0.1.1', '-', 1, 10, 11), ('1.1.1', '0.1.1', 2, 20, 21), ('0.1.2', '-', 1, 30, 31))
        self.assertEqual(len(self.judge(again, '0.1.2').violations), 2)


class Transactions(unittest.TestCase):
    def test_all_or_nothing(self):
        ops = log(('0.1.1', '-', 1, 10, 11), ('1.1.1', '0.1.1', 2, 20, 21, 'U'))
        self.assertEqual(judge_transactions(ops, {'k': '1.1.1'}, {'0.1.1', '1.1.1'}).violations, [])
        self.assertEqual(judge_transactions(ops, {'k': '0.1.1'}, {'0.1.1'}).violations, [])
        self.assertTrue(judge_transactions(ops, {'k': '1.1.1'}, {'0.1.1'}).violations)
        self.assertTrue(judge_transactions(ops, {'k': '-'}, set()).violations)


if __name__ == '__main__':
    unittest.main()
