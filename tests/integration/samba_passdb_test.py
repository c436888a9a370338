#!/usr/bin/python3 -B
"""What the account tools change on one node binds the logins and the tools of all: local groups, rights, policies,
account flags."""
from lab import PASSWORD, main
from samba_lab import SambaScenario


class Passdb(SambaScenario):
    def user(self, prefix):
        user, = self.fresh_users(prefix, 1)
        self.add_account(self.nodes[0], user)
        return user

    def refused(self, number, user, why, password=PASSWORD):
        said = self.smbclient(number, 'ls', user=user, password=password, check=False)
        self.assertIn(why, said.stdout + said.stderr)

    def test_local_groups_and_their_members(self):
        user, (first, second, third) = self.user('mem'), self.nodes
        group = 'Team of ' + user
        first.samba(['net', 'sam', 'createlocalgroup', group])
        second.samba(['net', 'sam', 'addmem', group, user])
        self.everywhere(['net', 'sam', 'listmem', group], 'has 1 members')
        self.everywhere(['net', 'sam', 'list', 'localgroups'], group)
        self.everywhere(['net', 'sam', 'show', group], 'is a Local Group')
        third.samba(['net', 'sam', 'delmem', group, user])
        self.everywhere(['net', 'sam', 'listmem', group], 'has 0 members')

    def test_details_of_an_account(self):
        user = self.user('det')
        self.nodes[0].samba(['pdbedit', '-r', '-u', user, '-f', 'Full Name', '-N', 'a description', '-h', r'\\lab\home', '-D', 'H:'])
        for text in ('Full Name', 'a description', r'\\lab\home', 'H:'):
            self.everywhere(['pdbedit', '-L', '-v', '-u', user], text)

    def test_a_disabled_account_is_disabled_on_all_nodes(self):
        user = self.user('dis')
        for number in range(3):
            self.smbclient(number, 'ls', user=user)
        self.nodes[1].samba(['smbpasswd', '-d', user])
        for number in range(3):
            self.refused(number, user, 'NT_STATUS_ACCOUNT_DISABLED')
        self.nodes[2].samba(['smbpasswd', '-e', user])
        for number in range(3):
            self.smbclient(number, 'ls', user=user)
        self.nodes[0].samba(['smbpasswd', '-x', user])
        for number in range(3):
            self.refused(number, user, 'NT_STATUS_LOGON_FAILURE')

    def test_a_policy_set_on_one_node_binds_a_password_change_over_smb_on_another(self):
        user = self.user('pol')
        self.nodes[0].samba(['net', 'sam', 'policy', 'set', 'min password length', '12'])
        self.addCleanup(lambda: self.nodes[0].samba(['net', 'sam', 'policy', 'set', 'min password length', '5']))
        self.everywhere(['net', 'sam', 'policy', 'show', 'min password length'], '12')
        change = ['smbpasswd', '-r', self.nodes[2].address, '-U', user, '-s']
        refused = self.nodes[1].samba(change, input='%s\nshort-1\nshort-1\n' % PASSWORD, check=False)
        self.assertNotEqual(refused.returncode, 0, refused.stdout + refused.stderr)
        self.smbclient(0, 'ls', user=user)
        self.nodes[1].samba(change, input='%s\nlong-enough-12\nlong-enough-12\n' % PASSWORD)
        for number in range(3):
            self.smbclient(number, 'ls', user=user, password='long-enough-12')

    def test_a_lockout_counts_bad_passwords_of_all_nodes(self):
        user = self.user('bad')
        self.nodes[0].samba(['pdbedit', '-P', 'bad lockout attempt', '-C', '3'])
        self.addCleanup(lambda: self.nodes[0].samba(['pdbedit', '-P', 'bad lockout attempt', '-C', '0']))
        for number in range(3):
            self.refused(number, user, 'NT_STATUS_', password='wrong')
        for number in range(3):
            self.refused(number, user, 'NT_STATUS_ACCOUNT_LOCKED_OUT')
        self.nodes[1].samba(['pdbedit', '-z', '-u', user, '-c', '[]'])
        self.smbclient(2, 'ls', user=user)

    def test_rights(self):
        user, right = self.user('rig'), 'SeDiskOperatorPrivilege'
        self.nodes[0].samba(['net', 'sam', 'rights', 'grant', user, right])
        self.everywhere(['net', 'sam', 'rights', 'list', right], user)
        self.nodes[2].samba(['net', 'sam', 'rights', 'revoke', user, right])
        self.nowhere(['net', 'sam', 'rights', 'list', right], user)


if __name__ == '__main__':
    main()
