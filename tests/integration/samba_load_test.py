#!/usr/bin/python3 -B
"""Many sessions create, open, lock and rename in one folder through three nodes while nodes are killed and come back.

    samba_load_test.py [--peer]                            about a minute, two kills (what ctest runs)
    TDBMESH_LOAD=sessions=50,seconds=600,every=60 samba_load_test.py

No result is wrong, no session waits for ever, no connection ends without cause, and in the end no process, lock or
record is left that was not there in the beginning."""
import os
import random
import re
import subprocess
import threading
import time

from lab import SLOW, asked_for_peer, main, wait_for
from samba_lab import SHARE, SambaScenario, leave_the_kernel_out, samba_processes, start_services
from smb2_client import (CREATE, DELETE, LEASE_H, LEASE_R, LEASE_W, LOCK_EXCLUSIVE, OPEN, READ, SHARE_NONE,
                         WRITE, Refused)

ASKED = dict(part.split('=') for part in os.environ.get('TDBMESH_LOAD', '').split(',') if part)
SESSIONS = int(ASKED.get('sessions', 15))
SECONDS = float(ASKED.get('seconds', 45)) * SLOW
EVERY = float(ASKED.get('every', 20)) * SLOW        # a node is killed after each of these
SEED = int(os.environ.get('TDBMESH_SEED', random.randrange(1 << 31)))
BOUND = 120 * SLOW       # an operation without an answer for so long is stuck
FOLDER = 'load'
PLACES = 4
LEFT_THE_VIEW = 'left the view'


class Wrong(Exception):
    """What no client may ever see."""


class Ledger:
    """What all sessions together know; judged while they run and at the end."""

    def __init__(self):
        self.lock = threading.Lock()
        self.wrong = []                   # sentences
        self.acknowledged = {}            # counter -> {value}
        self.perhaps = {}                 # counter -> increments whose answer was lost
        self.holds = {}                   # what -> [(from, to)] of holds that began and ended with an answer
        self.waiting = []                 # (name, content) that any session may take over
        self.done = {}                    # operation -> how often
        self.longest = {}                 # operation -> seconds
        self.lost = []                    # (time, node) of connections that ended
        self.struck = {}                  # node -> [[from, to]] while it was being killed and brought back

    def fail(self, text):
        with self.lock:
            self.wrong.append(text)

    def finished(self, operation, seconds):
        with self.lock:
            self.done[operation] = self.done.get(operation, 0) + 1
            self.longest[operation] = max(self.longest.get(operation, 0), seconds)

    def acknowledge(self, counter, value):
        with self.lock:
            known = self.acknowledged.setdefault(counter, set())
            if value in known:
                raise Wrong('%s: two sessions wrote the value %d under their lock' % (counter, value))
            known.add(value)

    def newest(self, counter):
        with self.lock:
            return max(self.acknowledged.get(counter, {0}))

    def held(self, what, begin, end):
        with self.lock:
            self.holds.setdefault(what, []).append((begin, end))

    def overlaps(self):
        found = []
        for what, holds in self.holds.items():
            holds.sort()
            found += ['%s was held twice at %.3f' % (what, later[0]) for earlier, later in zip(holds, holds[1:])
                      if later[0] < earlier[1]]
        return found

    def without_cause(self):
        return [(at, node) for at, node in self.lost
                if not any(begin <= at <= end for begin, end in self.struck.get(node, []))]


class Session(threading.Thread):
    """One client. It stays with its node while that lives, else it goes to the next, as addresses would make it."""

    def __init__(self, scenario, ledger, number):
        super().__init__(daemon=True)
        self.scenario, self.ledger, self.number = scenario, ledger, number
        self.random = random.Random(SEED * 1000 + number)
        self.at, self.smb, self.count = number % len(scenario.nodes), None, 0
        self.ending, self.doing, self.since = threading.Event(), 'nothing', time.monotonic()
        self.operations = [self.increment, self.increment, self.hold_alone, self.hold_alone, self.make_and_hand_over,
                           self.take_over, self.take_over, self.move_ball, self.lease]

    def run(self):
        while not self.ending.is_set():
            try:
                if self.smb is None:
                    self.connect()
                    continue
                self.once(self.random.choice(self.operations))
            except (TimeoutError, subprocess.TimeoutExpired):
                self.ledger.fail('session %d on node %d: no answer for %.0f s while it did %s' % (
                    self.number, self.at, BOUND, self.doing))
                self.gone()
            except OSError:
                self.gone()
            except Refused as refused:
                self.ledger.fail('session %d on node %d: %s: %s' % (self.number, self.at, self.doing, refused))
                self.gone(False)
            except Wrong as wrong:
                self.ledger.fail('session %d on node %d: %s' % (self.number, self.at, wrong))
                self.gone(False)
        if self.smb is not None:
            self.smb.hang_up()

    def once(self, operation):
        self.doing, self.since = operation.__name__, time.monotonic()
        operation()
        self.ledger.finished(self.doing, time.monotonic() - self.since)

    def connect(self):
        self.doing, self.since = 'connect', time.monotonic()
        try:
            self.smb = self.scenario.new_session(self.at)
        except (OSError, Refused):
            # it is down, or not yet up; judged like a connection that ended
            with self.ledger.lock:
                self.ledger.lost.append((time.monotonic(), self.at))
            self.at = (self.at + 1) % len(self.scenario.nodes)
            self.ending.wait(0.1)

    def gone(self, unasked=True):
        if unasked:
            with self.ledger.lock:
                self.ledger.lost.append((time.monotonic(), self.at))
        self.smb.hang_up()
        self.smb = None
        if unasked:
            self.at = (self.at + 1) % len(self.scenario.nodes)

    def path(self, name):
        return FOLDER + '\\' + name

    def token(self):
        self.count += 1
        return b'%d-%d-' % (self.number, self.count) + self.random.randbytes(6).hex().encode()

    # -- operations --

    def increment(self):
        """A number in a file, raised under a lock of a range: waits for the lock, or comes again."""
        smb, name = self.smb, 'counter-%d' % self.random.randrange(4)
        file = smb.create(self.path(name), access=READ | WRITE)
        if self.random.random() < 0.5:
            smb.lock(file, 0, 64, LOCK_EXCLUSIVE)
        else:
            try:
                smb.lock(file, 0, 64)
            except Refused as refused:
                if refused.name != 'LOCK_NOT_GRANTED':
                    raise
                return smb.close(file)
        begin, floor, mine = time.monotonic(), self.ledger.newest(name), self.token().ljust(56)
        value = int(smb.read(file, 8))
        if value < floor:
            raise Wrong('%s: %d was acknowledged and %d is there' % (name, floor, value))
        smb.write(file, mine, 8)
        try:
            smb.write(file, b'%08d' % (value + 1))
            there = smb.read(file, 64)
        except OSError:
            # it may have been written before the connection ended
            with self.ledger.lock:
                self.ledger.perhaps[name] = self.ledger.perhaps.get(name, 0) + 1
            raise
        if there != b'%08d' % (value + 1) + mine:
            raise Wrong('%s: somebody wrote %r into the range that is locked for %r' % (name, there, mine))
        self.ledger.acknowledge(name, value + 1)
        self.ledger.held(name, begin, time.monotonic())
        smb.unlock(file, 0, 64)
        smb.close(file)

    def hold_alone(self):
        """A file opened by one client at a time."""
        smb, name, mine = self.smb, 'alone-%d' % self.random.randrange(4), self.token()
        try:
            file = smb.create(self.path(name), access=READ | WRITE, share=SHARE_NONE)
        except Refused as refused:
            if refused.name != 'SHARING_VIOLATION':
                raise
            return
        begin = time.monotonic()
        smb.write(file, mine)
        if smb.read(file, len(mine)) != mine:
            raise Wrong('%s: somebody else wrote into it' % name)
        self.ledger.held(name, begin, time.monotonic())
        smb.close(file)

    def expect(self, why, call, *arguments, **how):
        try:
            call(*arguments, **how)
        except Refused as refused:
            if refused.name == why:
                return
            raise
        raise Wrong('%s succeeded, should be %s' % (self.doing, why))

    def make_and_hand_over(self):
        """A new file, renamed, for whoever takes it over."""
        smb, content = self.smb, self.token()
        old, new = ('%s-%s' % (kind, content.decode()) for kind in ('new', 'named'))
        file = smb.create(self.path(old), access=READ | WRITE | DELETE, disposition=CREATE)
        smb.write(file, content)
        self.expect('NAME_COLLISION', smb.create, self.path(old), disposition=CREATE)
        smb.rename(file, self.path(new))
        self.expect('NOT_FOUND', smb.create, self.path(old), disposition=OPEN)
        smb.close(file)
        with self.ledger.lock:
            self.ledger.waiting.append((new, content))

    def take_over(self):
        """A file that some session on some node has made: it is there, whole, and deleted when it is closed."""
        smb = self.smb
        with self.ledger.lock:
            if not self.ledger.waiting:
                return
            name, content = self.ledger.waiting.pop(self.random.randrange(len(self.ledger.waiting)))
        file = smb.create(self.path(name), access=READ | DELETE, disposition=OPEN)
        if smb.read(file, 100) != content:
            raise Wrong('%s has other content' % name)
        smb.delete_on_close(file)
        self.expect('DELETE_PENDING', smb.create, self.path(name), disposition=OPEN)
        smb.close(file)
        self.expect('NOT_FOUND', smb.create, self.path(name), disposition=OPEN)

    def move_ball(self):
        """One file that everybody renames: it is at one place."""
        ball, places = self.random.randrange(3), list(range(PLACES))
        self.random.shuffle(places)
        for place in places:
            try:
                file = self.smb.create(self.path('ball-%d-%d' % (ball, place)), access=READ | DELETE, disposition=OPEN)
            except Refused as refused:
                if refused.name != 'NOT_FOUND':
                    raise
                continue
            try:
                self.smb.rename(file, self.path('ball-%d-%d' % (ball, (place + 1) % PLACES)))
            except Refused as refused:
                # another one was faster with the same file
                if refused.name not in ('NOT_FOUND', 'SHARING_VIOLATION', 'NAME_COLLISION', 'ACCESS_DENIED'):
                    raise
            return self.smb.close(file)

    def lease(self):
        """Opened with all rights to cache; who is asked to give them back does so at once."""
        smb = self.smb
        file = smb.create(self.path('leased-%d' % self.random.randrange(3)), access=READ | WRITE,
                          lease=(self.random.randbytes(16), LEASE_R | LEASE_H | LEASE_W))
        smb.write(file, self.token())
        smb.read(file, 10)
        smb.close(file)


class SmbclientSession(Session):
    """The same with Samba's own client: a login each time."""

    def connect(self):
        self.smb = self

    def hang_up(self):
        pass

    def once(self, _):
        self.doing, self.since = 'smbclient', time.monotonic()
        name = self.token().decode()
        folder = self.scenario.lab.work
        done = self.scenario.smbclient(self.at, 'cd {0}; put {1}/owner put-{2}; rename put-{2} got-{2}; get got-{2} '
                                       '{1}/got-{2}; del got-{2}; ls got-{2}'.format(FOLDER, folder, name), check=False)
        there = os.path.join(folder, 'got-' + name)
        good = 'NT_STATUS_NO_SUCH_FILE listing' in done.stdout + done.stderr and os.path.exists(there)
        if os.path.exists(there):
            os.unlink(there)
        if good:
            return self.ledger.finished(self.doing, time.monotonic() - self.since)
        if any(word in done.stdout + done.stderr for word in ('NT_STATUS_CONNECTION', 'Connection to', 'NT_STATUS_IO_TIMEOUT',
                                                              'NT_STATUS_INVALID_NETWORK_RESPONSE')):
            raise ConnectionError
        raise Wrong('smbclient: %s%s' % (done.stdout, done.stderr))


class SambaLoad(SambaScenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        leave_the_kernel_out(cls.lab.nodes[0], SHARE)
        cls.folder = os.path.join(cls.lab.work, 'shared', 'share', FOLDER)
        os.mkdir(cls.folder)
        os.chmod(cls.folder, 0o777)

    def setUp(self):
        super().setUp()
        print('seed %d, %d sessions, %.0f s, a kill each %.0f s' % (SEED, SESSIONS, SECONDS, EVERY), flush=True)
        for number in range(4):
            self.write('counter-%d' % number, b'%08d' % 0 + bytes(56))
        for ball in range(3):
            self.write('ball-%d-0' % ball, b'ball %d' % ball)

    def write(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, 'wb') as out:
            out.write(content)
        os.chmod(path, 0o666)

    def new_session(self, number):
        smb = self.connect(number)
        self.sessions.remove(smb)
        smb.connection.settimeout(BOUND)
        smb.acknowledge_at_once = True
        return smb

    # -- what is there --

    def records(self):
        """{volatile database: live records in the whole cluster}"""
        counts = {}
        for database in self.lab.databases(self.nodes[0], 'VOLATILE'):
            found = re.search(r'Dumped (\d+) records', self.catdb(database))
            counts[database] = int(found.group(1)) if found else -1
        return counts

    def catdb(self, database):
        return self.nodes[0].samba([self.lab.flavour.tool, 'catdb', database], check=False).stdout

    def left_over(self):
        """{node: {volatile database: local records, live or not}}; what vacuuming must bring back."""
        counts = {}
        for node in self.nodes:
            for database in self.lab.databases(node, 'VOLATILE'):
                said = node.run(['dbtool', 'info', database], check=False).stdout
                found = re.search(r'^records: (\d+) \((\d+) of them deleted\)', said, re.M)
                if found:
                    counts.setdefault(node.number, {})[database] = (int(found.group(1)), int(found.group(2)))
        return counts

    def smbd_count(self):
        return [len(node.pids('smbd')) for node in self.nodes]

    def without_sessions(self):
        status = self.nodes[0].samba(['smbstatus', '-p']).stdout
        return not re.search(r'^\d:\d+\s', status, re.M)

    # -- the test --

    def strike(self, ledger, round_number):
        victim = self.nodes[round_number % len(self.nodes)]
        whole = round_number % 2 == 0
        turn = [time.monotonic(), float('inf')]
        with ledger.lock:
            ledger.struck.setdefault(victim.number, []).append(turn)
        if whole:
            victim.lose_power()
        else:
            victim.kill_daemon()
            wait_for(lambda: not samba_processes(victim), lambda: 'Samba to end with its daemon: %s' % samba_processes(victim))
        others = [node for node in self.nodes if node is not victim]
        self.lab.wait_all_ok(others)
        self.lab.make_whole()
        start_services(self.lab, [victim])
        with ledger.lock:
            turn[1] = time.monotonic()
        print('  node %d was away (%s) for %.1f s' % (victim.number, 'everything killed' if whole else 'daemon killed',
                                                     turn[1] - turn[0]), flush=True)

    def test_no_wrong_result_nothing_stuck_and_nothing_left(self):
        self.warm_up()
        wait_for(self.without_sessions, 'the first sessions to be gone')
        smbds, records = self.smbd_count(), self.records()
        print('  records at the start: %s' % records, flush=True)
        cut_off = {node.number: node.log().count(LEFT_THE_VIEW) for node in self.nodes}
        ledger = Ledger()
        sessions = [(SmbclientSession if number % 5 == 4 else Session)(self, ledger, number) for number in range(SESSIONS)]
        begun = time.monotonic()
        for session in sessions:
            session.start()
        rounds = 0
        while (rounds + 1) * EVERY < SECONDS:
            self.pause_until(begun + (rounds + 1) * EVERY, ledger)
            self.strike(ledger, rounds)
            rounds += 1
        self.pause_until(begun + SECONDS, ledger)
        for session in sessions:
            session.ending.set()
        end = time.monotonic() + BOUND + 30
        for session in sessions:
            session.join(max(0, end - time.monotonic()))
        print('  done: %s\n  longest: %s\n  connections lost: %d' % (
            ledger.done, {name: round(value, 1) for name, value in ledger.longest.items()}, len(ledger.lost)), flush=True)
        self.assertEqual(['%d: %s for %.0f s' % (s.number, s.doing, time.monotonic() - s.since) for s in sessions if s.is_alive()],
                         [], 'sessions that are stuck')
        self.assertFalse(ledger.wrong, '\n'.join(ledger.wrong) + '\n' + self.samba_logs())
        self.judge(ledger, cut_off)
        self.assertGreater(min(ledger.done.get(name, 0) for name in (
            'increment', 'hold_alone', 'make_and_hand_over', 'take_over', 'move_ball', 'lease')), SESSIONS, 'all were at work')
        # The record of a lease is Samba's to remove, and nothing of Samba looks for those of an smbd that was killed, not
        # even `net serverid wipedbs`. Besides, what a node deleted last is lost when it dies: a copy that another node had
        # when it broke that lease is the newest one left then. The real CTDB leaves some too (8 after 5 lost connections).
        # Some dozens may stay of the thousands that were made.
        records['leases.tdb'] = records.get('leases.tdb', 0) + max(len(ledger.lost), ledger.done['lease'] // 20)
        # Likewise the record of a file whose lock an smbd had when it was killed: with no open in it, it stays until somebody
        # opens that file. At most one for each smbd that died (seen once in some dozens of runs).
        records['locking.tdb'] = records.get('locking.tdb', 0) + len(ledger.lost)
        self.nothing_is_left(smbds, records)

    def warm_up(self):
        """Each node has served, so that what Samba keeps for good is there."""
        ledger = Ledger()
        for node in self.nodes:
            wait_for(lambda: self.served_all(node, ledger), lambda: 'node %d to serve all operations' % node.number)
        for name in ledger.acknowledged:
            self.write(name, b'%08d' % 0 + bytes(56))

    def served_all(self, node, ledger):
        # A machine that stands still may cost the node its lease just now, and with it its Samba.
        start_services(self.lab, [node])
        session = Session(self, ledger, node.number)
        session.connect()
        if session.smb is None:
            return False
        try:
            for operation in dict.fromkeys(session.operations):
                session.once(operation)
            return True
        except OSError:
            return False
        finally:
            session.smb.hang_up()

    def pause_until(self, when, ledger):
        wait_for(lambda: time.monotonic() >= when or ledger.wrong, 'the time to pass', when - time.monotonic() + 60, 0.2)

    def samba_logs(self):
        """What Samba's daemons had to say, for a failure's message."""
        return ''.join('--- node %d, %s\n%s\n' % (node.number, name, '\n'.join(node.read('/var/log/samba/' + name).splitlines()[-40:]))
                       for node in self.nodes for name in sorted(os.listdir(node.path('/var/log/samba'))) if name.startswith('log.'))

    def judge(self, ledger, cut_off):
        self.assertEqual(ledger.overlaps(), [])
        for number in range(4):
            name = 'counter-%d' % number
            with open(os.path.join(self.folder, name), 'rb') as file:
                value = int(file.read(8))
            known = len(ledger.acknowledged.get(name, ()))
            self.assertTrue(known <= value <= known + ledger.perhaps.get(name, 0),
                            '%s is %d after %d increments and %d without an answer' % (name, value, known, ledger.perhaps.get(name, 0)))
        for ball in range(3):
            places = [name for name in os.listdir(self.folder) if name.startswith('ball-%d-' % ball)]
            self.assertEqual(len(places), 1, places)
        # a machine that stands still may cost a node its lease; it says so
        unexplained = [(at, node) for at, node in ledger.without_cause()
                       if self.nodes[node].log().count(LEFT_THE_VIEW) <= cut_off[node]]
        self.assertEqual(unexplained, [], 'connections that ended without cause (time, node)')

    def nothing_is_left(self, smbds, records):
        wait_for(self.without_sessions, lambda: 'all sessions to be gone:\n' + self.nodes[0].samba(['smbstatus']).stdout)
        wait_for(lambda: all(now <= before for now, before in zip(self.smbd_count(), smbds)),
                 lambda: 'the smbd of all sessions to end: %s, were %s' % (self.smbd_count(), smbds))
        locks = self.nodes[1].samba(['smbstatus', '-L']).stdout
        self.assertNotIn(FOLDER + '/', locks)

        def grown():
            return {name: (records.get(name, 0), count) for name, count in self.records().items() if count > records.get(name, 0)}
        print('  before the cleaning (database: records at the start, now): %s' % grown())
        wiped = ['']

        def wipe():
            # what Samba's processes that were killed had written down, nobody else wipes
            said = self.nodes[0].samba(['net', 'serverid', 'wipedbs'], check=False)
            wiped[0] = said.stdout + said.stderr
            return not grown()
        wait_for(wipe, lambda: 'records to go (database: records at the start, now): %s\n%s%s' % (
            grown(), wiped[0], ''.join(self.catdb(name) for name in grown())), step=2)
        self.assertIn('Found 0 opens', wiped[0])
        print('  records at the end: %s' % self.records(), flush=True)
        if not asked_for_peer():
            wait_for(lambda: not any(deleted for counts in self.left_over().values() for _, deleted in counts.values()),
                     lambda: 'deleted records to be vacuumed: %s' % self.left_over(), 180, 2)


if __name__ == '__main__':
    main()
