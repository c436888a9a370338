#!/usr/bin/python3 -B
"""A node that comes back fetches what it missed before it joins: a few commits if the others still know them, else all
records; and what was damaged is set aside and repaired."""
import glob
import os
import re
import struct
import sys
import unittest

from lab import Scenario, asked_for_peer, main, wait_for

RECORDS = 100000
VALUE = 100
BIG = 'big_ledger.tdb'


def write_backup(path, name, database_id, count, size, persistent=True):
    """A backup file as `ctdb backupdb` writes them (version 3), made up."""
    per_buffer, value = 1000, b'x' * size
    with open(path, 'wb') as out:
        out.write(struct.pack('=QQQQQ64s', 3, 0, 1 if persistent else 0, (count + per_buffer - 1) // per_buffer, count, name.encode()))
        for first in range(0, count, per_buffer):
            records = []
            for i in range(first, min(count, first + per_buffer)):
                key = b'key%09d' % i
                data = struct.pack('=QIIII', 1, 0, 0, 0, 0) + value
                records.append(struct.pack('=IIII', 16 + len(key) + len(data), 0, len(key), len(data)) + key + data)
            body = b''.join(records)
            out.write(struct.pack('=IIQ', database_id, len(records), len(body)) + body)


@unittest.skipIf(asked_for_peer(), "CTDB's databases have other files, and it copies all records each time")
class CatchUp(Scenario):
    def make_big(self):
        node = self.nodes[0]
        if BIG in self.lab.databases(node):
            return
        node.tool('attach', BIG, 'persistent')
        found = re.search(r'dbid:(0x[0-9a-f]+) name:' + re.escape(BIG), node.tool('getdbmap').stdout)
        path = os.path.join(self.lab.work, 'shared', 'big.backup')
        write_backup(path, BIG, int(found.group(1), 16), RECORDS, VALUE)
        node.samba(['ctdb', '-T', '300', '-t', '300', 'restoredb', '/srv/big.backup'], bound=300)

    def received(self, node):
        return int(node.read('/sys/class/net/eth0/statistics/rx_bytes'))

    def change(self, count):
        for number in range(count):
            self.nodes[0].tool('pstore', BIG, 'key%09d' % number, 'changed %d' % number)

    def said(self, node):
        return re.findall(r'caught up with node \d+ before joining: (\d+) databases whole, (\d+) by their last commits, '
                          r'(\d+) bytes', node.log())

    def comes_back(self, node):
        before = self.received(node)
        node.start()
        self.lab.wait_all_ok()
        return self.received(node) - before

    def test_a_small_difference_of_a_large_database_costs_little(self):
        self.make_big()
        away = self.nodes[2]
        away.kill_daemon()
        self.lab.wait_all_ok(self.nodes[:2])
        self.change(5)
        received = self.comes_back(away)
        print('5 changes of %d records: %d bytes received' % (RECORDS, received), file=sys.stderr)
        self.assertLess(received, RECORDS * VALUE / 10)
        self.assertEqual(self.said(away)[-1][0], '0', 'no database came whole')
        self.assert_identical_databases()

    def test_an_empty_node_gets_everything_before_it_joins(self):
        self.make_big()
        away = self.nodes[2]
        away.kill_daemon()
        self.lab.wait_all_ok(self.nodes[:2])
        for path in glob.glob(away.path('/var/lib/tdbmesh/persistent/' + BIG + '*')):
            away.run(['rm', '-rf', '/var/lib/tdbmesh/persistent/' + os.path.basename(path)])
        received = self.comes_back(away)
        print('%d records of %d bytes: %d bytes received' % (RECORDS, VALUE, received), file=sys.stderr)
        self.assertGreater(received, RECORDS * VALUE)
        # Before it joins, unless the cluster was in a view change for the whole second in which it asked: then within
        # the next one, which says so.
        before_joining = max(int(said[2]) for said in self.said(away)) > RECORDS * VALUE
        self.assertTrue(before_joining or 'fetching database ' + BIG in away.log(), away.log())
        self.assert_identical_databases()

    # -- damage --

    def damage_and_return(self, how):
        """Damages the copy of node 1 while it is down; returns what the node said after its start."""
        self.make_big()
        hurt = self.nodes[1]
        hurt.kill_daemon()
        folder, = glob.glob(hurt.path('/var/lib/tdbmesh/persistent/' + BIG + '.1.lmdb'))
        anchor = hurt.path('/var/lib/tdbmesh/persistent/' + BIG + '.1')
        how(folder + '/data.mdb', anchor)
        hurt.start()
        self.lab.wait_all_ok()
        self.assert_identical_databases()
        aside = glob.glob(hurt.path('/var/lib/tdbmesh/persistent/*corrupt*'))
        for path in aside:
            hurt.run(['rm', '-rf', '/var/lib/tdbmesh/persistent/' + os.path.basename(path)])
        health = hurt.tool('getdbstatus', BIG).stdout
        self.assertRegex(health, r'HEALTH: OK', 'repaired')
        return hurt, aside

    def test_overwritten_pages_are_noticed_and_repaired(self):
        def overwrite(data, _anchor):
            with open(data, 'r+b') as file:
                size = os.path.getsize(data)
                for at in range(8192, size, 65536):
                    file.seek(at)
                    file.write(os.urandom(4096))
        hurt, aside = self.damage_and_return(overwrite)
        self.assertTrue(aside, 'the damaged files were set aside')
        wait_for(lambda: re.search(BIG + '.*cannot be trusted', hurt.log()), 'the log to say so')

    def test_a_truncated_file_is_noticed_and_repaired(self):
        _, aside = self.damage_and_return(lambda data, _: os.truncate(data, 20000))
        self.assertTrue(aside, 'the damaged files were set aside')

    def test_a_removed_file_is_noticed_and_repaired(self):
        self.damage_and_return(lambda data, _: os.unlink(data))

    def test_a_lost_anchor_is_made_again(self):
        _, aside = self.damage_and_return(lambda _, anchor: os.unlink(anchor))
        self.assertFalse(aside, 'nothing was wrong with the data')

    def test_without_a_healthy_copy_the_database_is_refused_with_a_reason(self):
        self.make_big()
        for node in self.nodes:
            node.kill_daemon()
        for node in self.nodes:
            os.truncate(node.path('/var/lib/tdbmesh/persistent/%s.%d.lmdb/data.mdb' % (BIG, node.number)), 20000)
        self.lab.start()
        self.lab.wait_all_ok()
        status = self.nodes[0].tool('getdbstatus', BIG).stdout
        self.assertRegex(status, r'HEALTH: NO-HEALTHY-NODES.*wipedb.*restoredb', status)
        refused = self.nodes[1].tool('pstore', BIG, 'key', 'value', check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn('unhealthy', refused.stderr)
        self.nodes[0].tool('wipedb', BIG)
        self.nodes[0].samba(['ctdb', '-T', '300', '-t', '300', 'restoredb', '/srv/big.backup'], bound=300)
        self.assertRegex(self.nodes[1].tool('getdbstatus', BIG).stdout, 'HEALTH: OK')
        self.nodes[1].tool('pstore', BIG, 'key', 'value')
        self.assert_identical_databases()


if __name__ == '__main__':
    main()
