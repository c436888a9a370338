#!/usr/bin/python3 -B
"""Debian's smbd, nmbd and winbindd on three nodes: they start, serve, reload and stop, and the administrator's tools see
the whole cluster from any node."""
import os
import re
import signal
import subprocess

from lab import PASSWORD, main, wait_for
from samba_lab import SERVICES, SHARE, USER, SambaScenario, samba_processes, start_services, stop_services
from smb2_client import READ, SHARE_READ, WRITE


class Services(SambaScenario):
    def test_a_file_written_through_one_node_is_read_through_the_others(self):
        for number in range(3):
            file = self.connect(number).create('written-%d' % number, access=READ | WRITE)
            self.sessions[-1].write(file, b'by node %d' % number)
            self.sessions[-1].close(file)
        for number in range(3):
            listed = self.smbclient(number, 'ls').stdout
            for other in range(3):
                self.assertIn('written-%d' % other, listed)
                file = self.connect(number).create('written-%d' % other)
                self.assertEqual(self.sessions[-1].read(file, 100), b'by node %d' % other)

    def test_smbstatus_on_any_node_shows_sessions_shares_files_and_locks_of_all(self):
        for number in range(3):
            smb = self.connect(number)
            file = smb.create('shown-%d' % number, access=READ | WRITE, share=SHARE_READ)
            smb.lock(file, 100 + number, 7)
        for node in self.nodes:
            sessions = node.samba(['smbstatus', '-p']).stdout
            self.assertEqual(set(re.findall(r'^(\d):\d+\s+%s\s' % USER, sessions, re.M)), {'0', '1', '2'}, sessions)
            shares = node.samba(['smbstatus', '-S']).stdout
            self.assertEqual(set(re.findall(r'^%s\s+(\d):\d+\s' % SHARE, shares, re.M)), {'0', '1', '2'}, shares)
            files = node.samba(['smbstatus', '-L']).stdout
            self.assertEqual(set(re.findall(r'^(\d):\d+\s.*shown-\1\s', files, re.M)), {'0', '1', '2'}, files)
            locks = node.samba(['smbstatus', '-B']).stdout
            self.assertEqual(set(re.findall(r'^\s*(\d):\d+\s.*\sW\s+10\1\s+7\s', locks, re.M)), {'0', '1', '2'}, locks)

    def test_smbcontrol_reaches_the_processes_of_all_nodes(self):
        for node in self.nodes:
            said = node.samba(['smbcontrol', 'all', 'ping']).stdout
            self.assertEqual({int(pnn) for pnn in re.findall(r'^PONG from pid (\d):\d+$', said, re.M)}, {0, 1, 2}, said)
        # to one process of another node, by its cluster-wide name
        inside = re.search(r'^(\d+)', self.nodes[2].read('/run/samba/smbd.pid')).group(1)
        said = self.nodes[0].samba(['smbcontrol', '2:' + inside, 'ping']).stdout
        self.assertIn('PONG from pid 2:' + inside, said)

    def test_close_share_ends_the_connections_on_its_node(self):
        smb = self.connect(1)
        smb.create('to-be-closed', access=READ | WRITE)
        self.nodes[1].samba(['smbcontrol', 'smbd', 'close-share', SHARE])
        wait_for(lambda: not re.search(r'^%s\s' % SHARE, self.nodes[0].samba(['smbstatus', '-S']).stdout, re.M),
                 'the share to be closed')

    def test_registry_shares_changed_on_one_node_are_served_by_all(self):
        os.makedirs(os.path.join(self.lab.work, 'shared', 'share', 'below'), exist_ok=True)
        self.nodes[2].samba(['net', 'conf', 'addshare', 'second', '/srv/share/below', 'writeable=y', 'guest_ok=n'])
        self.addCleanup(lambda: self.nodes[0].samba(['net', 'conf', 'delshare', 'second']))
        for node in self.nodes:
            self.assertIn('[second]', node.samba(['net', 'conf', 'list']).stdout)
            smb = self.connect(node.number)
            smb.tree('\\\\%s\\second' % node.address)

    def test_a_reload_keeps_the_sessions(self):
        for node in self.nodes:
            smb = self.connect(node.number)
            file = smb.create('reloaded', access=READ | WRITE)
            for service in SERVICES:
                os.kill(self.main_pid(node.number, service), signal.SIGHUP)
            node.samba(['smbcontrol', 'all', 'reload-config'])
            smb.write(file, b'still here')
            self.assertEqual(smb.read(file, 100), b'still here')
            for service in SERVICES:
                self.assertTrue(node.pids(service), service)

    def test_stopped_services_leave_nothing_behind_and_start_again(self):
        for node in self.nodes:
            smb = self.connect(node.number)
            file = smb.create('stopped', access=READ | WRITE)
            smb.lock(file, 0, 10)
            stop_services([node])
            self.assertEqual(samba_processes(node), [])
            status = self.nodes[node.number - 1].samba(['smbstatus']).stdout
            self.assertNotRegex(status, r'(?m)^(%s\s+)?%d:\d+\s' % (SHARE, node.number))
            start_services(self.lab, [node])
            self.connect(node.number).create('started again', access=READ | WRITE)

    def test_services_that_lose_their_daemon_fail_so_that_systemd_starts_them_again(self):
        node = self.nodes[1]
        stop_services([node])
        running = {service: node.popen([service, '--foreground', '--no-process-group'], samba=True, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL) for service in SERVICES}
        start_services(self.lab, [node])
        node.kill_daemon()
        self.assertEqual({service: process.wait() for service, process in running.items()}, dict.fromkeys(SERVICES, 1))

    def test_the_tools_for_databases_work_on_all_nodes(self):
        for node in self.nodes:
            self.assertIn('ran', node.samba(['net', 'g_lock', 'do', 'test-lock', '10', 'echo ran']).stdout)
            self.assertIn('SMBCONF', node.samba(['dbwrap_tool', '--persistent', 'registry.tdb', 'listkeys']).stdout.upper())
            self.assertIn('smbconf', node.samba(['net', 'registry', 'enumerate', r'HKLM\Software\Samba']).stdout)
            self.assertIn('HWM', node.samba(['net', 'idmap', 'dump']).stdout)
            node.samba(['net', 'serverid', 'wipedbs'])
        self.nodes[0].samba(['dbwrap_tool', '--persistent', 'test_tool.tdb', 'store', 'answer', 'uint32', '42'])
        for node in self.nodes:
            said = node.samba(['dbwrap_tool', '--persistent', 'test_tool.tdb', 'fetch', 'answer', 'uint32']).stdout
            self.assertIn('42', said)

    def test_a_password_changed_over_smb_is_the_password_on_all_nodes(self):
        user, = self.fresh_users('pat', 1)
        self.add_account(self.nodes[0], user)
        self.smbclient(0, 'ls', user=user)
        self.nodes[0].samba(['smbpasswd', '-r', self.nodes[1].address, '-U', user, '-s'],
                            input='%s\nNew-Secret-2\nNew-Secret-2\n' % PASSWORD)
        for number in range(3):
            self.smbclient(number, 'ls', user=user, password='New-Secret-2')
            refused = self.smbclient(number, 'ls', user=user, check=False)
            self.assertIn('NT_STATUS_LOGON_FAILURE', refused.stdout + refused.stderr)

    def test_a_machine_account_made_on_one_node_is_known_on_all(self):
        machine, = self.fresh_users('box', 1)
        self.lab.add_unix_users([machine + '$'])
        self.nodes[2].samba(['pdbedit', '-a', '-m', '-u', machine])
        for node in self.nodes:
            self.assertIn('[W', node.samba(['pdbedit', '-L', '-w', '-u', machine + '$']).stdout)


if __name__ == '__main__':
    main()
