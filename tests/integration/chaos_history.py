"""Judges the history of counters that chaos_load wrote down. Pure: no processes, no clocks.

Every operation knows whose value it found (`previous`), so the operations on one key form a tree. If nothing is ever
lost the tree is a line. What is promised:

records (volatile)   An acknowledged operation of node n is seen by every operation that begins later on that key, for
                     as long as n has been a member without a break since then. So it may disappear only if n left the
                     view (killed, stopped, frozen or cut off for longer than its lease) between the operation
                     and the first later operation that does not know it. This is at once "nothing lost", "nothing
                     twice" and "a fenced node serves nothing": a stale write would be an operation that begins
                     later and does not know what a living member wrote.
transactions         An acknowledged one is in the final state, whoever died. One that was refused is not. One of
                     unknown outcome is there entirely or not at all.
"""
import collections

ROOT = '-'


class Operation:
    __slots__ = ('id', 'key', 'count', 'previous', 'began', 'ended', 'outcome')

    def __init__(self, id, key, count, previous, began):
        self.id, self.key, self.count, self.previous, self.began = id, key, count, previous, began
        self.ended, self.outcome = None, '?'

    @property
    def node(self):
        return int(self.id.split('.')[0])


def parse(lines):
    """{id: Operation} of log lines. A line that the end of its writer cut short is left out."""
    operations = {}
    for line in lines:
        word = line.split(' ')
        if word[0] == 'T' and len(word) == 6:
            operations[word[1]] = Operation(word[1], word[2], int(word[3]), word[4], int(word[5]))
        elif word[0] in ('A', 'U', 'N') and len(word) >= 3 and word[1] in operations:
            operations[word[1]].outcome, operations[word[1]].ended = word[0], int(word[2])
    return operations


def by_key(operations):
    keys = collections.defaultdict(dict)
    for operation in operations.values():
        keys[operation.key][operation.id] = operation
    return keys


def chain(operations, last):
    """Ids from the first to `last`, and what is wrong with that line."""
    ids, wrong, seen = [], [], set()
    while last != ROOT:
        operation = operations.get(last)
        if operation is None:
            wrong.append('a value was written by %s, which no log knows' % last)
            break
        if last in seen:
            wrong.append('the history of %s goes in a circle' % last)
            break
        seen.add(last)
        ids.append(last)
        before = operations[operation.previous].count if operation.previous in operations else 0
        if operation.count != before + 1:
            wrong.append('%s counted %d after %d' % (last, operation.count, before))
        if operation.outcome == 'N':
            wrong.append('%s was refused and yet written' % last)
        last = operation.previous
    return ids[::-1], wrong


class Verdict:
    def __init__(self):
        self.violations = []
        self.operations = 0            # acknowledged
        self.rolled_back = []          # acknowledged operations that went with their node, as they may

    def text(self):
        return '%d acknowledged, %d rolled back with their nodes, %d violations' % (
            self.operations, len(self.rolled_back), len(self.violations))


def judge_records(operations, final, interruptions):
    """`final`: {key: id of the last value}. `interruptions`: {node: [(begin, end)]} in the log's clock: a node may have
    been out of the view between the two."""
    verdict = Verdict()
    for key, ops in sorted(by_key(operations).items()):
        _judge_key(key, ops, final.get(key, ROOT), interruptions, verdict)
    return verdict


def _judge_key(key, ops, last, interruptions, verdict):
    known = {op.previous for op in ops.values()} | {last}
    effective = [op for op in ops.values() if op.outcome == 'A' or op.id in known]
    verdict.operations += sum(op.outcome == 'A' for op in ops.values())
    line, wrong = chain(ops, last)
    verdict.violations += ['%s: %s' % (key, text) for text in wrong]
    for op in effective:
        if op.previous != ROOT and op.previous not in ops:
            verdict.violations.append('%s: %s found a value of %s, which no log knows' % (key, op.id, op.previous))

    # (time, what): at its beginning an operation must know all that were acknowledged before
    events = sorted([(op.began, 1, op) for op in effective] + [(op.ended, 0, op) for op in effective if op.outcome == 'A'],
                    key=lambda event: event[:2])
    line_now, place = [], {}           # acknowledged or known operations, each knowing the one before
    judged = set()
    beside = []                        # acknowledged, but not on that line: begun while another one was open

    def superseded(op, by, at):
        if op.id in judged or op.outcome != 'A':
            return
        judged.add(op.id)
        gone = any(begin < at and end > op.began for begin, end in interruptions.get(op.node, ()))
        if gone:
            verdict.rolled_back.append(op.id)
        else:
            verdict.violations.append(
                '%s: %s (count %d, at %.3f s) is unknown to %s, which began %.3f s after it was acknowledged; node %d '
                'had not left' % (key, op.id, op.count, op.began / 1e9, by, (at - op.ended) / 1e9, op.node))

    def rebase(previous, by, at):
        """Makes the line end with `previous`; what is not on the way there was not known."""
        while line_now and line_now[-1] != previous and previous not in place:
            # `previous` is not on the line: find where its own way joins it
            way, step = [], previous
            while step != ROOT and step not in place:
                way.append(step)
                if step not in ops:
                    break
                step = ops[step].previous
            cut = place[step] + 1 if step in place else 0
            for lost in line_now[cut:]:
                superseded(ops[lost], by, at)
                del place[lost]
            del line_now[cut:]
            for id in reversed(way):
                if id in ops:
                    place[id] = len(line_now)
                    line_now.append(id)
            break
        if previous == ROOT or previous in place:
            cut = place[previous] + 1 if previous in place else 0
            for lost in line_now[cut:]:
                superseded(ops[lost], by, at)
                del place[lost]
            del line_now[cut:]

    def begins(previous, by, at):
        if previous != (line_now[-1] if line_now else ROOT):
            rebase(previous, by, at)
        for op in beside:
            if op.id not in place:
                superseded(op, by, at)
        beside.clear()

    for at, kind, op in events:
        if kind == 1:
            begins(op.previous, op.id, at)
        elif op.previous == (line_now[-1] if line_now else ROOT):
            place[op.id] = len(line_now)
            line_now.append(op.id)
        elif op.id not in place:
            beside.append(op)
    end = events[-1][0] + 1 if events else 0
    begins(last, 'the final value', end)


def judge_transactions(operations, final, stored):
    """`final`: {key: id of the last value}; `stored`: ids of the operations that have a record of their own."""
    verdict = Verdict()
    written = set()
    for key, ops in sorted(by_key(operations).items()):
        verdict.operations += sum(op.outcome == 'A' for op in ops.values())
        line, wrong = chain(ops, final.get(key, ROOT))
        verdict.violations += ['%s: %s' % (key, text) for text in wrong]
        written |= set(line)
        for op in ops.values():
            if op.outcome == 'A' and op.id not in written:
                verdict.violations.append('%s: %s (count %d) was acknowledged and is lost' % (key, op.id, op.count))
    for id in sorted(written ^ set(stored)):
        verdict.violations.append('%s was written by halves' % id)
    return verdict
