#!/usr/bin/python3 -B
"""`tdbmesh samba check` on nodes that are set up well and on those that are not: each fault gives one finding that names it
and says what to do, and nothing else is called wrong."""
import ctypes.util
import json
import os
import re
import shutil
import signal
import subprocess
import unittest

from lab import BIN, ROOT, Scenario, asked_for_peer, main, wait_for
from samba_lab import CLIENT, smbclient, start_services, stop_services

# A file system that looks like that of a cluster to whoever asks the kernel: GlusterFS's client on a local folder
VOLUME = 'volume posix\n type storage/posix\n option directory /var/lib/bricks\nend-volume\n'


@unittest.skipIf(asked_for_peer(), 'tdbmesh only')
class Check(Scenario):
    node_count = 2

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab.in_switch('ip', 'addr', 'add', CLIENT + '/24', 'dev', 'lan')
        os.chmod(os.path.join(cls.lab.work, 'shared', 'share'), 0o777)

    def setUp(self):
        super().setUp()
        self.node = self.nodes[0]
        self.conf = self.node.read('/etc/samba/smb.conf')
        self.addCleanup(lambda: self.node.write('/etc/samba/smb.conf', self.conf))

    def check(self, samba=True, **options):
        """All findings that are not good, as [(level, subject, text + remedy)]; the other ways to say it agree."""
        said = self.node.run(['tdbmesh', '--json', 'samba', 'check'], check=False, samba=samba, **options)
        found = json.loads(said.stdout)
        wrong = [(f['level'], f['subject'], f['text'] + ' // ' + f['remedy']) for f in found['findings'] if f['level'] != 'ok']
        self.assertEqual(said.returncode, 1 if found['errors'] else 0, said.stdout)
        text = self.node.run(['tdbmesh', 'samba', 'check'], check=False, samba=samba, **options).stdout
        for _, _, what in wrong:
            for part in what.split(' // '):
                self.assertIn(part, text)
        return wrong

    def assert_one(self, level, subject, *words, but=('no smbd is running',), **options):
        """There is one finding, besides those known ones in `but`, and it says all of `words`."""
        wrong = [f for f in self.check(**options) if not any(known in f[2] for known in but)]
        self.assertEqual([f[:2] for f in wrong], [(level, subject)], wrong)
        for word in words:
            self.assertIn(word, wrong[0][2])

    def with_conf(self, old, new):
        self.assertIn(old, self.conf)
        self.node.write('/etc/samba/smb.conf', self.conf.replace(old, new))

    def test_nothing_is_wrong_where_all_is_right(self):
        self.assertEqual([f[:2] for f in self.check()], [('warning', 'processes')], 'no smbd yet')
        start_services(self.lab, self.nodes)
        self.addCleanup(stop_services, self.nodes)
        for self.node in self.nodes:
            self.assertEqual(self.check(), [])

    def test_the_configuration_of_the_readme(self):
        with open(os.path.join(ROOT, 'README.md')) as readme:
            conf = re.search(r'<!-- smb.conf:.*-->\n```ini\n(.*?)```', readme.read(), re.S).group(1)
        for node in self.nodes:
            theirs = node.read('/etc/samba/smb.conf')
            node.write('/etc/samba/smb.conf', conf)
            self.addCleanup(node.write, '/etc/samba/smb.conf', theirs)
        self.node.tool('wipedb', 'secrets.tdb', check=False)     # other tests have left the SID of another name
        self.addCleanup(stop_services, self.nodes)
        start_services(self.lab, self.nodes)
        self.node.samba(['net', 'conf', 'addshare', 'data', '/srv/share', 'writeable=y', 'guest_ok=n'])
        user, = self.fresh_users('reader', 1)
        self.add_account(self.node, user)
        for self.node in self.nodes:
            self.assertEqual(self.check(), [])
            self.assertIn('.', smbclient(self.lab, self.node, 'data', user, 'ls').stdout)
        # the other form: all but three lines in the registry
        self.node.write('/srv/whole.conf', conf)
        self.node.samba(['net', 'conf', 'import', '/srv/whole.conf'])
        stop_services(self.nodes)
        for node in self.nodes:
            node.write('/etc/samba/smb.conf', ''.join(conf.splitlines(True)[:3]) + '    include = registry\n')
        self.node.samba(['net', 'conf', 'addshare', 'data', '/srv/share', 'writeable=y', 'guest_ok=n'])
        start_services(self.lab, self.nodes)
        for self.node in self.nodes:
            self.assertEqual(self.check(), [])
            self.assertIn('.', smbclient(self.lab, self.node, 'data', user, 'ls').stdout)

    def test_a_process_without_the_shim(self):
        shutil.copy('/bin/sleep', os.path.join(self.lab.work, 'shared', 'rpcd_stray'))
        stray = self.node.popen(['/srv/rpcd_stray', '600'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(stray.wait)
        pid, = wait_for(lambda: self.node.pids('rpcd_stray'), 'the stray process')
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.assert_one('error', 'shim', 'rpcd_stray', 'LD_PRELOAD=libtdbmesh-tdb.so', 'drop-ins')

    @unittest.skipIf(ctypes.util.find_library('tdbmesh-tdb'), 'tdbmesh is installed on this machine')
    def test_a_shim_that_is_not_installed(self):
        self.assert_one('error', 'shim', 'does not find libtdbmesh-tdb.so', 'cmake --install', samba=False)

    def test_clustering_off(self):
        self.with_conf('clustering = yes', 'clustering = no')
        self.assert_one('error', 'smb.conf', 'clustering is off', 'set `clustering = yes`')

    def test_a_configuration_that_is_the_registry_alone(self):
        self.node.write('/etc/samba/smb.conf', '[global]\n\tclustering = yes\n\tconfig backend = registry\n')
        # Samba has lost all settings by then, so others are missed too
        wrong = self.check()
        self.assertIn('include = registry', [f[2] for f in wrong if 'config backend' in f[2]][0])

    def test_a_socket_that_is_not_there_and_one_of_another_daemon(self):
        self.with_conf('/run/tdbmesh/ctdbd.socket', '/run/nowhere/ctdbd.socket')
        self.assert_one('error', 'smb.conf', 'no socket at /run/nowhere/ctdbd.socket', 'ctdbd socket = /run/tdbmesh/ctdbd.socket')
        self.node.python('import socket; socket.socket(socket.AF_UNIX).bind("/run/other.socket")')
        self.with_conf('/run/tdbmesh/ctdbd.socket', '/run/other.socket')
        self.assert_one('error', 'smb.conf', 'is /run/other.socket, but tdbmeshd listens at /run/tdbmesh/ctdbd.socket')

    def test_accounts_and_ids_that_each_node_has_for_itself(self):
        self.with_conf('passdb backend = tdbsam', 'passdb backend = smbpasswd')
        self.assert_one('error', 'passdb', 'smbpasswd', 'set `passdb backend = tdbsam`')
        self.with_conf('backend = tdb2', 'backend = tdb')
        self.assert_one('error', 'idmap', 'hands out ids on each node', 'tdb2')
        self.with_conf('\tidmap config * : range = 1000000-1999999\n', '')
        self.assert_one('error', 'idmap', 'no range', 'range = 1000000-1999999')

    def test_names_that_differ_from_node_to_node(self):
        self.with_conf('\tnetbios name = LAB\n', '')
        self.assert_one('warning', 'name', 'NODE0', 'one `netbios name` for the whole cluster')
        self.node.write('/etc/samba/smb.conf', self.conf)
        self.nodes[0].samba(['net', 'getlocalsid'])
        other = self.nodes[1]
        theirs = other.read('/etc/samba/smb.conf')
        other.write('/etc/samba/smb.conf', theirs.replace('netbios name = LAB', 'netbios name = BAL'))
        self.addCleanup(other.write, '/etc/samba/smb.conf', theirs)
        other.samba(['net', 'getlocalsid'])
        self.assert_one('error', 'name', 'SIDs of other servers too (BAL)', 'SECRETS/SID/NAME')
        # what it says to do helps
        self.node.tool('pdelete', 'secrets.tdb', 'SECRETS/SID/BAL')
        self.assertEqual([f[1] for f in self.check()], ['processes'])

    @unittest.skipIf(not shutil.which('glusterfs'), 'needs glusterfs to have a file system of a cluster')
    def test_a_private_folder_on_the_shared_file_system(self):
        self.node.write('/var/lib/posix.vol', VOLUME)
        mounted = self.node.run('mkdir -p /var/lib/bricks /shared-fs && glusterfs -f /var/lib/posix.vol -l /var/log/posix.log '
                                '/shared-fs && mkdir -p /shared-fs/private && stat -f -c %t /shared-fs/private')
        self.addCleanup(self.node.run, 'umount /shared-fs')
        self.assertEqual(mounted.stdout.strip(), '65735546')
        self.with_conf('[global]', '[global]\n\tprivate dir = /shared-fs/private')
        self.assert_one('error', 'smb.conf', 'private dir = /shared-fs/private is on a shared file system', 'on a disk of the node')

    def test_a_version_that_nobody_tried(self):
        self.node.write('/run/newer/smbd', '#!/bin/sh\necho Version 4.99.1\n', 0o755)
        path = '/run/newer:%s:/usr/sbin:/usr/bin:/sbin:/bin' % BIN
        self.assert_one('warning', 'version', 'Samba 4.99.1', 'test cluster', env={'PATH': path})

    def test_a_misspelt_parameter_and_no_configuration_at_all(self):
        self.with_conf('[global]', '[global]\n\tclusterign = yes')
        self.assert_one('warning', 'smb.conf', 'clusterign', 'testparm')
        os.unlink(self.node.path('/etc/samba/smb.conf'))
        self.assert_one('error', 'smb.conf', 'cannot be read', 'testparm')

    def test_a_daemon_that_does_not_run(self):
        self.node.kill_daemon()
        self.assert_one('error', 'daemon', 'does not answer', 'systemctl start tdbmesh', but=('no smbd is running', 'no socket'))


if __name__ == '__main__':
    main()
