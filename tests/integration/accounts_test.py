#!/usr/bin/python3 -B
"""Accounts made on one node are there on all: users, passwords, groups, registry, policies, the domain's SID."""
from lab import PASSWORD, Scenario, main


class Accounts(Scenario):
    def assert_same_everywhere(self, command, expected=None):
        said = [node.samba(command).stdout for node in self.nodes]
        self.assertEqual(said, [said[0]] * len(said), 'the same answer to %s on all nodes' % ' '.join(command))
        if expected is not None:
            self.assertIn(expected, said[0])
        return said[0]

    def test_user_added_by_pdbedit_is_on_all_nodes_at_once(self):
        user, = self.fresh_users('jo', 1)
        self.add_account(self.nodes[0], user)
        for node in self.nodes:
            # one look, no waiting: the commit is on all nodes before pdbedit ends
            self.assertIn(user, self.accounts(node), 'node %d' % node.number)

    def test_user_added_by_smbpasswd_is_on_all_nodes_at_once(self):
        user, = self.fresh_users('ann', 1)
        self.nodes[0].samba(['smbpasswd', '-a', '-s', user], input='%s\n%s\n' % (PASSWORD, PASSWORD))
        for node in self.nodes:
            self.assertIn(user, self.accounts(node), 'node %d' % node.number)

    def test_password_changed_on_another_node_is_equal_on_all(self):
        user, = self.fresh_users('kim', 1)
        self.add_account(self.nodes[0], user)
        before = self.accounts(self.nodes[0])[user]
        self.nodes[1].samba(['smbpasswd', '-s', user], input='Other-2\nOther-2\n')
        after = [self.accounts(node)[user] for node in self.nodes]
        self.assertNotEqual(after[0], before)
        self.assertEqual(after, [after[0]] * len(after))

    def test_user_deleted_on_one_node_is_gone_on_all(self):
        user, = self.fresh_users('lee', 1)
        self.add_account(self.nodes[0], user)
        self.nodes[2].samba(['pdbedit', '-x', '-u', user])
        for node in self.nodes:
            self.assertNotIn(user, self.accounts(node), 'node %d' % node.number)

    def test_group_mapping_replicates(self):
        group, = self.fresh_users('crew', 1)
        self.nodes[0].samba(['net', 'groupmap', 'add', 'ntgroup=Crew ' + group, 'unixgroup=' + group, 'type=domain'])
        self.assert_same_everywhere(['net', 'groupmap', 'list'], 'Crew ' + group)
        self.nodes[1].samba(['net', 'groupmap', 'delete', 'ntgroup=Crew ' + group])
        self.assertNotIn('Crew ' + group, self.assert_same_everywhere(['net', 'groupmap', 'list']))

    def test_registry_replicates(self):
        key = r'HKLM\Software\Samba\smbconf\lab'
        self.nodes[0].samba(['net', 'registry', 'createkey', key])
        self.nodes[1].samba(['net', 'registry', 'setvalue', key, 'comment', 'sz', 'from node 1'])
        self.assert_same_everywhere(['net', 'registry', 'getvalue', key, 'comment'], 'from node 1')
        self.nodes[2].samba(['net', 'conf', 'setparm', 'lab', 'path', '/srv/share'])
        self.assert_same_everywhere(['net', 'conf', 'list'], '/srv/share')

    def test_account_policy_replicates(self):
        policy = 'min password length'
        self.nodes[0].samba(['pdbedit', '-P', policy, '-C', '7'])
        self.assert_same_everywhere(['pdbedit', '-P', policy], 'is: 7')
        self.nodes[2].samba(['pdbedit', '-P', policy, '-C', '5'])
        self.assert_same_everywhere(['pdbedit', '-P', policy], 'is: 5')

    def test_the_sid_in_the_secrets_replicates(self):
        sid = 'S-1-5-21-1111111111-2222222222-3333333333'
        self.nodes[1].samba(['net', 'setlocalsid', sid])
        self.assert_same_everywhere(['net', 'getlocalsid'], sid)

    def test_two_hundred_users_added_from_three_nodes_in_parallel(self):
        users = self.fresh_users('many', 200)
        work = [(node, users[node.number::len(self.nodes)]) for node in self.nodes]
        loop = 'for u in %s; do printf "%s\\n%s\\n" | pdbedit -a -t -u $u >/dev/null || echo "$u failed"; done'
        running = [node.popen(loop % (' '.join(part), PASSWORD, PASSWORD), samba=True) for node, part in work]
        said = [process.communicate() for process in running]
        # Samba may remark on stderr that a hot record took several attempts; that is no error
        self.assertEqual([out for out, _ in said], [''] * len(self.nodes), 'no error anywhere: %s' % (said,))
        for node in self.nodes:
            listed = self.accounts(node)
            self.assertEqual([user for user in users if user not in listed], [], 'missing on node %d' % node.number)
        rids = self.nodes[0].samba(['pdbedit', '-L', '-v']).stdout
        sids = [line.split()[-1] for line in rids.splitlines() if line.startswith('User SID:')]
        self.assertEqual(len(sids), len(set(sids)), 'no two users got the same SID')
        self.assert_identical_databases()


if __name__ == '__main__':
    main()
