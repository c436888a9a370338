#!/usr/bin/python3 -B
"""tdbmeshd in place of ctdbd: from a CTDB node's own files and paths, in the background when its socket answers,
and with a reason and a non-zero status when it cannot run."""
import os
import re
import subprocess
import unittest

from lab import BIN, ROOT, SHIM, RealCtdb, Scenario, TdbmeshDropIn, asked_for_peer, main

PEER = os.path.abspath(os.environ.get('TDBMESH_PEER') or os.path.join(ROOT, '..', 'shared', 'peer'))

# Every option of ctdb.conf(5). Most mean something here; the others must do no more than give a notice.
EVERY_OPTION = {
    'cluster': {'leader capability': 'true', 'leader timeout': '5', 'transport': 'tcp'},
    'database': {'volatile database directory': '/var/lib/ctdb/volatile', 'tdb mutexes': 'true',
                 'persistent database directory': '/var/lib/ctdb/persistent',
                 'state database directory': '/var/lib/ctdb/state', 'lock debug script': '/etc/ctdb/debug_locks.sh'},
    'event': {'debug script': 'debug-hung-script.sh'},
    'failover': {'disabled': 'false'},
    'legacy': {'start as stopped': 'false', 'start as disabled': 'false', 'realtime scheduling': 'false',
               'lmaster capability': 'true', 'script log level': 'INFO'},
}


class DropIn(Scenario):
    @classmethod
    def make_flavour(cls):
        options = dict(settings=EVERY_OPTION, tunables=('KeepaliveInterval=1', 'RecoverTimeout=25'),
                       cluster_lock='/srv/.ctdb/cluster.lock')
        return RealCtdb(**options) if asked_for_peer() else TdbmeshDropIn(**options)

    def test_a_cluster_runs_from_the_files_of_a_ctdb_cluster(self):
        user, = self.fresh_users('dropin', 1)
        self.add_account(self.nodes[0], user)
        for node in self.nodes:
            self.assertIn(user, self.accounts(node))
        self.assertIn('THIS NODE', self.nodes[1].out(['ctdb', 'status']))
        tunable = self.nodes[0].out(['ctdb', 'getvar', 'RecoverTimeout'])
        self.assertEqual(re.sub(' +', ' ', tunable), 'RecoverTimeout = 25\n', 'ctdb.tunables is read')
        self.assertTrue(self.nodes[0].read('/run/ctdb/ctdbd.pid').strip().isdigit())
        self.assertTrue(os.path.exists(self.nodes[0].path('/run/ctdb/ctdbd.socket')))

    def test_the_command_returns_when_the_socket_answers(self):
        node = self.nodes[2]
        node.stop()
        self.assertEqual(node.start().returncode, 0)
        # no waiting: it has said that it is up
        self.assertEqual(node.out(['ctdb', 'pnn']).strip(), '2')
        self.lab.wait_all_ok()

    @unittest.skipIf(asked_for_peer(), 'about our own log')
    def test_an_option_without_meaning_here_gives_one_notice(self):
        notices = re.findall(r'tdbmeshd\[(\d+)\].*lock debug script', self.nodes[0].log())
        self.assertTrue(notices)
        self.assertEqual(len(notices), len(set(notices)), 'one line a start: %s' % notices)

    def refuses_to_start(self, reason, **files):
        """Node 2's daemon does not start with these changed files, and says `reason`."""
        node = self.nodes[2]
        node.stop()
        names = {node.path('/etc/ctdb/' + name.replace('_', '.')): text for name, text in files.items()}
        for name, text in names.items():
            os.rename(name, name + '.kept')
            if text is not None:
                with open(name, 'w') as file:
                    file.write(text)
                os.chmod(name, 0o600)
        result = node.start(check=False)
        for name in names:
            os.rename(name + '.kept', name)
        self.assertNotEqual(result.returncode, 0)
        self.assertGreaterEqual(result.returncode, 0, 'it returned by itself')
        self.assertRegex(result.stdout, reason)
        self.assertFalse(node.daemon_pid(), 'nothing stays behind')
        node.start()
        self.lab.wait_all_ok()

    @unittest.skipIf(asked_for_peer(), 'ctdbd is not asked for reasons on stderr')
    def test_it_says_why_it_cannot_start(self):
        ours = ''.join(node.address + '\n' for node in self.nodes)
        for reason, files in (('nodes', {'nodes': None}),
                              ('nodes', {'nodes': ours.replace(self.nodes[2].address, '10.98.0.99')}),
                              ('nodes', {'nodes': 'not an address\n'}),
                              ('leader timeout', {'ctdb_conf': '[cluster]\nleader timeout = soon\n'}),
                              ('no such option', {'ctdb_conf': '[cluster]\nno such option = 1\n'}),
                              ('cluster.key', {'cluster_key': 'this is no key\n'}),
                              ('cluster.key', {'cluster_key': None})):
            with self.subTest(reason=reason, files=files):
                self.refuses_to_start(reason, **files)

    @unittest.skipIf(asked_for_peer(), 'about our own message')
    def test_a_second_daemon_on_the_same_folders_is_refused(self):
        node = self.nodes[0]
        pid = node.daemon_pid()
        result = node.run(self.lab.flavour.start_command(), check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertTrue(result.stderr.strip())
        self.assertEqual(node.daemon_pid(), pid)
        self.assertTrue(self.lab.all_ok())

    @unittest.skipIf(asked_for_peer(), 'the peer lab runs the real CTDB by itself')
    def test_it_runs_under_the_peer_lab_by_environment_alone(self):
        program = os.path.join(PEER, 'peer-cluster')
        if not os.path.exists(program):
            self.skipTest('no %s (TDBMESH_PEER names the folder)' % program)
        work = os.path.join(self.lab.work, 'peer')
        os.makedirs(work)
        key = os.path.join(work, 'cluster.key')
        subprocess.run([BIN + '/tdbmesh', 'keygen', key], check=True, capture_output=True)
        env = dict(os.environ, PEER_WORK=work, PEER_NAME='tdbmesh', PEER_COMM='tdbmeshd', PEER_NET='10.97',
                   PEER_DAEMON_START='%s/tdbmeshd --config-dir /etc/ctdb --state-dir /var/lib/ctdb --runtime-dir /run/ctdb' % BIN,
                   PEER_DAEMON_STOP=BIN + '/tdbmesh shutdown', PEER_TOOL=BIN + '/tdbmesh',
                   PEER_NODE_SETUP='install -m 600 "%s" /etc/ctdb/cluster.key' % key)

        def peer(*arguments):
            done = subprocess.run([program] + list(arguments), env=env, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, '%s\n%s%s' % (arguments, done.stdout, done.stderr))
            return done.stdout

        try:
            self.assertIn('all OK after', peer('up', '-n', '3'))
            with open(os.path.join(work, 'shared/etc/passwd'), 'a') as passwd:
                passwd.write('peer1:x:20001:20001::/nonexistent:/bin/false\n')
            peer('exec', '0', 'sh', '-c', 'printf "a\\na\\n" | LD_PRELOAD=%s pdbedit -a -t -u peer1' % SHIM)
            self.assertIn('peer1', peer('exec', '2', 'env', 'LD_PRELOAD=' + SHIM, 'pdbedit', '-L'))
            self.assertIn('Recovery mode:NORMAL', peer('exec', '1', BIN + '/tdbmesh', 'status'))
        finally:
            subprocess.run([program, 'down'], env=env, capture_output=True)


if __name__ == '__main__':
    main()
