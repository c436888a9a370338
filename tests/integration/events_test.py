#!/usr/bin/python3 -B
"""Event scripts and health on real nodes: order, environment, results and output as CTDB has them, seen through
Debian's unmodified `ctdb event` and `ctdb scriptstatus` and through ours; a failing script or check makes the node
unhealthy and a good one mends it; what hangs is killed. And: each script that Debian ships for CTDB ends for each
event as it does under the real CTDB."""
import json
import os
import re
import unittest

from lab import Lab, RealCtdb, Scenario, TdbmeshDropIn, Tdbmesh, asked_for_peer, main, wait_for

LEGACY = '/etc/ctdb/events/legacy'
CANCELLED = 125 - 64        # ctdb passes an exit status above 64 on without 64
FAST = ('MonitorInterval=1', 'EventScriptTimeout=20')


class Node(TdbmeshDropIn):
    """From CTDB's own folder, without CTDB's scripts at first."""

    def configure(self, lab, node):
        super().configure(lab, node)
        prepare_scripts(node)


class Peer(RealCtdb):
    def configure(self, lab, node):
        super().configure(lab, node)
        prepare_scripts(node)


def prepare_scripts(node):
    for name in os.listdir(node.path(LEGACY)):
        os.unlink(node.path(LEGACY + '/' + name))
    # what monitor says and does is in a file, so that a test can change it
    write_script(node, LEGACY + '/30.mood.script', '''#!/bin/sh
echo "$*" >>/run/events.seen
[ "$1" = monitor ] || exit 0
[ -e /run/mood ] && . /run/mood
exit 0
''')
    # a word that takes longer than the next: they must be told one after the other
    write_script(node, '/etc/ctdb/notify.sh', '#!/bin/sh\n[ "$1" = setup ] && sleep 1\necho "$1" >>/run/notified\n')


def write_script(node, path, text):
    node.write(path, text, 0o755)


def mood(node, text):
    """What the monitor event does on this node from now on."""
    if text is None:
        if os.path.exists(node.path('/run/mood')):
            os.unlink(node.path('/run/mood'))
        return
    with open(node.path('/run/mood.new'), 'w') as out:
        out.write(text)
    os.rename(node.path('/run/mood.new'), node.path('/run/mood'))


def normalised(text):
    text = re.sub(r'[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}', 'DATE', text)
    return re.sub(r'\d+\.\d{3} DATE', 'TIME DATE', text)


class Events(Scenario):
    node_count = 2

    @classmethod
    def make_flavour(cls):
        return Peer(tunables=RealCtdb.FAST) if asked_for_peer() else Node(tunables=FAST, cluster_lock='/srv/.ctdb/lock')

    def setUp(self):
        for node in self.lab.nodes:
            mood(node, None)
        super().setUp()

    def unhealthy(self, node, seen_from):
        out = seen_from.run(['ctdb', '-X', 'nodestatus', str(node.number)], check=False).stdout
        field = (out.splitlines() or [''])[-1].split('|')
        return len(field) > 7 and field[7] == '1'

    def test_the_events_of_a_life_come_in_their_order(self):
        node = self.nodes[1]
        wait_for(lambda: 'monitor' in node.read('/run/events.seen'), 'a first monitor run')
        first = []
        for line in node.read('/run/events.seen').splitlines():
            if line.split()[0] not in first:
                first.append(line.split()[0])
        main_ones = [event for event in first if event in ('init', 'setup', 'startup', 'monitor')]
        self.assertEqual(main_ones, ['init', 'setup', 'startup', 'monitor'])
        node.stop()
        self.assertEqual(node.read('/run/events.seen').splitlines()[-1], 'shutdown')
        self.assertEqual(node.read('/run/notified').split()[:3], ['init', 'setup', 'startup'])

    def test_a_failing_monitor_makes_the_node_unhealthy_and_a_good_one_mends_it(self):
        node, other = self.nodes
        mood(node, 'echo nobody serves; exit 7')
        wait_for(lambda: self.unhealthy(node, other) and self.unhealthy(node, node), 'node 0 to be unhealthy')
        said = node.run(['ctdb', 'scriptstatus'], check=False)
        self.assertEqual(said.returncode, 0, 'it was told, whatever it is')
        self.assertEqual(node.run(['ctdb', 'event', 'status', 'legacy', 'monitor'], check=False).returncode, 7)
        self.assertRegex(normalised(said.stdout), r'30\.mood +ERROR +TIME DATE\n  OUTPUT: nobody serves')
        mood(node, None)
        wait_for(lambda: not self.unhealthy(node, other), 'node 0 to be healthy')
        wait_for(lambda: node.read('/run/notified').split()[-2:] == ['unhealthy', 'healthy'], 'both notifications')

    @unittest.skipIf(asked_for_peer(), 'CTDB promises less')
    def test_what_hangs_is_killed_with_all_it_started(self):
        node = self.nodes[0]
        write_script(node, LEGACY + '/35.slow.script', '#!/bin/sh\n[ "$1" = slow ] || exit 0\nsleep 4711 & sleep 4712\n')
        ended = node.run(['ctdb', 'event', 'run', '2', 'legacy', 'slow'], check=False)
        os.unlink(node.path(LEGACY + '/35.slow.script'))
        self.assertEqual(ended.returncode, 110 - 64, ended.stdout + ended.stderr)
        self.assertIn('timed out', ended.stdout + ended.stderr)
        wait_for(lambda: not [pid for pid in node.pids('sleep') if '471' in cmdline(pid)], 'the sleepers to be gone')
        self.assertIn('sleep 4712', node.log())

    @unittest.skipIf(asked_for_peer(), 'compares both tools on our node')
    def test_both_tools_say_the_same(self):
        node = self.nodes[0]
        write_script(node, LEGACY + '/40.off.script', '#!/bin/sh\n')
        os.chmod(node.path(LEGACY + '/40.off.script'), 0o644)
        write_script(node, LEGACY + '/20.args.script',
                     '#!/bin/sh\n[ "$1" = odd ] || exit 0\necho "$# $2 $3 $CTDB_PNN"\nexit ${4:-0}\n')
        commands = [['event', 'script', 'list', 'legacy'], ['event', 'status', 'legacy', 'never'],
                    ['event', 'status', 'nosuch', 'monitor'], ['event', 'run', '5', 'nosuch', 'monitor'],
                    ['event', 'run', '5', 'legacy', 'odd', 'a', 'b', '3'], ['event', 'status', 'legacy', 'odd'],
                    ['event', 'run', '5', 'legacy', 'odd', 'a', 'b', '127'], ['event', 'status', 'legacy', 'odd'],
                    ['event', 'run', '5', 'legacy', 'odd', 'a', 'b'], ['event', 'status', 'legacy', 'odd'],
                    ['scriptstatus', 'odd'], ['event', 'script', 'enable', 'legacy', '40.off'],
                    ['event', 'script', 'list', 'legacy'], ['event', 'script', 'disable', 'legacy', '40.off'],
                    ['event', 'script', 'enable', 'legacy', '41.httpd'], ['event', 'script', 'list', 'legacy'],
                    ['event', 'script', 'disable', 'legacy', '41.httpd'], ['event', 'script', 'list', 'legacy']]
        for command in commands:
            with self.subTest(' '.join(command)):
                answers = []
                for tool in ('ctdb', 'tdbmesh'):
                    said = node.run([tool] + (['--config-dir', '/etc/ctdb'] if tool == 'tdbmesh' else []) + command,
                                    check=False)
                    answers.append((said.returncode, normalised(said.stdout)))
                self.assertEqual(answers[0], answers[1])
        result = json.loads(node.run(['tdbmesh', '--json', 'scriptstatus', 'odd']).stdout)
        self.assertEqual([script['name'] for script in result['scripts']][:2], ['20.args', '30.mood'])
        for name in ('20.args', '40.off'):
            os.unlink(node.path('%s/%s.script' % (LEGACY, name)))

    @unittest.skipIf(asked_for_peer(), 'CTDB has no reasons to give')
    def test_why_tells_what_happened(self):
        node, other = self.nodes
        mood(node, 'echo the disk is full; exit 1')
        wait_for(lambda: self.unhealthy(node, other), 'node 0 to be unhealthy')
        self.assertIn('30.mood failed: the disk is full', node.tool('why', 'unhealthy').stdout)
        told = other.tool('why', 'node', '0').stdout
        self.assertIn('the disk is full', told, 'asked of another node')
        self.assertIn('became unhealthy', told)
        self.assertIn('the disk is full', node.tool('-v', 'status').stdout)
        mood(node, None)
        wait_for(lambda: not self.unhealthy(node, other), 'node 0 to be healthy')
        lines = json.loads(node.tool('--json', 'why', 'node', '0').stdout)
        self.assertTrue(all(a['time'] <= b['time'] for a, b in zip(lines, lines[1:])), lines)


def cmdline(pid):
    try:
        with open('/proc/%d/cmdline' % pid) as file:
            return file.read()
    except OSError:
        return ''


@unittest.skipIf(asked_for_peer(), 'about our own checks')
class Checks(Scenario):
    """Built-in checks: every second, without a script."""
    node_count = 1

    @classmethod
    def make_flavour(cls):
        return Tdbmesh(settings={'checks': {'port': 'tcp 127.0.0.1:8111 every=0.2', 'web': 'http 127.0.0.1:8111/',
                                            'program': 'exec /usr/bin/test ! -e /run/broken every=0.2'}})

    def setUp(self):
        self.nodes = self.lab.nodes
        if not getattr(self.lab, 'web', None):
            self.lab.web = self.nodes[0].popen(['python3', '-m', 'http.server', '8111', '--bind', '127.0.0.1',
                                                '--directory', '/run/samba'], stdout=None, stderr=None)
        super().setUp()

    def test_a_service_that_dies_and_a_program_that_says_no(self):
        node = self.nodes[0]
        open(node.path('/run/broken'), 'w').close()
        wait_for(lambda: 'check program: result 1' in node.tool('why', 'unhealthy').stdout, 'the program check to fail')
        os.unlink(node.path('/run/broken'))
        self.lab.wait_all_ok()
        for pid in node.pids('python3'):
            if 'http.server' in cmdline(pid):
                os.kill(pid, 9)
        wait_for(lambda: 'check port: Connection refused' in node.tool('why', 'unhealthy').stdout, 'the port check to fail')
        self.assertIn('UNHEALTHY', node.tool('status').stdout)
        self.lab.web = None


SHIPPED = ('00.ctdb', '01.reclock', '05.system', '10.interface', '31.clamd', '40.vsftpd', '41.httpd', '48.netbios',
           '49.winbind', '50.samba', '60.nfs', '70.iscsi')
CALLS = (('init',), ('setup',), ('startup',), ('startrecovery',), ('recovered',), ('takeip', 'eth0', '10.98.0.200', '24'),
         ('releaseip', 'eth0', '10.98.0.200', '24'), ('updateip', 'eth0', 'lo', '10.98.0.200', '24'),
         ('ipreallocated',), ('monitor',), ('shutdown',))
# The daemon has done what this script does for these; under CTDB the script does it.
OURS = {('10.interface', event) for event in ('takeip', 'releaseip', 'updateip')}


# The init scripts of a lab start Samba without the shim, so there is nobody to be found at its ports.
WITHOUT_SHIM = {('49.winbind', 'monitor'), ('50.samba', 'monitor')}
# Runs before any of them: forgets what they remember, and counts the monitor events.
AFRESH = '''#!/bin/sh
case "$1" in
init) rm -rf "${CTDB_SCRIPT_VARDIR:-/var/lib/ctdb/scripts}/service" ;;
monitor) echo >>/run/monitored ;;
esac
'''


@unittest.skipIf(asked_for_peer(), 'runs both by itself')
class ShippedScripts(unittest.TestCase):
    """Each of Debian's scripts, unchanged, alone, for each event."""

    def undisturbed(self, node, script, found):
        """Calls the script for each event. False if the daemon's own monitor event came between (under CTDB it still does a
        few times, at doubling distances): a call ends that run wherever it is, and what it has half written misleads the next.
        """
        monitored = node.read('/run/monitored').count('\n')
        node.run(['ctdb', 'event', 'script', 'enable', 'legacy', script])
        codes = []
        for call in CALLS:
            codes.append(node.run(['ctdb', 'event', 'run', '30', 'legacy'] + list(call), check=False).returncode)
            status = node.run(['ctdb', 'event', 'status', 'legacy', call[0]], check=False).stdout
            line = re.search(r'^%s +(\S+)' % re.escape(script), status, re.M)
            found[script, call[0]] = (codes[-1], line.group(1) if line else status)
            self.said[script, call[0]] = status
        node.run(['ctdb', 'event', 'script', 'disable', 'legacy', script])
        return CANCELLED not in codes and node.read('/run/monitored').count('\n') == monitored + 1

    def outcomes(self, flavour):
        found = {}
        with Lab(1, flavour) as lab:
            node = lab.nodes[0]
            os.unlink(node.path(LEGACY + '/30.mood.script'))
            write_script(node, LEGACY + '/00.afresh.script', AFRESH)
            lab.start()
            lab.wait_all_ok()
            # Some scripts count failures over the daemon's own monitor runs: only the runs of this test shall count.
            node.run(['ctdb', 'setvar', 'MonitorInterval', '3600'])
            for script in SHIPPED:
                wait_for(lambda: self.undisturbed(node, script, found), 'the daemon to leave %s to this test' % script)
        return found

    def test_each_ends_as_under_ctdb(self):
        self.said = {}
        ours = self.outcomes(Node(cluster_lock='/srv/.ctdb/lock', tunables=FAST))
        said_here, self.said = self.said, {}
        theirs = self.outcomes(Peer(tunables=RealCtdb.FAST))
        self.assertEqual(len(ours), len(SHIPPED) * len(CALLS))
        differing = {key: (ours[key], theirs[key]) for key in theirs if ours[key] != theirs[key] and key not in OURS | WITHOUT_SHIM}
        self.assertEqual(differing, {}, '(script, event): (here, under ctdb)\n' + '\n'.join(
            'here:\n%sunder ctdb:\n%s' % (said_here[key], self.said[key]) for key in differing))
        self.assertEqual({ours[key][1] for key in OURS}, {'OK'})
        self.assertGreater(sum(1 for outcome in ours.values() if outcome[1] == 'OK'), len(ours) // 2)


if __name__ == '__main__':
    main()
