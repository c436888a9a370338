#!/usr/bin/python3 -B
"""Strangers: a wrong key, plain TCP, random bytes on the node port; random and truncated packets on the client
socket. Refused, logged within reason, and nothing stops."""
import os
import random
import re
import subprocess
import unittest

from lab import BIN, ROOT, Scenario, asked_for_peer, main, wait_for

# Runs in another node: `count` connections that send rubbish, `count` that send nothing and stay.
STRANGER = r'''
import random, socket, struct, sys
address, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
null_greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
curve_greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
def long_frame(size):
    return b"\x02" + struct.pack(">Q", size)
starts = [b"", null_greeting, curve_greeting, b"GET / HTTP/1.0\r\n\r\n", null_greeting + b"\x04\x19\x05READY",
          curve_greeting + long_frame(1 << 62), curve_greeting + b"\x04\xc8\x05HELLO" + rng.randbytes(193)]
silent = [socket.create_connection((address, 4379)) for _ in range(count)]
for i in range(count):
    with socket.create_connection((address, 4379)) as s:
        s.settimeout(1)
        try:
            s.sendall(rng.choice(starts) + rng.randbytes(rng.choice([0, 1, 9, 64, 200, 10000, 300000])))
            s.recv(64)
        except OSError:
            pass
print("done")
'''


class Hostile(Scenario):
    def setUp(self):
        super().setUp()
        self.seed = int(os.environ.get('TDBMESH_SEED', random.randrange(1 << 32)))
        print('TDBMESH_SEED=%d' % self.seed, flush=True)

    def assert_still_serving(self, daemons_before, nodes=None):
        nodes = nodes or self.nodes
        self.assertEqual([node.daemon_pid() for node in nodes], daemons_before, 'no daemon died or restarted')
        self.lab.wait_all_ok(nodes)
        user, = self.fresh_users('guest', 1)
        self.add_account(nodes[0], user)
        self.assertIn(user, self.accounts(nodes[-1]))

    def memory(self, node):
        with open('/proc/%d/status' % node.daemon_pid()) as status:
            return int(re.search(r'VmRSS:\s+(\d+)', status.read()).group(1))

    def test_strangers_on_the_node_port(self):
        target = self.nodes[0]
        before = [node.daemon_pid() for node in self.nodes]
        log_before, memory_before = len(target.log().splitlines()), self.memory(target)
        said = self.nodes[1].python(STRANGER, target.address, self.seed, 50).stdout
        self.assertIn('done', said)
        self.assert_still_serving(before)
        self.assertLess(self.memory(target) - memory_before, 64 * 1024, 'kB more after strangers announced much')
        if not asked_for_peer():
            new_lines = target.log().splitlines()[log_before:]
            about = [line for line in new_lines if re.search('refus|handshake|stranger|reject|authenti', line, re.I)]
            self.assertTrue(about, 'the log tells of the strangers')
            self.assertLess(len(new_lines), 60, 'a hundred strangers do not fill the log:\n' + '\n'.join(new_lines))

    @unittest.skipIf(asked_for_peer(), 'CTDB has no keys: whoever reaches the port and says a node number is in')
    def test_a_node_with_a_wrong_key_stays_out(self):
        outsider, others = self.nodes[2], self.nodes[:2]
        key = outsider.path('/etc/tdbmesh/cluster.key')
        with open(key, 'rb') as file:
            right = file.read()
        outsider.stop()
        wait_for(lambda: self.lab.all_ok(others), 'the two others to go on')
        wrong = os.path.join(self.lab.work, 'wrong.key')
        subprocess.run([BIN + '/tdbmesh', 'keygen', wrong], check=True, capture_output=True)
        with open(wrong, 'rb') as source, open(key, 'wb') as file:
            file.write(source.read())
        lines_before = len(others[0].log().splitlines())
        before = [node.daemon_pid() for node in others]
        outsider.start()

        def refusals():
            return [line for line in others[0].log().splitlines()[lines_before:]
                    if outsider.address in line and re.search('key|refus|authenti|handshake', line, re.I)]

        wait_for(refusals, lambda: 'a log line about the wrong key\n' + self.lab.describe(others))
        self.assert_still_serving(before, others)
        self.assertFalse(others[0].flags()[2], 'the outsider is not in')
        self.assertFalse(any(outsider.flags().get(pnn) for pnn in (0, 1)), 'and sees nobody')
        self.assertLess(len(refusals()), 10, 'it tries again and again but the log does not fill')
        outsider.stop()
        with open(key, 'wb') as file:
            file.write(right)
        outsider.start()
        self.lab.wait_all_ok()

    @unittest.skipIf(asked_for_peer(), 'ctdbd 4.17.12 aborts on a data length that lies (seen with this very test)')
    def test_rubbish_on_the_client_socket(self):
        node = self.nodes[0]
        before = [other.daemon_pid() for other in self.nodes]
        log_before, memory_before = len(node.log().splitlines()), self.memory(node)
        script = os.path.join(ROOT, 'tests/integration/client_socket.py')
        sent = int(node.out(['/usr/bin/python3', '-B', script, self.lab.flavour.socket, 'hostile', str(self.seed)]))
        self.assertGreater(sent, 300)
        self.assertNotEqual(node.out(['/usr/bin/python3', '-B', script, self.lab.flavour.socket, 'ping']).strip(), '')
        self.assert_still_serving(before)
        self.assertLess(self.memory(node) - memory_before, 64 * 1024, 'kB more after lengths that lie')
        if not asked_for_peer():
            self.assertLess(len(node.log().splitlines()) - log_before, 100, 'a few hundred bad clients do not fill the log')

    @unittest.skipIf(asked_for_peer(), 'about our own socket')
    def test_the_client_socket_is_for_root_alone(self):
        mode = os.stat(self.nodes[0].path(self.lab.flavour.socket)).st_mode & 0o777
        self.assertEqual(oct(mode), oct(0o600))


if __name__ == '__main__':
    main()
