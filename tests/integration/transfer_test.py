#!/usr/bin/python3 -B
"""Databases in CTDB's own files: what dbtool exports, Debian's tdbdump and `ctdb restoredb` read, and what `ctdb backupdb`
and dbtool wrote, dbtool imports on all nodes."""
import os
import shutil
import tempfile
import unittest

from lab import PASSWORD, Lab, RealCtdb, Scenario, TdbmeshDropIn, asked_for_peer, main
from samba_lab import CLIENT, smbclient, start_services, stop_services


@unittest.skipIf(asked_for_peer(), 'dbtool speaks to tdbmesh only')
class Transfer(Scenario):
    def saved_and_lost(self, how):
        """Accounts that were saved by `how` and deleted afterwards."""
        users = self.fresh_users('saved', 2)
        for user in users:
            self.add_account(self.nodes[0], user)
        saved = self.accounts(self.nodes[0])
        how()
        for user in users:
            self.nodes[1].samba(['pdbedit', '-x', '-u', user])
        return {user: saved[user] for user in users}

    def assert_back(self, users):
        for node in self.nodes:
            self.assertEqual({name: value for name, value in self.accounts(node).items() if name in users}, users)
        self.assert_identical_databases()

    def test_a_tdb_is_read_by_tdbdump_and_imported(self):
        first = self.nodes[0]
        users = self.saved_and_lost(lambda: first.run(['dbtool', 'export', 'passdb.tdb', '/srv/passdb.tdb.0']))
        dump = first.out(['tdbdump', '/srv/passdb.tdb.0'])
        for user in users:
            self.assertIn('USER_%s' % user, dump)
        refused = self.nodes[2].run(['dbtool', 'import', '/srv/passdb.tdb.0'], check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn('--replace', refused.stderr)
        self.nodes[2].run(['dbtool', 'import', '--replace', '/srv/passdb.tdb.0'])
        self.assert_back(users)

    def test_a_backup_of_ours_is_restored_by_ctdb_restoredb(self):
        users = self.saved_and_lost(lambda: self.nodes[0].run(['dbtool', 'export', 'passdb.tdb', '/srv/ours.backup']))
        self.nodes[1].samba(['ctdb', 'restoredb', '/srv/ours.backup', 'passdb.tdb'])
        self.assert_back(users)

    def test_a_file_of_ctdb_backupdb_is_imported(self):
        users = self.saved_and_lost(lambda: self.nodes[0].samba(['ctdb', 'backupdb', 'passdb.tdb', '/srv/theirs.backup']))
        self.nodes[2].run(['dbtool', 'import', '--replace', '/srv/theirs.backup'])
        self.assert_back(users)

    def test_our_verbs_back_up_and_restore_a_persistent_database(self):
        users = self.saved_and_lost(lambda: self.nodes[0].tool('backupdb', 'passdb.tdb', '/srv/verb.backup'))
        dumped = self.nodes[2].tool('dumpdbbackup', '/srv/verb.backup').stdout
        for user in users:
            self.assertIn('USER_%s' % user, dumped)
        said = self.nodes[1].tool('restoredb', '/srv/verb.backup').stdout
        self.assertRegex(said, r'^Restoring database passdb.tdb from backup @ .*\nDatabase passdb.tdb restored\n$')
        self.assert_back(users)

    def test_our_verbs_and_those_of_ctdb_read_each_others_files(self):
        users = self.saved_and_lost(lambda: self.nodes[0].samba(['ctdb', 'backupdb', 'passdb.tdb', '/srv/theirs-2.backup']))
        self.nodes[2].tool('restoredb', '/srv/theirs-2.backup')
        self.assert_back(users)
        users = self.saved_and_lost(lambda: self.nodes[1].tool('backupdb', 'passdb.tdb', '/srv/ours-2.backup'))
        self.nodes[2].samba(['ctdb', 'restoredb', '/srv/ours-2.backup'])
        self.assert_back(users)

    def test_our_verbs_back_up_and_restore_a_volatile_database_from_all_nodes(self):
        first = self.nodes[0]
        first.tool('attach', 'spread.tdb')
        for node in self.nodes:
            for number in range(5):
                node.tool('writekey', 'spread.tdb', 'key%d-%d' % (node.number, number), 'value%d' % node.number)
        first.tool('backupdb', 'spread.tdb', '/srv/spread.backup')
        self.nodes[1].samba(['ctdb', 'wipedb', 'spread.tdb'])
        self.assertIn('Dumped 0 records', first.tool('catdb', 'spread.tdb').stdout)
        first.tool('writekey', 'spread.tdb', 'key0-0', 'changed since')
        self.nodes[2].tool('restoredb', '/srv/spread.backup')
        for node in self.nodes:
            self.assertIn('Dumped 15 records', node.tool('catdb', 'spread.tdb').stdout)
            for of in range(3):
                self.assertIn('value%d' % of, node.tool('readkey', 'spread.tdb', 'key%d-0' % of).stdout)

    def test_what_is_no_backup_is_refused_and_changes_nothing(self):
        user, = self.fresh_users('kept', 1)
        self.add_account(self.nodes[0], user)
        self.nodes[0].tool('backupdb', 'passdb.tdb', '/srv/whole.backup')
        self.nodes[0].run(['sh', '-c', 'head -c 300 /srv/whole.backup >/srv/cut.backup'])
        for path in ('/srv/cut.backup', '/etc/passwd', '/nowhere'):
            refused = self.nodes[1].tool('restoredb', path, 'passdb.tdb', check=False)
            self.assertNotEqual(refused.returncode, 0, path)
            self.assertIn(path, refused.stderr)
        self.assertIn(user, self.accounts(self.nodes[2]))
        self.assert_identical_databases()

    def test_ctdb_restores_a_volatile_database(self):
        first = self.nodes[0]
        first.tool('attach', 'restored.tdb')
        first.samba(['ctdb', 'writekey', 'restored.tdb', 'key', 'value'])
        first.samba(['ctdb', 'backupdb', 'restored.tdb', '/srv/volatile.backup'])
        first.tool('wipedb', 'restored.tdb')
        first.samba(['ctdb', 'restoredb', '/srv/volatile.backup', 'restored.tdb'])
        for node in self.nodes:
            self.assertIn('value', node.samba(['ctdb', 'readkey', 'restored.tdb', 'key']).stdout)


@unittest.skipIf(asked_for_peer() or not os.path.exists('/usr/sbin/ctdbd'), "needs Debian's ctdbd beside tdbmesh")
class FromRealCtdb(Scenario):
    """The databases of a cluster of real ctdbd daemons that has been stopped, as an administrator would bring them over: to
    tdbmesh in the same folders."""

    @classmethod
    def make_flavour(cls):
        return TdbmeshDropIn()

    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.mkdtemp(prefix='tdbmesh-theirs.')
        cls.addClassCleanup(shutil.rmtree, cls.files)
        cls.theirs = {}
        with Lab(2, RealCtdb()) as old:
            old.start()
            old.wait_all_ok()
            users = ['moved%d' % number for number in range(8)]
            old.add_unix_users(users + ['gone'])
            for number, user in enumerate(users + ['gone']):
                old.nodes[number % 2].samba(['pdbedit', '-a', '-t', '-u', user], input='%s\n%s\n' % (PASSWORD, PASSWORD))
            old.nodes[1].samba(['pdbedit', '-x', '-u', 'gone'])
            old.nodes[0].samba(['net', 'conf', 'addshare', 'kept', '/srv/share', 'writeable=y'])
            old.nodes[1].samba(['net', 'idmap', 'restore'], input='GID 1500001 S-1-5-21-1-2-3-1\nUSER HWM 1100000\nGROUP HWM 1600000\n')
            cls.theirs = {line.split(':')[0]: line.split(':')[3]
                          for line in old.nodes[0].samba(['pdbedit', '-L', '-w']).stdout.splitlines()}
            cls.sid = old.nodes[0].samba(['net', 'getlocalsid']).stdout
            cls.names = old.databases(old.nodes[0])
            for name in cls.names:
                old.nodes[0].run(['ctdb', 'backupdb', name, '/srv/%s.backup' % name])
                shutil.copy(os.path.join(old.work, 'shared', name + '.backup'), cls.files)
            for node in old.nodes:
                node.stop()
            for name in cls.names:
                shutil.copy(old.nodes[0].path('/var/lib/ctdb/persistent/%s.0' % name), cls.files)
        super().setUpClass()
        cls.users = users
        bring_clients(cls.lab)
        cls.lab.add_unix_users(users)
        cls.lab.wait_all_ok()
        for name in sorted(os.listdir(cls.files)):
            shutil.copy(os.path.join(cls.files, name), os.path.join(cls.lab.work, 'shared'))

    def assert_all_is_there(self, lab):
        """What the old cluster had, on every node, and its accounts can log in."""
        for node in lab.nodes:
            self.assertEqual(self.accounts(node), self.theirs)
            self.assertNotIn('gone', self.accounts(node))
            self.assertEqual(node.samba(['net', 'getlocalsid']).stdout, self.sid)
            self.assertIn('[kept]', node.samba(['net', 'conf', 'list']).stdout)
            self.assertIn('GID 1500001 S-1-5-21-1-2-3-1', node.samba(['net', 'idmap', 'dump']).stdout)
        start_services(lab, lab.nodes)
        for number, user in enumerate(self.users):
            node = lab.nodes[number % len(lab.nodes)]
            said = smbclient(lab, node, 'kept', user, 'put /etc/hostname of-%s; ls; del of-%s' % (user, user))
            self.assertIn('of-' + user, said.stdout)
        stop_services(lab.nodes)

    def empty(self):
        for name in set(self.lab.databases(self.nodes[0])) & set(self.names):
            self.nodes[0].tool('wipedb', name)

    def test_the_files_of_a_stopped_ctdbd_are_imported_and_their_accounts_log_in(self):
        for name in ('passdb.tdb', 'secrets.tdb', 'registry.tdb', 'idmap2.tdb'):
            self.assertIn(name, self.names)
        self.empty()
        # as the README says, and where it says they are
        here = self.nodes[1].path('/var/lib/ctdb/persistent.ctdb')
        os.mkdir(here)
        for name in self.names:
            shutil.copy(os.path.join(self.files, name + '.0'), here)
        self.nodes[1].run('set -e; for file in /var/lib/ctdb/persistent.ctdb/*.tdb.0; do dbtool import $file; done')
        self.assert_all_is_there(self.lab)
        self.assert_identical_databases()

    def test_backups_of_a_ctdbd_are_imported_and_their_accounts_log_in(self):
        self.empty()
        for name in self.names:
            self.nodes[2].run(['dbtool', 'import', '/srv/%s.backup' % name])
        self.assert_all_is_there(self.lab)
        # the account tools that come after count on
        self.nodes[0].samba(['pdbedit', '-x', '-u', 'moved3'])
        self.nodes[2].tool('restoredb', '/srv/passdb.tdb.backup')
        self.assertEqual(self.accounts(self.nodes[1]), self.theirs)

    def test_what_dbtool_exports_a_real_ctdbd_starts_from(self):
        for name in self.names:
            self.nodes[1].run(['dbtool', 'import', '--replace', '/srv/%s.0' % name])
            self.nodes[1].run(['dbtool', 'export', name, '/srv/back-%s.0' % name])
            self.assertIn('Database integrity is OK', self.nodes[1].run(['sh', '-c', 'echo check | tdbtool /srv/back-%s.0' % name]).stdout)
        self.nodes[1].run(['dbtool', 'export', 'passdb.tdb', '/srv/back.backup'])
        shared = os.path.join(self.lab.work, 'shared')
        with Lab(2, RealCtdb()) as back:
            back.add_unix_users(self.users)
            bring_clients(back)
            for node in back.nodes:
                for name in self.names:
                    shutil.copy(os.path.join(shared, 'back-%s.0' % name),
                                node.path('/var/lib/ctdb/persistent/%s.%d' % (name, node.number)))
            back.start()
            back.wait_all_ok()
            self.assert_all_is_there(back)
            back.nodes[0].samba(['pdbedit', '-x', '-u', 'moved3'])
            shutil.copy(os.path.join(shared, 'back.backup'), os.path.join(back.work, 'shared'))
            back.nodes[1].run(['ctdb', 'restoredb', '/srv/back.backup'])
            self.assertEqual(self.accounts(back.nodes[0]), self.theirs)


def bring_clients(lab):
    lab.in_switch('ip', 'addr', 'add', CLIENT + '/24', 'dev', 'lan')
    os.chmod(os.path.join(lab.work, 'shared', 'share'), 0o777)


if __name__ == '__main__':
    main()
