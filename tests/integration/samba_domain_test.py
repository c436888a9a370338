#!/usr/bin/python3 -B
"""A cluster that is a member of an Active Directory domain (a Samba controller on a host of its own): joined once, from one
node; one machine account, whose password is changed from any node; domain users with the same ids on all nodes."""
import os
import unittest

from domain_lab import ADMINISTRATOR, DOMAIN, REALM, SERVER_NAME, DomainLab, missing_packages
from lab import PASSWORD, asked_for_peer, main
from samba_lab import SHARE, SambaScenario, start_services, stop_services

NEW_PASSWORD = 'Secret-of-another-day-2'


@unittest.skipIf(missing_packages(), 'needs packages: %s' % ' '.join(missing_packages()))
class Domain(SambaScenario):
    @classmethod
    def make_lab(cls):
        return DomainLab(cls.node_count, cls.make_flavour())

    @classmethod
    def configure_samba(cls):
        cls.lab.nodes[0].samba(['net', 'ads', 'join', '-U', '%s%%%s' % (ADMINISTRATOR, PASSWORD)])

    def domain_users(self, prefix, count):
        users = self.fresh_names(prefix, count)
        self.lab.controller.add_users(users)
        return users

    def assert_members(self, nodes=None):
        """Each node proves who it is to the controller: with the password in the secrets, and as winbindd does."""
        for node in nodes or self.nodes:
            self.assertIn('Join is OK', node.samba(['net', 'ads', 'testjoin']).stdout)
            self.assertIn('succeeded', node.samba(['wbinfo', '-t']).stdout)
            self.assertIn('succeeded', node.samba(['wbinfo', '--ping-dc']).stdout)

    def assert_lets_in(self, node, user, password=PASSWORD):
        """By NTLM, where smbd asks the controller through winbindd, and by Kerberos, where it needs the machine's password."""
        self.smbclient(node.number, 'ls', user='%s\\%s' % (DOMAIN, user), password=password)
        self.lab.controller.run(
            ['smbclient', '-s', '/dev/null', '--realm=' + REALM, '--use-kerberos=required', '-U', '%s@%s%%%s' % (user, REALM, password),
             '-I', node.address, '-c', 'ls', '//%s/%s' % (SERVER_NAME, SHARE)])

    def machine_password(self):
        """A digest of the secrets that hold it, the same on all nodes."""
        digests = {self.lab.digest(node, 'secrets.tdb') for node in self.nodes}
        self.assertEqual(len(digests), 1, digests)
        return digests.pop()

    def samba_check(self, node):
        return node.samba(['tdbmesh', 'samba', 'check'], check=False)

    def unix_ids(self, user):
        """{(uid, gid)} that the nodes have for the user: one, if all is well."""
        return {tuple(node.samba(['wbinfo', '-i', '%s\\%s' % (DOMAIN, user)]).stdout.split(':')[2:4]) for node in self.nodes}

    def test_all_nodes_are_members_after_one_join(self):
        self.assert_members()
        for node in self.nodes:
            self.assertIn(DOMAIN, node.samba(['wbinfo', '--own-domain']).stdout)
            self.assertIn('Join to \'%s\' is OK' % DOMAIN, node.samba(['net', 'rpc', 'testjoin']).stdout)
        sids = {node.samba(['net', 'getdomainsid']).stdout for node in self.nodes}
        self.assertEqual(len(sids), 1, sids)
        if not asked_for_peer():
            for node in self.nodes:
                said = self.samba_check(node)
                self.assertEqual(said.returncode, 0, said.stdout)
                self.assertIn('the cluster is a member of ' + DOMAIN, said.stdout)

    def test_a_domain_user_is_let_in_by_every_node_and_owns_what_it_makes(self):
        user, = self.domain_users('ann', 1)
        full = '%s\\%s' % (DOMAIN, user)
        (uid, _), = self.unix_ids(user)
        for node in self.nodes:
            self.assert_lets_in(node, user)
            self.smbclient(node.number, 'mkdir made-by-%s-%d' % (user, node.number), user=full)
            path = os.path.join(self.lab.work, 'shared', 'share', 'made-by-%s-%d' % (user, node.number))
            self.assertEqual(str(os.stat(path).st_uid), uid)
            self.assertEqual(node.run(['stat', '-c', '%U', '/srv/share/' + os.path.basename(path)]).stdout.strip(), full)
            refused = self.smbclient(node.number, 'ls', user=full, password='wrong', check=False)
            self.assertIn('NT_STATUS_LOGON_FAILURE', refused.stdout + refused.stderr)
        self.lab.controller.tool('user', 'setpassword', user, '--newpassword', NEW_PASSWORD)
        for node in self.nodes:
            self.assert_lets_in(node, user, NEW_PASSWORD)

    def test_domain_users_asked_for_on_all_nodes_at_once_while_one_dies_have_one_uid_each(self):
        users = self.domain_users('many', 30)
        ask = 'for u in %s; do wbinfo -i "' + DOMAIN + '\\\\$u" || echo failed; done'
        asked = [node.popen(ask % ' '.join(users[node.number * 10:] + users[:node.number * 10]), samba=True) for node in self.nodes]
        first = asked[1].stdout.readline()      # all are at work by now
        self.nodes[2].kill_daemon()
        said = [process.stdout.read() for process in asked]
        said[1] = first + said[1]
        for process in asked:
            process.communicate()
        self.lab.make_whole()
        start_services(self.lab, self.nodes)
        ids = [self.unix_ids(user) for user in users]
        self.assertEqual({len(seen) for seen in ids}, {1}, 'the same on all nodes: %s' % ids)
        self.assertEqual(len({uid for (uid, _), in ids}), len(users), 'one for each user: %s' % ids)
        self.assertEqual(len({gid for (_, gid), in ids}), 1, 'all are domain users: %s' % ids)
        for told in said[:2]:
            self.assertEqual((told.count(':/bin/sh'), 'failed' in told), (len(users), False), 'the survivors were told: ' + told)

    def test_the_machine_password_changed_on_one_node_is_that_of_all(self):
        user, = self.domain_users('pat', 1)
        before = self.machine_password()
        for changer, command in ((self.nodes[1], ['net', 'ads', 'changetrustpw']), (self.nodes[2], ['wbinfo', '--change-secret'])):
            changer.samba(command)
            after = self.machine_password()
            self.assertNotEqual(after, before, 'changed by node %d' % changer.number)
            before = after
            self.assert_members()
            for node in self.nodes:
                self.assert_lets_in(node, user)

    def test_a_machine_password_changed_while_a_node_is_dead_is_that_of_the_node_when_it_is_back(self):
        user, = self.domain_users('kim', 1)
        dead, alive = self.nodes[0], self.nodes[1:]     # the one that joined
        dead.lose_power()
        self.lab.wait_all_ok(alive)
        start_services(self.lab, alive)
        self.assert_members(alive)
        alive[0].samba(['net', 'ads', 'changetrustpw'])
        self.assert_members(alive)
        for node in alive:
            self.assert_lets_in(node, user)
        self.lab.make_whole()
        start_services(self.lab, [dead])
        self.assert_members()
        self.assert_lets_in(dead, user)
        self.assertEqual(len(self.unix_ids(user)), 1)

    def test_the_cluster_leaves_and_joins_again_from_other_nodes(self):
        user, = self.domain_users('lee', 1)
        before = self.unix_ids(user)
        administrator = ['-U', '%s%%%s' % (ADMINISTRATOR, PASSWORD)]
        self.nodes[1].samba(['net', 'ads', 'leave'] + administrator)
        for node in self.nodes:
            self.assertNotEqual(node.samba(['net', 'ads', 'testjoin'], check=False).returncode, 0)
            if not asked_for_peer():
                self.assertIn('the cluster is not a member of ' + DOMAIN, self.samba_check(node).stdout)
        self.nodes[2].samba(['net', 'ads', 'join'] + administrator)
        stop_services(self.nodes)       # winbindd keeps what it knows of its domain until it is started again
        start_services(self.lab, self.nodes)
        self.assert_members()
        for node in self.nodes:
            self.assert_lets_in(node, user)
        self.assertEqual(self.unix_ids(user), before)


if __name__ == '__main__':
    main()
