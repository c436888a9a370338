#!/usr/bin/python3 -B
"""Two nodes have no majority without each other. With a cluster lock on the shared folder either one survives the
other's death, with a witness too; without either the lone node refuses, and says what to configure."""
import os
import unittest

from lab import PASSWORD, Scenario, asked_for_peer, flavour_asked_for, main, Tdbmesh, wait_for


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


class TwoServersAndAWitness(Tdbmesh):
    def configure(self, lab, node):
        super().configure(lab, node)
        if node.number == 2:
            with open(node.path(self.config_dir + '/tdbmesh.conf'), 'a') as out:
                out.write('\n[cluster]\nwitness = true\n')


@unittest.skipIf(asked_for_peer(), 'CTDB knows no witness')
class WithAWitness(Scenario):
    node_count = 3

    @classmethod
    def make_flavour(cls):
        return TwoServersAndAWitness()

    def servers(self):
        return self.nodes[:2]

    def test_either_server_goes_on_when_the_other_is_gone(self):
        for victim in self.servers():
            survivor = self.nodes[1 - victim.number]
            early, late = self.fresh_users('seen', 2)
            self.add_account(victim, early)
            victim.cut()
            rest = [survivor, self.nodes[2]]
            wait_for(lambda: survivor.leader() == survivor.number and self.lab.all_ok(rest),
                     lambda: 'the other server to lead\n' + self.lab.describe())
            self.add_account(survivor, late)
            self.assertIn(early, self.accounts(survivor))
            victim.join()
            self.lab.wait_all_ok()
            wait_for(lambda: late in self.accounts(victim), 'the account that was missed')
        self.assert_identical_databases()

    def test_it_leads_nothing_and_keeps_no_directory(self):
        first, witness = self.nodes[0], self.nodes[2]
        self.assertRegex(first.tool('status').stdout, r'(?m)^pnn:2 \S+ +OK \(WITNESS\)$')
        self.assertNotRegex(first.tool('getvnnmap').stdout, 'lmaster:2')
        self.assertEqual(witness.tool('getcapabilities').stdout, 'LEADER: NO\nLMASTER: NO\nWITNESS: YES\n')
        refused = witness.tool('setrecmasterrole', 'on', check=False)
        self.assertNotEqual(refused.returncode, 0)
        for server in self.servers():
            server.kill_daemon()
        wait_for(lambda: 'no quorum' in witness.reasons(), lambda: 'the witness to serve nobody\n' + self.lab.describe())
        self.lab.start(self.servers())
        self.lab.wait_all_ok()

    def test_its_death_is_no_loss(self):
        witness = self.nodes[2]
        witness.kill_daemon()
        wait_for(lambda: self.lab.all_ok(self.servers()), lambda: 'the servers to go on\n' + self.lab.describe())
        user, = self.fresh_users('alone', 1)
        self.add_account(self.nodes[0], user)
        self.assertIn(user, self.accounts(self.nodes[1]))
        witness.start()
        self.lab.wait_all_ok()
        self.assert_identical_databases()

    def test_it_refuses_public_addresses(self):
        witness = self.nodes[2]
        witness.stop()
        path = witness.path(self.lab.flavour.config_dir + '/public_addresses')
        with open(path, 'w') as out:
            out.write('10.99.0.100/24 pub0\n')
        said = witness.run(self.lab.flavour.start_command(), check=False)
        os.unlink(path)
        self.assertNotEqual(said.returncode, 0)
        self.assertIn('a witness hosts no public addresses', said.stdout + said.stderr)
        witness.start()
        self.lab.wait_all_ok()


if __name__ == '__main__':
    main()
