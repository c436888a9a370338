#!/usr/bin/python3 -B
"""What the daemon knows of its clients, byte by byte: their connections over TCP, their processes, their last words.
--peer runs what CTDB 4.17 has on the real one."""
import mmap
import os
import signal
import socket
import struct
import time
import unittest

import client_socket as wire
from lab import ROOT, _kill, asked_for_peer, main, wait_for
from public_lab import PublicScenario

ADDRESS, CLIENT = '10.99.0.101', '10.99.0.200'
MINE = 0x1234567812345678
only_ours = unittest.skipIf(asked_for_peer(), 'newer than CTDB 4.17, or promised by tdbmesh alone')


def v4(address, port, rest=bytes(20)):
    """A 28-byte socket address; Samba leaves in the rest whatever was there."""
    return struct.pack('=H', socket.AF_INET) + struct.pack('>H', port) + socket.inet_aton(address) + rest


def v4_in_v6(address, port):
    return struct.pack('=H', socket.AF_INET6) + struct.pack('>HI', port, 0) + bytes(10) + b'\xff\xff' + \
        socket.inet_aton(address) + bytes(4)


class ClientControls(PublicScenario):
    def setUp(self):
        super().setUp()
        self.host = next(node for node in self.nodes if self.lab.holders()[ADDRESS] == [node.number])
        self.other = self.nodes[(self.host.number + 1) % 3]

    def connect(self, node):
        connection = wire.Connection(node.path(self.lab.flavour.socket))
        connection.socket.settimeout(60)
        self.addCleanup(connection.socket.close)
        return connection

    def tickles(self, node):
        """Ports of the clients in the node's list for ADDRESS."""
        status, data = self.connect(node).control(wire.GET_TCP_TICKLE_LIST, v4(ADDRESS, 0))
        self.assertEqual(status, 0)
        count, = struct.unpack_from('=I', data, 28)
        return {struct.unpack_from('>H', data, 32 + 56 * i + 2)[0] for i in range(count)}

    def everywhere(self, port, there):
        wait_for(lambda: all((port in self.tickles(node)) == there for node in self.nodes),
                 lambda: 'port %d to be %s all lists: %s' % (port, 'in' if there else 'out of',
                                                             [self.tickles(node) for node in self.nodes]))

    def test_a_connection_is_known_on_all_nodes_until_its_client_ends(self):
        smbd = self.connect(self.host)
        noise = os.urandom(20)
        self.assertEqual(smbd.control(wire.TCP_CLIENT, v4(CLIENT, 1001, noise) + v4(ADDRESS, 445, noise)), (0, b''))
        self.everywhere(1001, True)
        # the same connection with other noise in the unused bytes, and written as IPv6: still one
        smbd.control(wire.TCP_CLIENT, v4(CLIENT, 1001) + v4(ADDRESS, 445, os.urandom(20)))
        if not asked_for_peer():
            smbd.control(wire.TCP_CLIENT, v4_in_v6(CLIENT, 1001) + v4_in_v6(ADDRESS, 445))
            _, data = self.connect(self.other).control(wire.GET_TCP_TICKLE_LIST, v4(ADDRESS, 0))
            self.assertEqual(struct.unpack_from('=I', data, 28)[0], 1)
        smbd.socket.close()
        self.everywhere(1001, False)

    def test_a_connection_to_an_address_that_is_elsewhere_is_refused_and_to_no_public_address_ignored(self):
        smbd = self.connect(self.other)
        self.assertEqual(smbd.control(wire.TCP_CLIENT, v4(CLIENT, 1002) + v4(ADDRESS, 445))[0], -1)
        self.assertEqual(smbd.control(wire.TCP_CLIENT, v4(CLIENT, 1002) + v4('10.9.9.9', 445))[0], 0)
        self.assertNotIn(1002, self.tickles(self.host))

    @only_ours
    def test_a_connection_that_ended_is_forgotten_before_its_client_ends(self):
        smbd = self.connect(self.host)
        for port in (1003, 1004):
            smbd.control(wire.TCP_CLIENT, v4(CLIENT, port) + v4(ADDRESS, 445))
            self.everywhere(port, True)
        self.assertEqual(smbd.control(wire.TCP_CLIENT_DISCONNECTED, v4(CLIENT, 1003) + v4(ADDRESS, 445)), (0, b''))
        self.everywhere(1003, False)
        self.assertIn(1004, self.tickles(self.other))
        # who never said that it has it cannot end it
        self.connect(self.host).control(wire.TCP_CLIENT_DISCONNECTED, v4(CLIENT, 1004) + v4(ADDRESS, 445))
        self.assertIn(1004, self.tickles(self.host))
        self.assertEqual(smbd.control(wire.TCP_CLIENT_DISCONNECTED, b'short')[0], -1)

    @only_ours
    def test_a_connection_that_was_passed_on_outlives_who_passed_it(self):
        first, second = self.connect(self.host), self.connect(self.host)
        pair = v4(CLIENT, 1005) + v4(ADDRESS, 445)
        first.control(wire.TCP_CLIENT, pair)
        self.assertEqual(second.control(wire.TCP_CLIENT, pair)[0], 0)
        self.assertEqual(first.control(wire.TCP_CLIENT_PASSED, pair), (0, b''))
        # another connection of the first one shows when its end has been dealt with
        first.control(wire.TCP_CLIENT, v4(CLIENT, 1006) + v4(ADDRESS, 445))
        self.everywhere(1006, True)
        first.socket.close()
        self.everywhere(1006, False)
        self.assertIn(1005, self.tickles(self.host))
        self.assertIn(1005, self.tickles(self.other))
        second.socket.close()
        self.everywhere(1005, False)
        self.assertEqual(self.connect(self.host).control(wire.TCP_CLIENT_PASSED, b'short')[0], -1)

    @only_ours
    def test_a_run_of_addresses_starts_and_ends_with_an_event_and_a_message_on_every_node(self):
        script = self.lab.flavour.config_dir + '/events/legacy/95.course.script'
        for node in self.nodes:
            node.write(script, '#!/bin/sh\ncase "$1" in *ip*) echo "$1" >>/run/course;; esac\n', 0o755)
            self.addCleanup(os.unlink, node.path(script))
        clients = [self.connect(node) for node in self.nodes]
        for client in clients:
            client.control(wire.REGISTER_SRVID, srvid=wire.SRVID_START_IPREALLOCATE)
            client.control(wire.REGISTER_SRVID, srvid=wire.SRVID_IPREALLOCATED)
        self.host.tool('moveip', ADDRESS, self.other.number)
        self.assertEqual([[client.message()[0] for _ in range(2)] for client in clients],
                         [[wire.SRVID_START_IPREALLOCATE, wire.SRVID_IPREALLOCATED]] * 3)
        for node in self.nodes:
            course = node.read('/run/course').split()
            self.assertEqual((course[0], course[-1]), ('startipreallocate', 'ipreallocated'), course)
            self.assertEqual(course.count('startipreallocate'), 1, course)
        self.assertIn('releaseip', self.host.read('/run/course'))
        self.assertIn('takeip', self.other.read('/run/course'))
        # and when a tool asks for it, on the node that it asks
        self.assertEqual(clients[0].control(wire.START_IPREALLOCATE, dest=self.other.number), (0, b''))
        self.assertEqual(self.other.read('/run/course').split()[-1], 'startipreallocate')
        self.assertEqual(clients[self.other.number].message()[0], wire.SRVID_START_IPREALLOCATE)

    @only_ours
    def test_echo_data_is_answered(self):
        client = self.connect(self.host)
        asked = struct.pack('=II', 0, 5) + b'hello'
        self.assertEqual(client.control(wire.ECHO_DATA, asked, dest=self.other.number), (0, asked))
        self.assertEqual(client.control(wire.ECHO_DATA, struct.pack('=II', 0, 500) + b'short')[0], -1)

    def test_last_words_reach_the_clients_of_all_nodes_when_their_client_ends(self):
        heirs = [self.connect(node) for node in self.nodes]
        for heir in heirs:
            heir.control(wire.REGISTER_SRVID, srvid=MINE)
        client = self.connect(self.host)
        words = struct.pack('=QI', MINE, 8) + b'farewell'
        self.assertEqual(client.control(wire.REGISTER_NOTIFY, words)[0], 0)
        self.assertEqual(client.control(wire.REGISTER_NOTIFY, words)[0], -1, 'once only')
        self.assertEqual(client.control(wire.REGISTER_NOTIFY, words + b'!')[0], -1, 'a length that lies')
        self.assertEqual(client.control(wire.REGISTER_NOTIFY, struct.pack('=QI', MINE + 1, 5) + b'never')[0], 0)
        self.assertEqual(client.control(wire.DEREGISTER_NOTIFY, struct.pack('=Q', MINE + 1))[0], 0)
        self.assertEqual(client.control(wire.DEREGISTER_NOTIFY, struct.pack('=Q', MINE + 1))[0], -1)
        for heir in heirs:
            heir.control(wire.REGISTER_SRVID, srvid=MINE + 1)
        client.socket.close()
        self.assertEqual([heir.message() for heir in heirs], [(MINE, b'farewell')] * 3)
        for heir in heirs:
            heir.control(wire.PING)
            self.assertEqual(heir.messages, [])

    def stay(self, node, srvid):
        """A client that has registered `srvid`, until it is told to end: (process, pid in the node)."""
        process = node.popen(['/usr/bin/python3', '-B', os.path.join(ROOT, 'tests/integration/client_socket.py'),
                              self.lab.flavour.socket, 'stay', str(srvid)], stdin=-1)
        pid = int(process.stdout.readline())
        self.addCleanup(process.communicate)
        return process, pid

    def test_a_process_and_its_mailbox_are_known_to_other_nodes_until_it_ends(self):
        process, pid = self.stay(self.other, MINE)
        client = self.connect(self.host)

        def there(pid, srvid, node=self.other):
            return client.control(wire.CHECK_PID_SRVID, struct.pack('=iQ', pid, srvid), dest=node.number)[0]
        self.assertEqual(there(pid, MINE), 0)
        self.assertEqual(there(pid, MINE + 1), -1)
        self.assertEqual(there(pid + 1, MINE), -1)
        self.assertEqual(there(pid, MINE, self.host), -1, 'that pid of another node')
        self.assertEqual(client.control(wire.CHECK_PID_SRVID, struct.pack('=iiQ', pid, 0, MINE), dest=self.other.number)[0], -1)
        process.communicate()
        wait_for(lambda: there(pid, MINE) == -1, 'the process to be gone')

    @only_ours
    def test_a_process_is_not_called_dead_while_its_node_may_still_serve(self):
        # Who hears "dead" removes that process's locks. The others see at once that this daemon is gone; what it let its
        # processes do goes on until the gate is shut, here by the end of the lease, for the supervisor cannot.
        process, pid = self.stay(self.other, MINE)
        client = self.connect(self.host)
        with open(self.other.path(self.lab.flavour.runtime_dir + '/gate'), 'rb') as file:
            gate = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
        self.addCleanup(gate.close)
        for supervisor in self.other.pids('tdbmesh-supervisor'):
            os.kill(supervisor, signal.SIGSTOP)
            self.addCleanup(_kill, supervisor, signal.SIGCONT)
        self.other.signal_daemon(signal.SIGKILL)
        asked = 0
        while client.control(wire.CHECK_PID_SRVID, struct.pack('=iQ', pid, MINE), dest=self.other.number)[0] != -1:
            asked += 1
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        open_until, = struct.unpack_from('=Q', gate, 24)
        self.assertGreater(open_until, 0)
        self.assertLessEqual(open_until, now, 'called dead %.3f s before its gate was shut' % ((open_until - now) / 1e9))


if __name__ == '__main__':
    main()
