#!/usr/bin/python3 -B
"""One node's private cable is pulled: it refuses writes and says why, the majority goes on, and after the cable
is back all are equal. And what is lost in one direction of one link only."""
import re
import unittest

from lab import PASSWORD, Scenario, asked_for_peer, main, wait_for


class Partition(Scenario):
    def wait_until_the_majority_goes_on(self, majority):
        wait_for(lambda: self.lab.all_ok(majority), lambda: 'the majority to go on\n' + self.lab.describe(), 90)

    def try_to_add(self, node, user, seconds):
        """True if the node accepted the account. A fenced node may refuse or keep the caller waiting."""
        result = node.samba(['timeout', '-s', 'KILL', str(seconds), 'pdbedit', '-a', '-t', '-u', user],
                            input='%s\n%s\n' % (PASSWORD, PASSWORD), check=False)
        return result.returncode == 0

    def cut_off_node(self, lonely):
        majority = [node for node in self.nodes if node is not lonely]
        before, during, refused = self.fresh_users('part', 3)
        self.add_account(lonely, before)
        lonely.cut()
        self.wait_until_the_majority_goes_on(majority)
        self.add_account(majority[0], during)
        self.assertIn(during, self.accounts(majority[1]))

        wait_for(lambda: not all(lonely.flags().get(pnn) for pnn in range(len(self.nodes))),
                 'the lonely node to notice')
        self.assertFalse(self.try_to_add(lonely, refused, 15), 'a node without a majority accepts nothing')
        self.assertIn('DISCONNECTED', lonely.reasons())
        if not asked_for_peer():
            self.assertRegex(lonely.reasons(), 'Reason:no quorum', 'status says why')

        lonely.join()
        wait_for(lambda: lonely.leader() is not None, 'the lonely node to hear the leader')
        self.assertIn(before, self.accounts(lonely), 'who asks while the node joins is kept waiting, not refused')
        self.lab.wait_all_ok()
        for node in self.nodes:
            listed = self.accounts(node)
            self.assertIn(before, listed)
            self.assertIn(during, listed)
            self.assertNotIn(refused, listed)
        self.assert_identical_databases()
        after, = self.fresh_users('healed', 1)
        self.add_account(lonely, after)
        self.assertIn(after, self.accounts(majority[0]))

    def leader(self):
        return wait_for(lambda: self.nodes[0].leader() is not None and [self.nodes[0].leader()], 'a leader')[0]

    def test_a_follower_is_cut_off(self):
        self.cut_off_node(self.nodes[(self.leader() + 1) % len(self.nodes)])

    @unittest.skipIf(asked_for_peer(), 'CTDB gives the cluster to whoever holds the lock, also to a lone node')
    def test_the_leader_is_cut_off(self):
        self.cut_off_node(self.nodes[self.leader()])

    def test_a_short_cut_does_no_harm(self):
        user, = self.fresh_users('blink', 1)
        self.nodes[1].cut()
        self.nodes[1].join()
        self.lab.wait_all_ok()
        self.add_account(self.nodes[1], user)
        self.assertIn(user, self.accounts(self.nodes[2]))

    @unittest.skipIf(asked_for_peer(), 'CTDB does not ask whether it is heard')
    def test_what_is_lost_in_one_direction_costs_one_node(self):
        leader = self.nodes[self.leader()]
        mute, deaf = [node for node in self.nodes if node is not leader]
        user, = self.fresh_users('oneway', 1)
        # To the card of nobody: it leaves this node without an error and arrives nowhere.
        neighbour = ['ip', 'neigh', 'replace', deaf.address, 'lladdr', '02:00:00:00:00:01', 'dev', 'eth0', 'nud', 'permanent']
        heal = ['ip', 'neigh', 'del', deaf.address, 'dev', 'eth0']
        self.addCleanup(mute.run, heal, check=False)
        mute.run(neighbour)
        refused = []

        def left_out():
            asked = mute.run(['ctdb', '-n', str(deaf.number), 'uptime'], check=False)
            if asked.returncode:
                refused.append(asked.stderr)
            return refused and 'no link to another member' in leader.reasons()
        wait_for(left_out, lambda: 'one of the two to be left out\n' + self.lab.describe())
        # What is asked of a node that does not hear the question is not waited for until the tool gives up.
        self.assertEqual([said for said in refused if not re.search('ret=-1|DISCONNECTED', said)], [])
        self.add_account(leader, user)
        mute.run(heal)
        self.lab.wait_all_ok()
        for node in self.nodes:
            self.assertIn(user, self.accounts(node))
        self.assert_identical_databases()


if __name__ == '__main__':
    main()
