#!/usr/bin/python3 -B
"""The cluster grows, shrinks and gets another machine for a node while all nodes are at work: by the nodes file and
`reloadnodes`, of the unmodified ctdb and of tdbmesh."""
import os
import shutil

from lab import PASSWORD, Lab, Scenario, Tdbmesh, asked_for_peer, main, wait_for

LOOP = 'i=0; while [ ! -e /tmp/stop-load ]; do i=$((i+1)); u=$(echo "$USERS" | cut -d" " -f$i); [ -z "$u" ] && break; ' \
       'if printf "%s\\n%s\\n" | pdbedit -a -t -u $u >/dev/null; then echo "ok $u"; else echo "failed $u"; fi; done'


class Reload(Scenario):
    machines = 4

    @classmethod
    def setUpClass(cls):
        super(Scenario, cls).setUpClass()
        cls.lab = Lab(cls.machines, Tdbmesh()).make()
        cls.addClassCleanup(cls.lab.destroy)

    def setUp(self):
        self.nodes = self.lab.nodes
        for node in self.nodes:
            if node.daemon_pid() is not None:
                node.kill_daemon()
            for folder in ('/var/lib/tdbmesh', '/run/tdbmesh'):
                shutil.rmtree(node.path(folder), ignore_errors=True)
                os.makedirs(node.path(folder))
        self.write_nodes([node.address for node in self.nodes[:3]])
        self.lab.start(self.nodes[:3])
        self.lab.wait_all_ok(self.nodes[:3])

    def write_nodes(self, lines):
        for node in self.nodes:
            for path in ('/etc/tdbmesh/nodes', '/etc/ctdb/nodes'):
                with open(node.path(path), 'w') as out:
                    out.write(''.join(line + '\n' for line in lines))

    def begin_load(self, nodes, each=60):
        users = self.fresh_users('reload', each * len(nodes))
        self.load = []
        for index, node in enumerate(nodes):
            out = open('%s/load.%d' % (self.lab.work, node.number), 'w')
            process = node.popen(LOOP % (PASSWORD, PASSWORD), samba=True, stdout=out, stderr=out,
                                 env={'USERS': ' '.join(users[index::len(nodes)])})
            out.close()
            self.load.append((node, process))
        wait_for(lambda: all(len(self.said(node)) >= 3 for node, _ in self.load), 'the load to be running')

    def said(self, node):
        with open('%s/load.%d' % (self.lab.work, node.number)) as out:
            return out.read().splitlines()

    def end_load(self, witnesses, may_fail=()):
        acknowledged = []
        for node, process in self.load:
            process.wait()
            lines = self.said(node)
            if node not in may_fail:
                self.assertEqual([line for line in lines if line.startswith('failed ')], [], 'on node %d' % node.number)
            acknowledged += [line[3:] for line in lines if line.startswith('ok ')]
        for node in witnesses:
            listed = self.accounts(node)
            self.assertEqual([user for user in acknowledged if user not in listed], [], 'lost on node %d' % node.number)
        self.assert_identical_databases(witnesses)

    def vnnmap_size(self, node):
        return [line for line in node.tool('getvnnmap').stdout.splitlines() if line.startswith('Size:')]

    def wait_for_voters(self, node, count):
        """The leader has nothing left to do, and the map has its new size."""
        wait_for(lambda: self.vnnmap_size(node) == ['Size:%d' % count], lambda: 'a map of %d\n%s' % (count, self.lab.describe()))
        wait_for(lambda: 'nodes files are not taken up' not in node.reasons(), node.reasons)

    def test_grow_and_shrink_under_load_by_the_unmodified_ctdb(self):
        addresses = [node.address for node in self.nodes]
        three, four = self.nodes[:3], self.nodes
        self.begin_load(three)
        self.write_nodes(addresses)
        self.nodes[0].run(['ctdb', 'reloadnodes'])
        self.nodes[3].start()
        self.lab.wait_all_ok(four)
        self.wait_for_voters(self.nodes[0], 4)
        self.end_load(four)
        # the new one counts: with 4 voters, 2 are no majority
        self.begin_load(four, 30)
        self.nodes[3].stop()
        self.write_nodes(addresses[:3] + ['#' + addresses[3]])
        self.nodes[1].run(['ctdb', 'reloadnodes'])
        self.lab.wait_all_ok(three)
        self.wait_for_voters(self.nodes[0], 3)
        self.end_load(three, may_fail=[self.nodes[3]])
        # and now 2 of 3 are one again
        self.nodes[2].kill_daemon()
        self.lab.wait_all_ok(self.nodes[:2])

    def test_a_running_node_is_removed_and_says_so(self):
        addresses = [node.address for node in self.nodes]
        self.begin_load(self.nodes[:2])
        self.write_nodes(addresses[:2] + ['#' + addresses[2]])
        self.nodes[0].tool('reloadnodes')
        self.lab.wait_all_ok(self.nodes[:2])
        self.wait_for_voters(self.nodes[0], 2)
        wait_for(lambda: 'removed from the configuration' in self.nodes[2].reasons(), self.nodes[2].reasons)
        self.end_load(self.nodes[:2])

    def test_the_leader_is_removed_and_another_one_leads(self):
        leader = self.nodes[wait_for(lambda: self.nodes[0].leader() is not None and [self.nodes[0].leader()], 'a leader')[0]]
        others = [node for node in self.nodes[:3] if node is not leader]
        self.begin_load(others)
        self.write_nodes([('#' if node is leader else '') + node.address for node in self.nodes[:3]])
        others[0].tool('reloadnodes')
        self.lab.wait_all_ok(others)
        self.wait_for_voters(others[0], 2)
        self.assertNotEqual(others[0].leader(), leader.number)
        self.end_load(others)

    def test_another_machine_takes_the_number_of_a_dead_one(self):
        addresses = [node.address for node in self.nodes]
        stay = [self.nodes[0], self.nodes[2]]
        self.begin_load(stay)
        self.nodes[1].kill_daemon()
        self.lab.wait_all_ok(stay)
        # a changed address alone is refused, with what to do
        self.write_nodes([addresses[0], addresses[3], addresses[2]])
        refused = self.nodes[0].tool('reloadnodes', check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("put '#' in front", refused.stderr)
        self.write_nodes([addresses[0], '#' + addresses[1], addresses[2]])
        self.nodes[0].tool('reloadnodes')
        self.wait_for_voters(self.nodes[0], 2)
        self.write_nodes([addresses[0], addresses[3], addresses[2]])
        self.nodes[0].tool('reloadnodes')
        self.nodes[3].start()
        wait_for(lambda: all({0, 1, 2} <= {pnn for pnn, ok in node.flags().items() if ok} for node in stay + [self.nodes[3]]),
                 lambda: 'the new machine to be node 1\n' + self.lab.describe())
        self.wait_for_voters(self.nodes[0], 3)
        self.end_load(stay + [self.nodes[3]])

    def test_a_witness_comes_and_goes_under_load(self):
        addresses = [node.address for node in self.nodes]
        servers, witness = self.nodes[:2], self.nodes[2]
        only_servers = addresses[:2] + ['#' + addresses[2]]
        witness.stop()
        self.write_nodes(only_servers)
        servers[0].tool('reloadnodes')
        self.wait_for_voters(servers[0], 2)
        path = witness.path('/etc/tdbmesh/tdbmesh.conf')
        shutil.copy(path, path + '.server')
        self.addCleanup(os.replace, path + '.server', path)
        with open(path, 'a') as out:
            out.write('\n[cluster]\nwitness = true\n')
        self.begin_load(servers)
        self.write_nodes(addresses[:3])
        servers[0].tool('reloadnodes')
        witness.start()
        self.lab.wait_all_ok(self.nodes[:3])
        self.wait_for_voters(servers[0], 3)
        self.end_load(servers)
        self.assert_identical_databases(self.nodes[:3])
        self.assertIn('WITNESS: YES', witness.tool('getcapabilities').stdout)
        self.assertNotRegex(servers[0].tool('getvnnmap').stdout, 'lmaster:2')
        # its vote counts
        servers[1].kill_daemon()
        wait_for(lambda: self.lab.all_ok([servers[0], witness]), self.lab.describe)
        self.add_account(servers[0], self.fresh_users('alone', 1)[0])
        servers[1].start()
        self.lab.wait_all_ok(self.nodes[:3])
        self.begin_load(servers, 30)
        self.write_nodes(only_servers)
        servers[1].tool('reloadnodes')
        self.lab.wait_all_ok(servers)
        self.wait_for_voters(servers[0], 2)
        wait_for(lambda: 'removed from the configuration' in witness.reasons(), witness.reasons)
        self.end_load(servers)

    def test_files_that_differ_are_refused(self):
        with open(self.nodes[1].path('/etc/tdbmesh/nodes'), 'a') as out:
            out.write(self.nodes[3].address + '\n')
        for tool in ('ctdb', 'tdbmesh'):
            refused = self.nodes[0].run([tool, 'reloadnodes'], check=False)
            self.assertNotEqual(refused.returncode, 0, tool)
            self.assertIn('differ', refused.stdout + refused.stderr, tool)


if __name__ == '__main__':
    if asked_for_peer():
        print('skipped: about our own changes of the configuration')
        raise SystemExit(77)
    main()
