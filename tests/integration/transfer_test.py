#!/usr/bin/python3 -B
"""Databases in CTDB's own files: what dbtool exports, Debian's tdbdump and `ctdb restoredb` read, and what `ctdb backupdb`
and dbtool wrote, dbtool imports on all nodes."""
import unittest

from lab import Scenario, asked_for_peer, main


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

    def test_ctdb_restores_a_volatile_database(self):
        first = self.nodes[0]
        first.tool('attach', 'restored.tdb')
        first.samba(['ctdb', 'writekey', 'restored.tdb', 'key', 'value'])
        first.samba(['ctdb', 'backupdb', 'restored.tdb', '/srv/volatile.backup'])
        first.tool('wipedb', 'restored.tdb')
        first.samba(['ctdb', 'restoredb', '/srv/volatile.backup', 'restored.tdb'])
        for node in self.nodes:
            self.assertIn('value', node.samba(['ctdb', 'readkey', 'restored.tdb', 'key']).stdout)


if __name__ == '__main__':
    main()
