#!/usr/bin/python3 -B
"""The cluster lock by CTDB's own helpers, as Debian ships them: they hold it, they die, hang, are stopped or never
get it, and no node is ever banned for that."""
import os
import shutil
import signal
import subprocess
import unittest

from lab import BIN, PASSWORD, Lab, Scenario, Tdbmesh, _die_with_my_maker, asked_for_peer, children_of, main, wait_for

FCNTL = '/usr/libexec/ctdb/ctdb_mutex_fcntl_helper'
ETCD = '/usr/libexec/ctdb/ctdb_etcd_lock'
ETCD_ADDRESS = '10.98.0.250'


class LockScenario(Scenario):
    lock = ''
    register = None

    @classmethod
    def make_flavour(cls):
        settings = {'cluster': {'lock register': cls.register}} if cls.register else {}
        return Tdbmesh(cluster_lock=cls.lock, settings=settings)

    def leader(self):
        return self.nodes[wait_for(lambda: self.nodes[0].leader() is not None and [self.nodes[0].leader()], 'a leader')[0]]

    def helpers(self, node, name):
        return [pid for pid in node.pids() if name in _command_line(pid) and node.daemon_pid() in _parents(pid)]

    def wait_for_helper(self, node, name, other_than=()):
        return wait_for(lambda: [pid for pid in self.helpers(node, name) if pid not in other_than],
                        lambda: 'node %d to run the helper\n%s' % (node.number, self.lab.describe([node])))

    def assert_nobody_is_banned(self):
        for node in self.nodes:
            for line in node.run(['tdbmesh', '-X', 'nodestatus', 'all'], check=False).stdout.splitlines():
                field = line.strip('|').split('|')
                if len(field) >= 10 and field[0].isdigit():
                    self.assertEqual(field[4], '0', 'node %s is banned, says node %d' % (field[0], node.number))


def _command_line(pid):
    try:
        with open('/proc/%d/cmdline' % pid) as line:
            return line.read().replace('\0', ' ')
    except OSError:
        return ''


def _parents(pid):
    found = []
    while pid > 1:
        try:
            with open('/proc/%d/stat' % pid) as stat:
                text = stat.read()
        except OSError:
            break
        pid = int(text[text.rindex(')') + 2:].split()[1])
        found.append(pid)
    return found


class AdvisoryWithThreeNodes(LockScenario):
    lock = '!%s /srv/.ctdb/cluster.lock' % FCNTL

    def test_the_leader_holds_it_and_its_loss_in_any_way_bans_nobody(self):
        leader = self.leader()
        for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
            with self.subTest(signal=how):
                first = self.wait_for_helper(leader, 'ctdb_mutex_fcntl_helper')
                view = leader.tool('getvnnmap').stdout
                os.kill(first[0], how)
                wait_for(lambda: first[0] not in leader.pids(), 'the helper that got the signal to be gone')
                self.wait_for_helper(leader, 'ctdb_mutex_fcntl_helper', other_than=first)
                self.assertTrue(self.lab.all_ok(), self.lab.describe())
                self.assertEqual(leader.tool('getvnnmap').stdout, view, 'the cluster did not even notice')
        self.assert_nobody_is_banned()

    def test_when_the_leader_dies_the_next_one_holds_it(self):
        leader = self.leader()
        self.wait_for_helper(leader, 'ctdb_mutex_fcntl_helper')
        leader.kill_daemon()
        others = [node for node in self.nodes if node is not leader]
        self.lab.wait_all_ok(others)
        wait_for(lambda: any(self.helpers(node, 'ctdb_mutex_fcntl_helper') for node in others),
                 lambda: 'the next leader to hold the lock\n' + self.lab.describe())
        self.assert_nobody_is_banned()

    def test_somebody_else_who_holds_it_is_named_and_not_waited_for(self):
        leader = self.leader()
        first = self.wait_for_helper(leader, 'ctdb_mutex_fcntl_helper')
        # the file is replaced, and an outsider locks the new one, as a cluster that was forgotten would
        user, = self.fresh_users('held', 1)
        outsider = leader.popen('rm -f /srv/.ctdb/cluster.lock; exec %s /srv/.ctdb/cluster.lock' % FCNTL)
        try:
            wait_for(lambda: os.path.exists(leader.path('/srv/.ctdb/cluster.lock')), 'the outsider to hold the lock')
            if first[0] in leader.pids():
                os.kill(first[0], signal.SIGKILL)
            wait_for(lambda: 'another node holds it' in leader.reasons(),
                     lambda: 'status to say so\n' + leader.reasons())
            self.assertTrue(self.lab.all_ok())
            self.add_account(self.nodes[(leader.number + 1) % 3], user)
            self.assertIn(user, self.accounts(leader))
            self.assert_nobody_is_banned()
        finally:
            for pid in children_of(outsider.pid) + [outsider.pid]:
                os.kill(pid, signal.SIGTERM)
            outsider.communicate()


class HelpersThatNeverAnswer(LockScenario):
    lock = '!sleep 100000'

    def test_nothing_waits_for_them(self):
        self.assertTrue(self.lab.all_ok())
        leader = self.leader()
        self.wait_for_helper(leader, 'sleep 100000')
        leader.kill_daemon()
        others = [node for node in self.nodes if node is not leader]
        self.lab.wait_all_ok(others)
        self.assertEqual(self.helpers(leader, 'sleep 100000'), [], 'the helper ended with its daemon')
        self.assert_nobody_is_banned()


class AsTheThirdVote(LockScenario):
    node_count = 2
    lock = '!%s /srv/.ctdb/cluster.lock' % FCNTL
    register = '/srv/.ctdb/register'
    name = 'ctdb_mutex_fcntl_helper'

    def survive_the_death_of(self, victim):
        survivor = self.nodes[1 - victim.number]
        early, late = self.fresh_users('vote', 2)
        self.add_account(victim, early)
        victim.kill_daemon()
        wait_for(lambda: self.lab.all_ok([survivor]), lambda: 'the survivor to go on\n' + self.lab.describe())
        self.add_account(survivor, late)
        self.assertIn(early, self.accounts(survivor))
        return late

    def test_either_node_survives_the_death_of_the_other(self):
        for victim in self.nodes:
            with self.subTest(victim=victim.number):
                late = self.survive_the_death_of(victim)
                victim.start()
                self.lab.wait_all_ok()
                self.assertIn(late, self.accounts(victim))
                self.assert_identical_databases()
        self.assert_nobody_is_banned()

    def test_losing_the_lock_while_both_are_up_changes_nothing(self):
        leader = self.leader()
        first = self.wait_for_helper(leader, self.name)
        view = leader.tool('getvnnmap').stdout
        os.kill(first[0], signal.SIGKILL)
        self.wait_for_helper(leader, self.name, other_than=first)
        self.assertTrue(self.lab.all_ok(), self.lab.describe())
        self.assertEqual(leader.tool('getvnnmap').stdout, view)
        self.assert_nobody_is_banned()

    def test_a_lone_node_that_loses_the_lock_stops_and_goes_on_when_it_has_it_again(self):
        victim = self.nodes[1 - self.leader().number]
        self.survive_the_death_of(victim)
        lone = self.nodes[1 - victim.number]
        for pid in self.wait_for_helper(lone, self.name):
            os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: self.lab.all_ok([lone]) and self.helpers(lone, self.name),
                 lambda: 'the lone node to hold the lock again\n' + self.lab.describe())
        user, = self.fresh_users('again', 1)
        self.add_account(lone, user)
        victim.start()
        self.lab.wait_all_ok()
        self.assertIn(user, self.accounts(victim))
        self.assert_nobody_is_banned()


class WithoutARegister(LockScenario):
    node_count = 2
    lock = '!%s /srv/.ctdb/cluster.lock' % FCNTL

    def test_a_lone_node_stops_and_the_log_says_what_to_set(self):
        self.assertRegex(self.nodes[0].log(), 'lock register = FILE')
        victim = self.nodes[1 - self.leader().number]
        victim.kill_daemon()
        lone = self.nodes[1 - victim.number]
        wait_for(lambda: 'no quorum' in lone.reasons(), lambda: 'the lone node to stop\n' + lone.reasons())
        user, = self.fresh_users('alone', 1)
        result = lone.samba(['timeout', '-s', 'KILL', '5', 'pdbedit', '-a', '-t', '-u', user],
                            input='%s\n%s\n' % (PASSWORD, PASSWORD), check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assert_nobody_is_banned()


def _etcd_is_here():
    if subprocess.run(['/usr/bin/python3', '-c', 'import etcd'], capture_output=True).returncode:
        return False
    return bool(shutil.which('etcd')) and os.path.exists(ETCD)


def start_etcd(lab, v2=False):
    """A real etcd of one member, in the laboratory's network; returns its process."""
    lab.in_switch('ip', 'addr', 'replace', ETCD_ADDRESS + '/24', 'dev', 'lan')
    lab.in_switch('ip', 'link', 'set', 'lo', 'up')
    url = 'http://%s:2379' % ETCD_ADDRESS
    command = ['etcd', '--data-dir', os.path.join(lab.work, 'etcd'), '--listen-client-urls', url,
               '--advertise-client-urls', url, '--listen-peer-urls', 'http://127.0.0.1:2380'] + (['--enable-v2'] if v2 else [])
    with open(os.path.join(lab.work, 'etcd.log'), 'a') as log:
        # nsenter without a pid namespace ends up being etcd itself
        process = subprocess.Popen(lab.switch.enter(command), stdout=log, stderr=log, preexec_fn=_die_with_my_maker, cwd='/')
    wait_for(lambda: lab.nodes[0].run(['python3', '-c', 'import urllib.request; urllib.request.urlopen("%s/health")' % url],
                                      check=False).returncode == 0, 'etcd to answer')
    return process


@unittest.skipUnless(_etcd_is_here(), 'needs etcd-server and python3-etcd')
class EtcdByCtdbsOwnHelper(AsTheThirdVote):
    """ctdb_etcd_lock speaks etcd's old interface (v2) through python3-etcd, with a lease of 9 s. It asks testparm for
    the cluster's name, so Samba's registry must not be part of smb.conf: that is itself in the cluster."""
    lock = '!' + ETCD
    name = 'ctdb_etcd_lock'

    @classmethod
    def setUpClass(cls):
        super(Scenario, cls).setUpClass()
        cls.lab = Lab(cls.node_count, cls.make_flavour()).make()
        cls.addClassCleanup(cls.lab.destroy)
        cls.etcd = start_etcd(cls.lab, v2=True)
        cls.addClassCleanup(cls.etcd.wait)
        cls.addClassCleanup(cls.etcd.kill)
        for node in cls.lab.nodes:
            with open(node.path('/etc/ctdb/etcd'), 'w') as out:
                out.write('host = %s\n' % ETCD_ADDRESS)
            conf = node.read('/etc/samba/smb.conf').replace('\tregistry shares = yes\n', '')
            with open(node.path('/etc/samba/smb.conf'), 'w') as out:
                out.write(conf)
        cls.lab.start()


@unittest.skipUnless(shutil.which('etcd'), 'needs etcd-server')
class EtcdByOurOwnHelper(AsTheThirdVote):
    lock = '!%s/tdbmesh-etcd-lock http://%s:2379' % (BIN, ETCD_ADDRESS)
    name = 'tdbmesh-etcd-lock'

    @classmethod
    def setUpClass(cls):
        super(Scenario, cls).setUpClass()
        cls.lab = Lab(cls.node_count, cls.make_flavour()).make()
        cls.addClassCleanup(cls.lab.destroy)
        cls.etcd = start_etcd(cls.lab)
        cls.addClassCleanup(lambda: (cls.etcd.kill(), cls.etcd.wait()))
        cls.lab.start()

    def restart_etcd(self):
        type(self).etcd = start_etcd(self.lab)

    def test_the_death_of_etcd_while_both_are_up_changes_nothing(self):
        leader = self.leader()
        first = self.wait_for_helper(leader, self.name)
        view = leader.tool('getvnnmap').stdout
        self.etcd.kill()
        self.etcd.wait()
        wait_for(lambda: first[0] not in leader.pids(), 'the helper to give up')
        self.assertTrue(self.lab.all_ok(), self.lab.describe())
        self.assertEqual(leader.tool('getvnnmap').stdout, view)
        self.assert_nobody_is_banned()
        self.restart_etcd()
        self.wait_for_helper(leader, self.name, other_than=first)

    def test_a_lone_node_stops_with_etcd_and_goes_on_with_it(self):
        victim = self.nodes[1 - self.leader().number]
        self.survive_the_death_of(victim)
        lone = self.nodes[1 - victim.number]
        self.etcd.kill()
        self.etcd.wait()
        wait_for(lambda: 'no quorum' in lone.reasons(), lambda: 'the lone node to stop\n' + lone.reasons())
        self.restart_etcd()
        wait_for(lambda: self.lab.all_ok([lone]), lambda: 'the lone node to go on\n' + self.lab.describe())
        self.assert_nobody_is_banned()

    def test_of_two_contenders_one_gets_it_and_the_other_after_its_lease(self):
        command = [BIN + '/tdbmesh-etcd-lock', '--key', '/contended', '--ttl', '3', 'http://%s:2379' % ETCD_ADDRESS]
        first = self.nodes[0].popen(['timeout', '100'] + command)
        self.assertEqual(first.stdout.read(1), '0')
        second = self.nodes[1].run(command, check=False)
        self.assertEqual(second.stdout, '1', second.stderr)
        for pid in [p for p in self.nodes[0].pids('tdbmesh-etcd-lock') if '/contended' in _command_line(p)]:
            os.kill(pid, signal.SIGSTOP)        # it renews no more, and cannot let go either
        wait_for(lambda: self.nodes[1].run(['timeout', '1'] + command, check=False).stdout == '0', 'the lease to run out')
        for pid in [p for p in self.nodes[0].pids('tdbmesh-etcd-lock') if '/contended' in _command_line(p)]:
            os.kill(pid, signal.SIGCONT)
        self.assertIn('lost', first.communicate()[1])


if __name__ == '__main__':
    if asked_for_peer():
        print('skipped: about our own handling of helpers')
        raise SystemExit(77)
    main()
