#!/usr/bin/python3 -B
"""Samba's administration, verb by verb and from every node, on three nodes whose whole configuration is in the registry:
smb.conf says `clustering = yes` and `include = registry`, nothing else. (`config backend = registry` cannot be had in a
cluster, on CTDB neither: it makes Samba forget `clustering = yes` before it opens the registry.)"""
import itertools
import json
import re
import subprocess

from lab import PASSWORD, main, wait_for
from samba_lab import CLIENT, SHARE, USER, SambaScenario
from smb2_client import READ, SHARE_READ, WRITE

KEY = r'HKLM\Software\Tried'


class Admin(SambaScenario):
    @classmethod
    def configure_samba(cls):
        nodes, flavour = cls.lab.nodes, cls.lab.flavour
        nodes[0].write('/srv/whole.conf', nodes[0].read('/etc/samba/smb.conf'))
        for node in nodes:
            node.write('/etc/samba/smb.conf', '[global]\n\tclustering = yes\n%s\tinclude = registry\n' % ''.join(
                '\t%s\n' % line for line in flavour.samba_options))
        nodes[1].samba(['net', 'conf', 'import', '/srv/whole.conf'])

    def setUp(self):
        super().setUp()
        self.turns = itertools.cycle(self.nodes)

    def net(self, *command, check=True, **options):
        """`net COMMAND` on the next node: what one of them writes, another one reads."""
        return next(self.turns).samba(('net',) + command, check=check, **options).stdout

    # -- the configuration --

    def test_the_whole_configuration_comes_from_the_registry(self):
        for node in self.nodes:
            shown = node.samba(['testparm', '-s']).stdout
            for line in ('netbios name = LAB', 'idmap config * : backend = tdb2', '[%s]' % SHARE):
                self.assertIn(line, shown)
            smb = self.connect(node.number)
            smb.create('by way of %d' % node.number, access=READ | WRITE)

    def test_net_conf(self):
        self.net('conf', 'addshare', 'made', '/srv/share', 'writeable=y', 'guest_ok=n', 'a comment')
        self.assertIn('made', self.net('conf', 'listshares').split())
        self.net('conf', 'setparm', 'made', 'comment', 'another comment')
        self.assertEqual(self.net('conf', 'getparm', 'made', 'comment').strip(), 'another comment')
        self.everywhere(['net', 'conf', 'showshare', 'made'], 'comment = another comment')
        for node in self.nodes:     # served without a restart
            self.connect(node.number).tree('\\\\%s\\made' % node.address)
        self.net('conf', 'delparm', 'made', 'comment')
        self.nowhere(['net', 'conf', 'showshare', 'made'], 'comment')
        self.net('conf', 'setincludes', 'made', '/etc/samba/of-made.conf')
        self.everywhere(['net', 'conf', 'getincludes', 'made'], 'include = /etc/samba/of-made.conf')
        self.net('conf', 'delincludes', 'made')
        self.nowhere(['net', 'conf', 'getincludes', 'made'], 'of-made')
        self.net('conf', 'delshare', 'made')
        self.nowhere(['net', 'conf', 'list'], '[made]')

    def test_a_global_parameter_changed_on_one_node_is_taken_up_by_the_servers_of_all(self):
        self.nodes[2].samba(['net', 'conf', 'setparm', 'global', 'server string', 'changed in the registry'])
        self.addCleanup(self.net, 'conf', 'delparm', 'global', 'server string')
        for node in self.nodes:
            node.samba(['smbcontrol', 'smbd', 'reload-config'])
        for node in self.nodes:
            wait_for(lambda: 'changed in the registry' in self.listing(node), 'smbd of node %d to say so' % node.number)

    def listing(self, node):
        command = ['smbclient', '-s', '/dev/null', '-U', '%s%%%s' % (USER, PASSWORD), '-L', node.address]
        return subprocess.run(self.lab.switch.enter(command), capture_output=True, text=True).stdout

    def test_net_conf_drop_and_import_bring_back_everything(self):
        before = self.net('conf', 'list')
        self.nodes[0].write('/srv/saved.conf', before)
        self.net('conf', 'drop')
        self.assertEqual(self.net('conf', 'list').strip(), '')
        self.net('conf', 'import', '/srv/saved.conf')
        self.assertEqual([node.samba(['net', 'conf', 'list']).stdout for node in self.nodes], [before] * 3)

    def test_net_registry(self):
        self.net('registry', 'createkey', KEY)
        self.net('registry', 'setvalue', KEY, 'words', 'sz', 'some words')
        self.net('registry', 'setvalue', KEY, 'number', 'dword', '39')
        for expected in ('40', '41', '42'):
            self.assertEqual(self.net('registry', 'increment', KEY, 'number', '1').strip(), expected)
        self.everywhere(['net', 'registry', 'getvalue', KEY, 'number'], '42')
        self.everywhere(['net', 'registry', 'getvalueraw', KEY, 'words'], 'some words')
        self.everywhere(['net', 'registry', 'getvaluesraw', KEY], 'some words')
        self.everywhere(['net', 'registry', 'enumerate', KEY], '"some words"')
        self.everywhere(['net', 'registry', 'enumerate_recursive', r'HKLM\Software'], '[%s]' % KEY)
        said = self.net('registry', 'getsd_sddl', KEY).strip()
        self.net('registry', 'setsd_sddl', KEY, said)
        self.everywhere(['net', 'registry', 'getsd_sddl', KEY], said)
        self.net('registry', 'export', KEY, '/srv/tried.reg')
        self.net('registry', 'deletevalue', KEY, 'words')
        self.nowhere(['net', 'registry', 'enumerate', KEY], 'words')
        self.net('registry', 'deletekey_recursive', KEY)
        self.nowhere(['net', 'registry', 'enumerate', r'HKLM\Software'], 'Tried')
        self.net('registry', 'import', '/srv/tried.reg')
        self.everywhere(['net', 'registry', 'enumerate', KEY], '"some words"')
        self.net('registry', 'deletekey', KEY)
        self.nowhere(['net', 'registry', 'enumerate', r'HKLM\Software'], 'Tried')

    # -- accounts --

    def test_net_sam_and_net_groupmap(self):
        user, member = self.fresh_users('verb', 2)
        for name in (user, member):
            self.add_account(self.nodes[0], name)
        # the account tools change with one word what another one shows
        for word, value in (('homedir', r'\\lab\home'), ('profilepath', r'\\lab\profile'), ('comment', 'of the verbs'),
                            ('fullname', 'Full Name'), ('logonscript', 'logon.cmd'), ('homedrive', 'H:'), ('workstations', 'ws1')):
            self.assertIn('Updated', self.net('sam', 'set', word, user, value))
            self.everywhere(['pdbedit', '-L', '-v', '-u', user], value)
        for word, letter in (('pwnotreq', 'N'), ('autolock', 'L'), ('pwnoexp', 'X'), ('disabled', 'D')):
            self.net('sam', 'set', word, user, 'yes')
            self.assertRegex(self.nodes[0].samba(['pdbedit', '-L', '-v', '-u', user]).stdout, r'Account Flags:\s+\[\w*%s' % letter)
            self.net('sam', 'set', word, user, 'no')
            self.assertNotRegex(self.nodes[1].samba(['pdbedit', '-L', '-v', '-u', user]).stdout, r'Account Flags:\s+\[\w*%s' % letter)
        self.net('sam', 'set', 'pwdmustchangenow', user, 'yes')
        self.everywhere(['net', 'sam', 'list', 'users'], user)
        self.everywhere(['net', 'sam', 'show', user], 'is a User')
        group = 'verbs of ' + user
        self.net('sam', 'createlocalgroup', group)
        self.net('sam', 'addmem', group, member)
        self.everywhere(['net', 'sam', 'listmem', group], 'has 1 members')
        sid = re.search(r'SID (S-\S+)', self.net('sam', 'show', group)).group(1)
        self.net('groupmap', 'addmem', sid, 'S-1-1-0')
        self.everywhere(['net', 'groupmap', 'listmem', sid], 'S-1-1-0')
        self.everywhere(['net', 'groupmap', 'memberships', 'S-1-1-0'], sid)
        self.net('groupmap', 'delmem', sid, 'S-1-1-0')
        self.net('groupmap', 'modify', 'sid=' + sid, 'type=local', 'comment=modified')
        self.everywhere(['net', 'groupmap', 'list', 'verbose'], 'modified')
        self.net('sam', 'delmem', group, member)
        self.everywhere(['net', 'sam', 'listmem', group], 'has 0 members')
        self.net('sam', 'deletelocalgroup', group)
        self.nowhere(['net', 'sam', 'list', 'localgroups'], group)
        unix, = self.fresh_users('unixgroup', 1)
        self.net('sam', 'mapunixgroup', unix)
        sid = re.search(r'\((S-\S+)\) -> %s$' % unix, self.net('groupmap', 'list'), re.M).group(1)
        self.everywhere(['net', 'groupmap', 'list'], '-> ' + unix)
        self.net('groupmap', 'delete', 'sid=' + sid)
        self.nowhere(['net', 'groupmap', 'list'], '-> ' + unix)
        self.everywhere(['net', 'sam', 'rights', 'list'], 'SeDiskOperatorPrivilege')
        self.assertIn('is now: 7', self.net('sam', 'policy', 'set', 'min password length', '7'))
        self.everywhere(['net', 'sam', 'policy', 'show', 'min password length'], 'value is: 7')
        self.net('sam', 'policy', 'set', 'min password length', '5')

    def test_net_getlocalsid_and_setlocalsid(self):
        before = re.search(r'(S-1-5-21-\S+)', self.net('getlocalsid')).group(1)
        self.addCleanup(self.net, 'setlocalsid', before)
        self.net('setlocalsid', 'S-1-5-21-11-22-33')
        self.everywhere(['net', 'getlocalsid'], 'S-1-5-21-11-22-33')

    # -- locks, processes, databases --

    def test_net_g_lock(self):
        holder = self.nodes[1].popen(['net', 'g_lock', 'do', 'tried', '5000', 'echo has it; read -r _; echo gives it back'],
                                     samba=True, stdin=subprocess.PIPE)
        self.assertEqual(holder.stdout.readline(), 'has it\n')
        for node in self.nodes:
            self.assertIn('tried', node.samba(['net', 'g_lock', 'locks'], check=False).stdout)
            self.assertRegex(node.samba(['net', 'g_lock', 'dump', 'tried']).stdout, r'1:\d+.*: WRITE')
            self.assertRegex(node.samba(['net', 'g_lock', 'dumpall'], check=False).stdout, r'1:\d+.*: WRITE')
            refused = node.samba(['net', 'g_lock', 'do', 'tried', '100', 'echo ran'], check=False)
            self.assertIn('NT_STATUS_IO_TIMEOUT', refused.stdout + refused.stderr)
        waiting = [node.popen(['net', 'g_lock', 'do', 'tried', '60000', 'echo ran'], samba=True) for node in self.nodes]
        holder.stdin.write('\n')
        holder.stdin.flush()
        self.assertEqual(holder.stdout.read(), 'gives it back\n')
        holder.communicate()
        self.assertEqual(['ran' in ''.join(process.communicate()) for process in waiting], [True] * 3)
        self.assertNotIn('WRITE', self.nodes[0].samba(['net', 'g_lock', 'dump', 'tried'], check=False).stdout)

    def test_net_serverid(self):
        smb = self.connect(1)
        file = smb.create('keeps a record', access=READ | WRITE)
        smb.write(file, b'written before')
        status = json.loads(self.nodes[0].samba(['smbstatus', '-j']).stdout)
        server, = (session['server_id'] for session in status['sessions'].values() if session['server_id']['vnn'] == '1')
        known = '1:%s/%s' % (server['pid'], server['unique_id'])
        self.everywhere(['net', 'serverid', 'exists', known], ' exists')
        self.everywhere(['net', 'serverid', 'exists', '1:%s/%d' % (server['pid'], int(server['unique_id']) ^ 1)], 'does not exist')
        for node in self.nodes:
            said = node.samba(['net', 'serverid', 'wipedbs', '-v']).stdout
            self.assertRegex(said, r'Found 1 sessions, 1 alive and 0 disconnected, cleaned up 0 of 0 entries')
        self.assertEqual(smb.read(file, 100), b'written before')

    def test_smbcontrol(self):
        for node in self.nodes:
            def control(*command):
                return node.samba(('smbcontrol',) + command).stdout
            pid = {service: re.search(r'\d+', node.read('/run/samba/%s.pid' % service)).group() for service in ('smbd', 'nmbd', 'winbindd')}
            for service in pid:
                self.assertEqual(control(service, 'ping'), 'PONG from pid %d:%s\n' % (node.number, pid[service]))
                self.assertRegex(control(service, 'debuglevel'), r'PID %d:%s: all:\d+ ' % (node.number, pid[service]))
                control(service, 'debug', '2 tdb:3')
                self.assertRegex(control(service, 'debuglevel'), r' all:2 tdb:3 ')
                control(service, 'debug', '0')
                control(service, 'reload-config')
                control(service, 'noop')
                self.assertIn('full talloc report', control(service, 'pool-usage'))
            self.assertRegex(control('smbd', 'num-children'), r'^\d+ children')
            self.assertIn('*disabled*', control('smbd', 'ringbuf-log'))
            self.assertIn('LAB:Online', control('winbindd', 'onlinestatus'))
            self.assertIn("'BUILTIN'", control('winbindd', 'dump-domain-list'))
            for other in self.nodes:
                whom = '%d:%s' % (other.number, re.search(r'\d+', other.read('/run/samba/smbd.pid')).group())
                self.assertEqual(control(whom, 'ping'), 'PONG from pid %s\n' % whom)
                self.assertIn('PID %s: ' % whom, control(whom, 'debuglevel'))

    def test_smbcontrol_kill_client_ip_ends_the_sessions_of_that_client_on_its_node(self):
        for number in range(3):
            self.connect(number)
        self.nodes[1].samba(['smbcontrol', 'smbd', 'kill-client-ip', CLIENT])

        def with_sessions():
            return set(re.findall(r'^(\d):\d+\s+%s\s' % USER, self.nodes[2].samba(['smbstatus', '-p']).stdout, re.M))
        wait_for(lambda: with_sessions() == {'0', '2'}, lambda: 'the session of node 1 to end: %s' % with_sessions())

    def test_smbcontrol_shutdown_ends_a_service_in_order(self):
        node = self.nodes[2]
        for service in ('nmbd', 'winbindd', 'smbd'):
            node.samba(['smbcontrol', service, 'shutdown'])
            wait_for(lambda: not node.pids(service), lambda: '%s to end: %s' % (service, node.pids(service)))

    def test_every_clustered_database_reads_the_same_on_all_nodes(self):
        smb = self.connect(1)
        smb.lock(smb.create('so that there is something', access=READ | WRITE, share=SHARE_READ), 0, 10)
        databases = [('--persistent', name) for name in self.lab.databases(self.nodes[0])] + [
            ('--non-persistent', name) for name in self.lab.databases(self.nodes[0], 'VOLATILE')]
        self.assertGreater(len(databases), 15)
        for kind, name in databases:
            keys = [sorted(node.samba(['dbwrap_tool', kind, name, 'listkeys']).stdout.splitlines()) for node in self.nodes]
            self.assertEqual(keys[1:], keys[:1] * 2, name)
            if name in ('locking.tdb', 'brlock.tdb', 'smbXsrv_open_global.tdb', 'passdb.tdb', 'registry.tdb', 'secrets.tdb'):
                self.assertTrue(keys[0], name)

    def test_dbwrap_tool_writes_what_other_nodes_read(self):
        # a volatile database of one's own: Samba has none that nobody else writes
        for kind, name in (('--persistent', 'tried_persistent.tdb'), ('--non-persistent', 'tried_volatile.tdb')):
            def tool(*command, check=True):
                return next(self.turns).samba(('dbwrap_tool', kind, name) + command, check=check).stdout.strip()
            for type_, value in (('uint32', '42'), ('int32', '17'), ('string', 'text'), ('hex', '00ff10')):
                tool('store', 'of ' + type_, type_, value)
            for node in self.nodes:
                for type_, value in (('uint32', '42'), ('int32', '17'), ('string', 'text'), ('hex', '00ff10')):
                    said = node.samba(['dbwrap_tool', kind, name, 'fetch', 'of ' + type_, type_]).stdout.strip()
                    self.assertEqual(said.upper().rstrip(), value.upper(), (kind, type_))
            self.assertEqual(tool('exists', 'of hex'), 'Key of hex exists')
            tool('delete', 'of hex')
            self.everywhere(['dbwrap_tool', kind, name, 'listkeys'], 'of string')
            if kind == '--persistent':      # Samba cannot erase a volatile one in a cluster
                tool('erase')
                self.nowhere(['dbwrap_tool', kind, name, 'listkeys'], 'of ')


if __name__ == '__main__':
    main()
