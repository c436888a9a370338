#!/usr/bin/python3 -B
"""kill -9 of one daemon in the middle of a load from all nodes: the others go on, nothing acknowledged is lost,
and the killed node comes back identical."""
from lab import PASSWORD, Scenario, main, wait_for

USERS_PER_NODE = 40
# Each line "ok NAME" is an acknowledgement: pdbedit has ended with 0. A node whose daemon is dead gives up.
LOOP = 'for u in %s; do if printf "%s\\n%s\\n" | pdbedit -a -t -u $u >/dev/null; then echo "ok $u"; ' \
       'else echo "failed $u"; [ %d = 1 ] && exit 1; fi; done'


class NodeDeath(Scenario):
    def load_with_a_death(self, victim):
        users = self.fresh_users('load', USERS_PER_NODE * len(self.nodes))
        running, said = {}, {node: [] for node in self.nodes}
        survivors = [node for node in self.nodes if node is not victim]
        for node in self.nodes:
            part = users[node.number::len(self.nodes)]
            out = open('%s/load.%d' % (self.lab.work, node.number), 'w')
            running[node] = node.popen(LOOP % (' '.join(part), PASSWORD, PASSWORD, node is victim), samba=True,
                                       stdout=out, stderr=out)
            out.close()

        def lines(node):
            with open('%s/load.%d' % (self.lab.work, node.number)) as out:
                return out.read().splitlines()

        wait_for(lambda: all(len(lines(node)) >= 5 for node in self.nodes), 'the load to be running')
        victim.kill_daemon()
        at_the_kill = {node: len(lines(node)) for node in self.nodes}
        for node, process in running.items():
            process.wait()
            said[node] = lines(node)
        for node in survivors:
            self.assertLess(at_the_kill[node], USERS_PER_NODE, 'the kill came in the middle of the load')
            failed = [line for line in said[node] if line.startswith('failed ')]
            self.assertEqual(failed, [], 'node %d, which lives, had no error' % node.number)
        acknowledged = [line[3:] for node in self.nodes for line in said[node] if line.startswith('ok ')]
        self.assertGreater(len(acknowledged), USERS_PER_NODE * len(survivors))
        for node in survivors:
            listed = self.accounts(node)
            self.assertEqual([user for user in acknowledged if user not in listed], [],
                             'acknowledged users missing on node %d' % node.number)
        victim.start()
        self.lab.wait_all_ok()
        listed = self.accounts(victim)
        self.assertEqual([user for user in acknowledged if user not in listed], [],
                         'acknowledged users missing on the node that came back')
        self.assert_identical_databases()

    def test_death_of_the_leader(self):
        leader = wait_for(lambda: self.nodes[0].leader() is not None and [self.nodes[0].leader()], 'a leader')[0]
        self.load_with_a_death(self.nodes[leader])

    def test_death_of_another_node(self):
        leader = wait_for(lambda: self.nodes[0].leader() is not None and [self.nodes[0].leader()], 'a leader')[0]
        self.load_with_a_death(self.nodes[(leader + 1) % len(self.nodes)])

    def test_a_user_of_the_time_away_is_there_after_the_return(self):
        victim = self.nodes[2]
        victim.kill_daemon()
        kept, dropped = self.fresh_users('away', 2)
        self.add_account(self.nodes[0], dropped)
        self.add_account(self.nodes[0], kept)
        self.nodes[1].samba(['pdbedit', '-x', '-u', dropped])
        victim.start()
        self.lab.wait_all_ok()
        listed = self.accounts(victim)
        self.assertIn(kept, listed)
        self.assertNotIn(dropped, listed)
        self.assert_identical_databases()

    def test_all_nodes_die_at_once_and_return_with_everything(self):
        user, = self.fresh_users('all', 1)
        self.add_account(self.nodes[1], user)
        for node in self.nodes:
            node.kill_daemon()
        self.lab.start()
        self.lab.wait_all_ok()
        for node in self.nodes:
            self.assertIn(user, self.accounts(node))
        self.assert_identical_databases()


if __name__ == '__main__':
    main()
