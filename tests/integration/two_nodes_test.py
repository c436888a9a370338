#!/usr/bin/python3 -B
"""Two nodes have no majority without each other. With a cluster lock on the shared folder either one survives the
other's death; without one the lone node refuses, and says what to configure."""
import unittest

from lab import PASSWORD, Scenario, asked_for_peer, flavour_asked_for, main, wait_for


class WithClusterLock(Scenario):
    node_count = 2

    @classmethod
    def make_flavour(cls):
        return flavour_asked_for(cluster_lock='/srv/.ctdb/cluster.lock')

    def survive_the_death_of(self, victim):
        survivor = self.nodes[1 - victim.number]
        early, late = self.fresh_users('pair', 2)
        self.add_account(victim, early)
        victim.kill_daemon()
        wait_for(lambda: self.lab.all_ok([survivor]), lambda: 'the survivor to go on\n' + self.lab.describe())
        self.add_account(survivor, late)
        self.assertIn(early, self.accounts(survivor))
        victim.start()
        self.lab.wait_all_ok()
        self.assertIn(late, self.accounts(victim))
        self.assert_identical_databases()

    def test_either_node_survives_the_death_of_the_other(self):
        # both roles in both directions: whoever leads now, each node dies once
        for victim in self.nodes:
            with self.subTest(victim=victim.number):
                self.survive_the_death_of(victim)

    def test_the_leader_may_die(self):
        leader = wait_for(lambda: self.nodes[0].leader() is not None and [self.nodes[0].leader()], 'a leader')[0]
        self.survive_the_death_of(self.nodes[leader])


@unittest.skipIf(asked_for_peer(), 'CTDB goes on alone without a cluster lock: two halves may both write')
class WithoutClusterLock(Scenario):
    node_count = 2

    def test_the_lone_node_refuses_and_says_what_to_configure(self):
        early, refused = self.fresh_users('lone', 2)
        self.add_account(self.nodes[0], early)
        self.nodes[1].kill_daemon()
        lone = self.nodes[0]
        wait_for(lambda: 'cluster lock' in lone.reasons(),
                 lambda: 'status to name the cluster lock\n' + self.lab.describe())
        result = lone.samba(['timeout', '-s', 'KILL', '5', 'pdbedit', '-a', '-t', '-u', refused],
                            input='%s\n%s\n' % (PASSWORD, PASSWORD), check=False)
        self.assertNotEqual(result.returncode, 0, 'nothing is accepted')
        self.assertRegex(lone.reasons(), 'Reason:no quorum')
        self.nodes[1].start()
        self.lab.wait_all_ok()
        for node in self.nodes:
            self.assertIn(early, self.accounts(node))
            self.assertNotIn(refused, self.accounts(node))


if __name__ == '__main__':
    main()
