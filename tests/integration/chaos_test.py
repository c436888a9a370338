#!/usr/bin/python3 -B
"""chaos_test.py [--rounds N] [--seed S] [--nodes N] [--keep FOLDER]

Random rounds of kill -9, orderly stop, SIGSTOP, cut and heal on real daemons, under load from all nodes: counters in
volatile records (fetched, locked, stored as Samba does) and transactions. chaos_history.py says what is promised and
judges it: nothing lost, nothing twice, nothing served by a fenced node. Besides: after each round every node is in
the view and every client goes on; at the end the persistent databases are identical and every process ends when told.

The seed decides the rounds, not the timing of the machine. Needs root; skips without."""
import argparse
import collections
import os
import random
import re
import signal
import subprocess
import sys
import time

from chaos_history import judge_records, judge_transactions, parse
from lab import BUILD, SKIP_STATUS, Lab, LabError, Tdbmesh, wait_for, why_not_here

LOAD = os.path.join(BUILD, 'tests', 'chaos_load')
RECORDS, TRANSACTIONS = 'chaos.tdb', 'chaos_ledger.tdb'
KEYS = 6
LEASE = 0.4                    # seconds; a fault that ends sooner need not end a membership


def boot_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Client:
    """One process of load on one node."""

    def __init__(self, lab, node, kind, number):
        self.node, self.kind = node, kind
        self.log = '%s/load.%s.%d.%d' % (lab.work, kind, node.number, number)
        # seen from inside: the lab's work folder is the machine's own
        name = RECORDS if kind == 'records' else TRANSACTIONS
        self.process = node.popen([LOAD, lab.flavour.socket, kind, name, str(KEYS), '10' if kind == 'records' else '30',
                                   self.log], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.seen = self.acknowledged = 0

    def progress(self):
        """How many operations were acknowledged so far."""
        try:
            with open(self.log, 'rb') as log:
                log.seek(self.seen)
                more = log.read()
        except FileNotFoundError:
            return 0
        whole = more.rfind(b'\n') + 1
        self.acknowledged += sum(line.startswith(b'A ') for line in more[:whole].split(b'\n'))
        self.seen += whole
        return self.acknowledged

    def end(self):
        for child in self.node.pids('chaos_load'):
            try:
                os.kill(child, signal.SIGTERM)
            except ProcessLookupError:
                pass

    def lines(self):
        with open(self.log) as log:
            return log.read().splitlines()


class Chaos:
    def __init__(self, lab, seed):
        self.lab, self.rng = lab, random.Random(seed)
        self.interruptions = collections.defaultdict(list)
        self.counts = collections.Counter()
        self.clients = []

    # -- faults: each begins, and returns what heals it ---------------------------------------------------------

    def kill(self, node):
        node.kill_daemon()
        return node.start

    def stop(self, node):
        node.signal_daemon(signal.SIGTERM)
        node.wait_until_ended()
        return node.start

    def freeze(self, node):
        node.freeze_daemon()
        return node.thaw_daemon

    def cut(self, node):
        node.cut()
        return node.join

    FAULTS = {'kill': 4, 'stop': 3, 'freeze': 4, 'cut': 4, 'two at once': 2, 'one after the other': 2, 'blink': 2}

    def round(self):
        kind = self.rng.choices(list(self.FAULTS), weights=self.FAULTS.values())[0]
        victims = self.rng.sample(self.lab.nodes, 2)
        single = [self.kill, self.stop, self.freeze, self.cut]
        self.counts[kind] += 1
        began = boot_ns()
        if kind in ('kill', 'stop', 'freeze', 'cut'):
            hurt = victims[:1]
            heal = [getattr(self, kind)(hurt[0])]
            pause = self.rng.uniform(LEASE, 3)
        elif kind == 'blink':
            hurt = victims[:1]
            heal = [self.rng.choice([self.freeze, self.cut])(hurt[0])]
            pause = self.rng.uniform(0.01, LEASE / 2)
        elif kind == 'two at once':
            hurt = victims
            heal = [self.rng.choice(single)(node) for node in hurt]
            pause = self.rng.uniform(0, 2)
        else:
            hurt = victims
            heal = [self.rng.choice(single)(hurt[0])]
            time.sleep(self.rng.uniform(0, 1.5))         # the fault strikes anywhere in what the first one began
            heal.append(self.rng.choice(single)(hurt[1]))
            pause = self.rng.uniform(0, 1.5)
        time.sleep(pause)                                # how long it lasts is the fault
        self.rng.shuffle(heal)
        for mend in heal:
            mend()
        self.lab.wait_all_ok()
        for node in hurt:
            self.interruptions[node.number].append((began, boot_ns()))
        self.wait_for_progress()
        return '%s of %s' % (kind, ' and '.join(str(node.number) for node in hurt))

    def wait_for_progress(self):
        before = {client: client.progress() for client in self.clients}
        waiting = set(self.clients)

        def all_went_on():
            for client in list(waiting):
                if client.progress() > before[client]:
                    waiting.discard(client)
            return not waiting

        wait_for(all_went_on, lambda: 'every client to go on; these do not: ' + ', '.join(
            '%s on node %d (%s)' % (c.kind, c.node.number, (c.lines() or ['has said nothing'])[-1]) for c in waiting), 90)
        for client in self.clients:
            if client.process.poll() is not None:
                raise LabError('a load process ended: %s' % client.process.stderr.read())

    # -- the whole ------------------------------------------------------------------------------------------------

    def start_load(self):
        for node in self.lab.nodes:
            for number in range(2):
                self.clients.append(Client(self.lab, node, 'records', number))
            self.clients.append(Client(self.lab, node, 'transactions', 0))
        self.wait_for_progress()

    def end_load(self):
        for client in self.clients:
            client.end()
        for client in self.clients:
            client.process.wait(60)

    def needless_removals(self):
        """Adds what the nodes themselves say of having been left out while nobody hurt them; their number. A busy machine
        may do that, and then the records of that node may roll back."""
        offset = boot_ns() - time.time_ns()
        count = 0
        for node in self.lab.nodes:
            for stamp in re.findall(r'^(\S+ \S+) .*this node left the view', node.log(), re.M):
                day, _, fraction = stamp.partition('.')
                at = int(time.mktime(time.strptime(day, '%Y/%m/%d %H:%M:%S')) * 1e9) + int(fraction.ljust(9, '0')) + offset
                if any(begin <= at <= end for begin, end in self.interruptions[node.number]):
                    continue
                count += 1
                self.interruptions[node.number].append((at - int(2e9), at + int(10e9)))
        return count

    def judge(self):
        operations = {kind: parse(line for client in self.clients if client.kind == kind for line in client.lines())
                      for kind in ('records', 'transactions')}
        node = self.lab.nodes[0]
        needless = self.needless_removals()
        final = {}
        for line in node.out([LOAD, self.lab.flavour.socket, 'read', RECORDS, str(KEYS)]).splitlines():
            key, _, last = line.split(' ')
            final[key] = last
        records = judge_records(operations['records'], final, self.interruptions)
        last, stored = {}, set()
        for line in node.out([LOAD, self.lab.flavour.socket, 'dump', TRANSACTIONS]).splitlines():
            key, _, id = line.split(' ')
            if key.startswith('operation-'):
                stored.add(key[len('operation-'):])
            else:
                last[key] = id
        transactions = judge_transactions(operations['transactions'], last, stored)
        print('records: ' + records.text())
        print('transactions: ' + transactions.text())
        if needless:
            print('%d times a node left the view that nobody had hurt (busy machine?)' % needless)
        wrong = records.violations + transactions.violations
        digests = self.lab.digests()
        if TRANSACTIONS not in digests:
            wrong.append('the ledger is not attached')
        for database, seen in digests.items():
            print('%s: %s' % (database, ', '.join('%s on nodes %s' % (digest[:16], nodes) for digest, nodes in seen.items())))
            if len(seen) > 1:
                wrong.append('%s differs: %s' % (database, seen))
        return wrong

    def end_daemons(self):
        """Every process ends when it is told to."""
        for node in self.lab.nodes:
            node.signal_daemon(signal.SIGTERM)
        for node in self.lab.nodes:
            node.wait_until_ended()
            wait_for(lambda: not node.pids(), lambda: 'the processes %s of node %d to end' % (node.pids(), node.number))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument('--rounds', type=int, default=6)
    parser.add_argument('--seed', type=int, default=None)
    parser.add_argument('--nodes', type=int, default=3)
    parser.add_argument('--keep', help='copy the logs of load and daemons into this folder at the end')
    options = parser.parse_args()
    reason = why_not_here()
    if reason:
        print('skipped: ' + reason)
        sys.exit(SKIP_STATUS)
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print('seed %d, %d rounds, %d nodes' % (seed, options.rounds, options.nodes), flush=True)
    wrong = []
    with Lab(options.nodes, Tdbmesh()) as lab:
        lab.start()
        lab.wait_all_ok()
        chaos = Chaos(lab, seed)
        began = time.monotonic()
        try:
            chaos.start_load()
            for number in range(1, options.rounds + 1):
                said = chaos.round()
                print('round %d, %.0f s: %s; %d operations' % (
                    number, time.monotonic() - began, said, sum(client.acknowledged for client in chaos.clients)), flush=True)
            chaos.end_load()
            lab.wait_all_ok()
            wrong = chaos.judge()
            chaos.end_daemons()
        except (LabError, subprocess.TimeoutExpired) as error:
            wrong.append(str(error))
            sys.stderr.write(lab.describe() + '\n')
        if options.keep:
            os.makedirs(options.keep, exist_ok=True)
            for client in chaos.clients:
                if os.path.exists(client.log):
                    subprocess.run(['cp', client.log, options.keep], check=True)
            for node in lab.nodes:
                with open('%s/daemon.%d.log' % (options.keep, node.number), 'w') as out:
                    out.write(node.log())
        print('faults: ' + ', '.join('%d %s' % (count, kind) for kind, count in sorted(chaos.counts.items())))
    for text in wrong[:40]:
        print('WRONG: ' + text)
    if wrong:
        print('%d wrong. Again with: --seed %d --rounds %d' % (len(wrong), seed, options.rounds))
        sys.exit(1)
    print('ok: nothing lost, nothing twice')


if __name__ == '__main__':
    main()
