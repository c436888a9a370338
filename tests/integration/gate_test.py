#!/usr/bin/python3 -B
"""The gate: while a node's daemon is stopped, nobody on that node uses records that the rest of the cluster may
have taken over. And the simple case of a daemon that dies under a running pdbedit."""
import os
import time
import unittest

from lab import PASSWORD, ROOT, Scenario, asked_for_peer, main, wait_for

# Stores into a volatile database as Samba does (chain lock, store, unlock) for ever, one line per store.
# Through the process's own symbol table, so that a preloaded library comes first.
WRITER = r'''
import ctypes, os, sys
class Datum(ctypes.Structure):
    _fields_ = [("pointer", ctypes.c_char_p), ("size", ctypes.c_size_t)]
ctypes.CDLL("libtdb.so.1", ctypes.RTLD_GLOBAL)
tdb = ctypes.CDLL(None)
tdb.tdb_open.restype = ctypes.c_void_p
tdb.tdb_open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_uint]
for name, arguments in (("tdb_chainlock", [Datum]), ("tdb_chainunlock", [Datum]),
                        ("tdb_storev", [Datum, ctypes.POINTER(Datum), ctypes.c_int, ctypes.c_int])):
    getattr(tdb, name).argtypes = [ctypes.c_void_p] + arguments
flags = int(sys.argv[2], 0)
handle = tdb.tdb_open(sys.argv[1].encode(), 0, flags, os.O_RDWR, 0)
if not handle:
    sys.exit("cannot open " + sys.argv[1])
count = 0
while True:
    key = Datum(b"counter", 7)
    value = bytes(24) + b"%d" % count
    vector = (Datum * 1)(Datum(value, len(value)))
    if tdb.tdb_chainlock(handle, key) or tdb.tdb_storev(handle, key, vector, 1, 0) or tdb.tdb_chainunlock(handle, key):
        sys.exit("a call failed")
    count += 1
    if count % 100 == 0:
        with open(sys.argv[3], "w") as out:
            out.write(str(count))
'''


class Gate(Scenario):
    @unittest.skipIf(asked_for_peer(), 'CTDB has no gate: a node whose daemon hangs goes on using its records')
    def test_a_stopped_daemon_closes_the_gate_and_a_volatile_write_waits(self):
        node = self.nodes[1]
        path, flags = node.out(['/usr/bin/python3', '-B', os.path.join(ROOT, 'tests/integration/client_socket.py'),
                         self.lab.flavour.socket, 'attach', 'gate.tdb']).split()
        counter = '/run/writes'
        writer = node.popen(['/usr/bin/python3', '-c', WRITER, path, flags, counter], samba=True)
        self.addCleanup(lambda: (node._kill_children_of(writer), writer.communicate()))

        def writes():
            self.assertIsNone(writer.poll(), 'the writer lives')
            return int(node.read(counter) or 0)

        def advances_within(seconds):
            before, end = writes(), time.monotonic() + seconds
            while time.monotonic() < end:
                if writes() > before:
                    return True
                time.sleep(0.02)
            return False

        wait_for(writes, 'the first writes')
        node.freeze_daemon()
        self.addCleanup(node.thaw_daemon)
        wait_for(lambda: not advances_within(2), 'the writer to be held')
        stopped_at = writes()
        others = [other for other in self.nodes if other is not node]
        wait_for(lambda: self.lab.all_ok(others), 'the others to go on')
        self.assertEqual(writes(), stopped_at, 'no write while the node is out')
        node.thaw_daemon()
        # The node was left out and comes back with empty volatile databases: whoever held the old ones goes on or
        # ends with an error; what he must not do is to hang, or to have written meanwhile.
        wait_for(lambda: writer.poll() is not None or int(node.read(counter) or 0) > stopped_at,
                 'the writer to go on or to end')
        self.lab.wait_all_ok()

    def test_a_daemon_that_dies_under_pdbedit_leaves_no_hanging_pdbedit(self):
        users = self.fresh_users('under', 40)
        node = self.nodes[0]
        loop = 'for u in %s; do printf "%s\\n%s\\n" | pdbedit -a -t -u $u >/dev/null 2>&1 && echo $u; done'
        process = node.popen(loop % (' '.join(users), PASSWORD, PASSWORD), samba=True)
        first = process.stdout.readline().strip()       # the load runs
        self.assertTrue(first)
        node.kill_daemon()
        rest, _ = process.communicate()                 # every pdbedit ends by itself
        acknowledged = [first] + rest.split()
        self.assertLess(len(acknowledged), len(users), 'the kill came in the middle')
        self.lab.make_whole()
        for other in self.nodes:
            listed = self.accounts(other)
            self.assertEqual([user for user in acknowledged if user not in listed], [])
        self.assert_identical_databases()

    def test_an_orderly_stop_and_start_keeps_everything(self):
        user, = self.fresh_users('orderly', 1)
        self.add_account(self.nodes[2], user)
        for node in self.nodes:
            node.stop()
            node.start()
            self.lab.wait_all_ok()
        for node in self.nodes:
            self.assertIn(user, self.accounts(node))
        self.assert_identical_databases()


if __name__ == '__main__':
    main()
