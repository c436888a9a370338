#!/usr/bin/python3 -B
"""winbindd with idmap tdb2 and an idmap script on three nodes: the same SID has the same id everywhere, and no id is
handed out twice."""
import os
import re
from functools import partial

from lab import main
from samba_lab import SambaScenario, start_services

# SIDs that winbindd maps without a domain: everyone, creator, NT authority, ...
SIDS = ['S-1-1-0', 'S-1-2-0', 'S-1-3-0', 'S-1-3-1'] + ['S-1-5-%d' % n for n in (1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 18, 19, 20)]
ALLOCATE = 'i=0; while [ $i -lt %d ]; do wbinfo --allocate-%s || echo failed; i=$((i+1)); done'

# Knows the ids of SIDs of one foreign domain, by their last number; for all others tdb2 allocates.
SCRIPT = '''#!/bin/sh
case "$1 $2" in
"SIDTOID S-1-5-21-7-7-7-"*) echo "UID:$((1200000 + ${2##*-}))" ;;
*) echo "ERR:not mine" ;;
esac
'''
FOREIGN = range(1, 1 + int(os.environ.get('TDBMESH_SIDS', '1000')))


def foreign_sid(number):
    return 'S-1-5-21-7-7-7-%d' % number


class Idmap(SambaScenario):
    @classmethod
    def make_flavour(cls):
        flavour = super().make_flavour()
        flavour.samba_options += ('idmap config * : script = /srv/idmap-script',)
        return flavour

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        path = os.path.join(cls.lab.work, 'shared', 'idmap-script')
        with open(path, 'w') as out:
            out.write(SCRIPT)
        os.chmod(path, 0o755)

    def test_sids_asked_for_on_all_nodes_at_once_have_one_id(self):
        asked = [node.popen(['wbinfo', '--sids-to-unix-ids', ','.join(SIDS[node.number:] + SIDS[:node.number])], samba=True)
                 for node in self.nodes]
        told = [dict(re.findall(r'^(S-\S+) -> (.+)$', process.communicate()[0], re.M)) for process in asked]
        self.assertEqual(told[1], told[0])
        self.assertEqual(told[2], told[0])
        ids = [one for one in told[0].values() if one != 'unmapped']
        self.assertGreater(len(ids), 10, told[0])
        self.assertEqual(len(ids), len(set(ids)), told[0])

    def ask(self, node, sids, at_once=20):
        """wbinfo for `sids`, some at a time, as a process that runs; told() reads what it said."""
        return node.popen('for some in %s; do wbinfo --sids-to-unix-ids $some || echo failed; done' % ' '.join(
            ','.join(sids[at:at + at_once]) for at in range(0, len(sids), at_once)), samba=True)

    def all_said(self, processes):
        # not communicate(), which forgets what readline() has buffered
        said = [process.stdout.read() for process in processes]
        for process in processes:
            process.communicate()
        return said

    def told(self, said):
        return dict(re.findall(r'^(S-\S+) -> (.+)$', said, re.M))

    def test_foreign_sids_mapped_by_a_script_on_three_nodes_while_one_dies(self):
        # Each node has SIDs of its own: of two that map the same SID by script in the same moment, Samba's tdb2 tells the
        # later one "unmapped" (the transaction finds the other's record), and remembers that for two minutes; on CTDB too.
        parts = [[foreign_sid(number) for number in FOREIGN if number % 3 == node.number] for node in self.nodes]
        expected = {foreign_sid(number): 'uid %d' % (1200000 + number) for number in FOREIGN}
        asked = [self.ask(node, part) for node, part in zip(self.nodes, parts)]
        first = asked[1].stdout.readline()
        self.nodes[2].kill_daemon()
        said = self.all_said(asked)
        said[1] = first + said[1]
        for text, part in zip(said[:2], parts):
            self.assertEqual(self.told(text), {sid: expected[sid] for sid in part}, 'the survivors were told all of theirs')
        for sid, told in self.told(said[2]).items():
            self.assertIn(told, (expected[sid], 'unmapped'))
        self.lab.make_whole()
        start_services(self.lab, self.nodes)
        self.ask(self.nodes[2], parts[2]).communicate()        # what it had not come to
        everything = sorted(expected)
        for node in self.nodes:
            self.assertEqual(self.told(self.ask(node, everything, 100).communicate()[0]), expected)
            dump = node.samba(['net', 'idmap', 'dump']).stdout
            self.assertEqual(sorted(int(number) for number in re.findall(r'^UID 12\d+ S-1-5-21-7-7-7-(\d+)$', dump, re.M)),
                             list(FOREIGN), 'each one is there once')
            self.assertEqual(node.samba(['wbinfo', '--uid-to-sid', '1200150']).stdout.strip(), foreign_sid(150))

    def numbers(self, said, kind):
        return [int(number) for number in re.findall(r'^New %s: (\d+)$' % kind, said, re.M)]

    def test_a_thousand_ids_from_three_nodes_are_a_thousand_ids(self):
        running = [node.popen(ALLOCATE % (334, 'gid'), samba=True) for node in self.nodes]
        said = [process.communicate()[0] for process in running]
        got = [self.numbers(text, 'gid') for text in said]
        self.assertEqual([len(part) for part in got], [334] * 3, said)
        everything = sum(got, [])
        self.assertEqual(len(set(everything)), len(everything), 'ids handed out twice')

    def test_no_id_is_handed_out_twice_while_a_node_dies(self):
        running = [node.popen(ALLOCATE % (334, 'uid'), samba=True) for node in self.nodes]
        first = ''.join(running[1].stdout.readline() for _ in range(20))   # all are at work by now
        self.nodes[2].kill_daemon()
        said = self.all_said(running)
        said[1] = first + said[1]
        got = [self.numbers(text, 'uid') for text in said]
        self.assertEqual([len(part) for part in got[:2]], [334, 334], 'the survivors got all of theirs')
        everything = sum(got, [])
        self.assertEqual(len(set(everything)), len(everything), 'ids handed out twice')

    def test_local_groups_made_on_all_nodes_have_ids_of_their_own(self):
        script = 'for i in 1 2 3 4 5 6 7 8 9 10; do net sam createlocalgroup crew%d-$i || echo failed; done'
        running = [node.popen(script % node.number, samba=True) for node in self.nodes]
        for process in running:
            out, err = process.communicate()
            self.assertEqual((out + err).count('Created local group'), 10, out + err)
        maps = [node.samba(['net', 'groupmap', 'list']).stdout for node in self.nodes]
        for text in maps:
            found = dict(re.findall(r'^crew\S+ \((S-\S+)\) -> (\d+)$', text, re.M))
            self.assertEqual((len(found), len(set(found.values()))), (30, 30), text)
            self.assertEqual(found, dict(re.findall(r'^crew\S+ \((S-\S+)\) -> (\d+)$', maps[0], re.M)))
        sid = next(iter(re.findall(r'^crew2-7 \((S-\S+)\)', maps[0], re.M)))
        self.assertEqual(len({node.samba(['wbinfo', '--sid-to-gid', sid]).stdout for node in self.nodes}), 1)

    def test_net_idmap_restores_dumps_and_checks_on_any_node(self):
        lines = ['GID %d S-1-5-21-1-2-3-%d' % (1500000 + n, n) for n in range(50)] + ['USER HWM 1100000', 'GROUP HWM 1600000']
        self.nodes[1].samba(['net', 'idmap', 'restore'], input='\n'.join(lines) + '\n')
        for node in self.nodes:
            dump = node.samba(['net', 'idmap', 'dump']).stdout
            for line in lines[:50]:
                self.assertIn(line, dump)
        self.assertIn('1600000', self.nodes[2].samba(['wbinfo', '--allocate-gid']).stdout)
        checked = self.nodes[0].samba(['net', 'idmap', 'check', '-T', '-v', '--db=idmap2.tdb'], check=False)
        self.assertNotIn('invalid', (checked.stdout + checked.stderr).lower().replace('0 invalid', ''))

    def test_net_idmap_check_mends_half_a_mapping_and_delete_removes_it_on_all_nodes(self):
        def has(node, *keys):
            listed = node.samba(['dbwrap_tool', '--persistent', 'idmap2.tdb', 'listkeys']).stdout
            return [key in listed for key in keys]
        first, second, third = self.nodes
        # one direction of a mapping only, as no transaction would leave it
        third.samba(['dbwrap_tool', '--persistent', 'idmap2.tdb', 'store', 'UID 1900001', 'string', 'S-1-5-21-9-9-9-1'])
        found = first.samba(['net', 'idmap', 'check', '-T', '-a', '-v', '--db=idmap2.tdb'], check=False)
        self.assertIn('Missing reverse mapping for: "UID 1900001', found.stdout + found.stderr)
        second.samba(['net', 'idmap', 'check', '-r', '-a', '-f', '-l', '--db=idmap2.tdb'])
        for node in self.nodes:
            self.assertEqual(has(node, 'UID 1900001', 'S-1-5-21-9-9-9-1'), [True, True])
        third.samba(['net', 'idmap', 'delete', 'mapping', '-f', '--db=idmap2.tdb', 'UID 1900001'])
        for node in self.nodes:
            self.assertEqual(has(node, 'UID 1900001', 'S-1-5-21-9-9-9-1'), [False, False])

    def autorid(self, node, *command):
        return node.samba(['net', 'idmap', *command, '--db=autorid.tdb']).stdout

    def test_net_idmap_sets_gets_and_deletes_ranges_of_autorid(self):
        first, second, third = (partial(self.autorid, node) for node in self.nodes)
        domain = 'S-1-5-21-8-8-8'
        first('set', 'config', 'minvalue:1000000 rangesize:100000 maxranges:10')
        self.assertIn('rangesize:100000', second('get', 'config'))
        second('set', 'range', '1', domain)
        third('set', 'range', '2', domain, '1')
        for net in (first, second, third):
            self.assertIn('RANGE 1: %s (low id: 1100000)' % domain, net('get', 'range', domain))
            self.assertIn('RANGE 2: %s#1' % domain, net('get', 'ranges', domain))
        first('delete', 'range', '-f', domain, '0')
        self.assertNotIn('RANGE 1', second('get', 'ranges', domain))
        third('delete', 'ranges', '-f', domain)
        for net in (first, second, third):
            self.assertNotIn('RANGE', net('get', 'ranges', domain))


if __name__ == '__main__':
    main()
