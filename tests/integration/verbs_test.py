#!/usr/bin/python3 -B
"""stop, continue, ban, unban, disable, enable, recover, setleaderrole, setlmasterrole and detach from the unmodified ctdb: each
does what its name says, on a running cluster that goes on serving."""
from lab import Scenario, main, wait_for


class Verbs(Scenario):
    def setUp(self):
        # whatever a test that failed has left
        for node in self.lab.nodes:
            for verb in ('unban', 'continue', 'enable'):
                node.run(['tdbmesh', verb], check=False)
        super().setUp()

    def flag(self, node, column, of):
        """A column of `ctdb -X nodestatus all`: 4 banned, 5 disabled, 7 stopped."""
        for line in node.run(['ctdb', '-X', 'nodestatus', 'all'], check=False).stdout.splitlines():
            field = line.strip('|').split('|')
            if len(field) >= 10 and field[0] == str(of.number):
                return field[column]
        return None

    def leader_of(self, node):
        return wait_for(lambda: node.leader() is not None and [node.leader()], 'a leader')[0]

    def others_of(self, node):
        return [other for other in self.nodes if other is not node]

    def lmasters(self, node):
        lines = node.run(['tdbmesh', 'getvnnmap']).stdout.splitlines()
        return {line.split('lmaster:')[1].strip() for line in lines if 'lmaster:' in line}

    def serve(self, node, name):
        user, = self.fresh_users(name, 1)
        self.add_account(node, user)
        return user

    def out_and_in_again(self, victim, leave, column, come_back):
        others = self.others_of(victim)
        victim.run(['ctdb'] + leave)
        wait_for(lambda: all(self.flag(node, column, victim) == '1' for node in others),
                 lambda: 'the others to show it\n' + self.lab.describe())
        wait_for(lambda: self.lab.all_ok(others), lambda: 'the others to go on\n' + self.lab.describe())
        wait_for(lambda: str(victim.number) not in self.lmasters(others[0]), 'it to be lmaster of nothing')
        user = self.serve(others[0], 'without')
        victim.run(['ctdb'] + come_back)
        self.lab.wait_all_ok()
        self.assertIn(user, self.accounts(victim))
        self.assert_identical_databases()

    def test_stop_and_continue(self):
        leader = self.leader_of(self.nodes[0])
        self.out_and_in_again(self.nodes[(leader + 1) % 3], ['stop'], 7, ['continue'])

    def test_stop_of_the_leader_hands_over(self):
        leader = self.nodes[self.leader_of(self.nodes[0])]
        # it does not live from asking again after its time limit: whoever leads next answers the first question
        self.out_and_in_again(leader, ['-t', '600', 'stop'], 7, ['continue'])
        self.assertNotEqual(self.leader_of(self.nodes[0]), leader.number)

    def test_our_own_tool_says_that_it_stopped_its_node(self):
        self.nodes[1].tool('stop')
        wait_for(lambda: self.flag(self.nodes[0], 7, self.nodes[1]) == '1', 'the others to show it')
        self.nodes[1].tool('continue')
        self.lab.wait_all_ok()

    def test_ban_and_unban(self):
        leader = self.leader_of(self.nodes[0])
        self.out_and_in_again(self.nodes[(leader + 1) % 3], ['ban', '1000'], 4, ['unban'])

    def test_a_ban_ends_by_itself(self):
        victim = self.nodes[2]
        # longer than the 3 s after which the tool looks again, and bans anew who is not banned then
        victim.run(['ctdb', 'ban', '12'])
        self.assertEqual(self.flag(self.nodes[0], 4, victim), '1')
        wait_for(lambda: self.flag(self.nodes[0], 4, victim) == '0', 'the ban to end')
        self.lab.wait_all_ok()

    def test_disable_keeps_the_node_in_the_view(self):
        victim = self.nodes[1]
        before = victim.run(['tdbmesh', 'getvnnmap']).stdout
        victim.run(['ctdb', 'disable'])
        wait_for(lambda: self.flag(self.nodes[0], 5, victim) == '1', 'the others to show it')
        user = self.serve(victim, 'disabled')
        self.assertIn(user, self.accounts(self.nodes[0]))
        self.assertEqual(victim.run(['tdbmesh', 'getvnnmap']).stdout, before, 'no view change')
        victim.run(['ctdb', 'enable'])
        self.lab.wait_all_ok()

    def test_recover_makes_a_new_generation(self):
        def generation():
            return self.nodes[0].run(['tdbmesh', 'getvnnmap']).stdout.splitlines()[0]
        before = generation()
        self.nodes[0].run(['ctdb', 'recover'])
        self.assertNotEqual(generation(), before)
        self.lab.wait_all_ok()

    def test_roles(self):
        leader = self.nodes[self.leader_of(self.nodes[0])]
        leader.run(['ctdb', 'setleaderrole', 'off'])
        wait_for(lambda: self.leader_of(self.nodes[0]) != leader.number, 'another leader')
        leader.run(['ctdb', 'setleaderrole', 'on'])
        self.lab.wait_all_ok()
        self.nodes[1].run(['ctdb', 'setlmasterrole', 'off'])
        wait_for(lambda: '1' not in self.lmasters(self.nodes[0]), 'node 1 to be lmaster of nothing')
        self.serve(self.nodes[1], 'roles')
        self.nodes[1].run(['ctdb', 'setlmasterrole', 'on'])
        wait_for(lambda: '1' in self.lmasters(self.nodes[0]), 'node 1 to be lmaster again')
        self.lab.wait_all_ok()

    def databases(self, node):
        return node.run(['tdbmesh', 'getdbmap']).stdout

    def allow_attach(self, value):
        for node in self.nodes:
            node.run(['ctdb', 'setvar', 'AllowClientDBAttach', str(value)])

    def test_detach(self):
        first, second, third = self.nodes
        for tool in ('ctdb', 'tdbmesh'):
            first.run(['tdbmesh', 'attach', 'passing.tdb'])
            first.run(['tdbmesh', 'writekey', 'passing.tdb', 'guest', 'old'])
            second.run(['tdbmesh', 'readkey', 'passing.tdb', 'guest'])
            refused = first.run(['tdbmesh', 'detach', 'passing.tdb'], check=False)
            self.assertNotEqual(refused.returncode, 0, 'clients could come back at once')
            self.assertIn('AllowClientDBAttach', refused.stderr)
            self.allow_attach(0)
            try:
                self.assertNotEqual(first.run([tool, 'detach', 'passdb.tdb'], check=False).returncode, 0)
                first.run([tool, 'detach', 'passing.tdb'])
                for node in self.nodes:
                    self.assertNotIn('passing.tdb', self.databases(node))
                    self.assertIn('passdb.tdb', self.databases(node))
            finally:
                self.allow_attach(1)
            third.run(['tdbmesh', 'attach', 'passing.tdb'])
            self.assertNotIn('old', third.run(['tdbmesh', 'readkey', 'passing.tdb', 'guest'], check=False).stdout)
        self.serve(second, 'detach')
        self.lab.wait_all_ok()


if __name__ == '__main__':
    main()
