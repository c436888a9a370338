#!/usr/bin/python3 -B
"""winbindd with idmap tdb2 on three nodes: the same SID has the same id everywhere, and no id is handed out twice."""
import re

from lab import main
from samba_lab import SambaScenario

# SIDs that winbindd maps without a domain: everyone, creator, NT authority, ...
SIDS = ['S-1-1-0', 'S-1-2-0', 'S-1-3-0', 'S-1-3-1'] + ['S-1-5-%d' % n for n in (1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 18, 19, 20)]
ALLOCATE = 'i=0; while [ $i -lt %d ]; do wbinfo --allocate-%s || echo failed; i=$((i+1)); done'


class Idmap(SambaScenario):
    def test_sids_asked_for_on_all_nodes_at_once_have_one_id(self):
        asked = [node.popen(['wbinfo', '--sids-to-unix-ids', ','.join(SIDS[node.number:] + SIDS[:node.number])], samba=True)
                 for node in self.nodes]
        told = [dict(re.findall(r'^(S-\S+) -> (.+)$', process.communicate()[0], re.M)) for process in asked]
        self.assertEqual(told[1], told[0])
        self.assertEqual(told[2], told[0])
        ids = [one for one in told[0].values() if one != 'unmapped']
        self.assertGreater(len(ids), 10, told[0])
        self.assertEqual(len(ids), len(set(ids)), told[0])

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
        said = [process.communicate()[0] for process in running]
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


if __name__ == '__main__':
    main()
