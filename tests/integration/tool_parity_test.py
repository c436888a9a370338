#!/usr/bin/python3 -B
"""Debian's ctdb and our tdbmesh print the same on our cluster, verb by verb; and what they print there is what
ctdb prints on a real CTDB cluster. Times, counters and generations, which differ by nature, are made equal first.
"""
import os
import re
import unittest

from lab import Lab, RealCtdb, Scenario, asked_for_peer, main

DATABASE = 'parity.tdb'

# (arguments, standard input). Run on node 0 of a quiet cluster; each must end alike with both tools.
LOOKING = [
    ('status',), ('-X', 'status'), ('-Y', 'status'), ('-n', '1', 'status'),
    ('nodestatus',), ('nodestatus', 'all'), ('nodestatus', '0,2'), ('-X', 'nodestatus', 'all'), ('-n', '2', 'nodestatus'),
    ('ping',), ('-n', '1', 'ping'), ('pnn',), ('-n', '2', 'pnn'),
    ('listnodes',), ('-X', 'listnodes'), ('uptime',), ('-n', '1', 'uptime'),
    ('getdbmap',), ('-X', 'getdbmap'), ('-n', '1', 'getdbmap'), ('getdbstatus', DATABASE),
    ('-n', '1', 'getdbstatus', DATABASE), ('leader',), ('-n', '1', 'leader'),
    ('runstate',), ('runstate', 'running'), ('runstate', 'startup', 'running'), ('runstate', 'init'),
    ('statistics',), ('-X', 'statistics'), ('-n', '1', 'statistics'),
    ('getcapabilities',), ('-X', 'getcapabilities'), ('-n', '1', 'getcapabilities'),
    ('getvar', 'KeepaliveLimit'), ('getvar', 'keepalivelimit'), ('listvars',),
    # and where something is wrong
    ('getvar', 'NoSuchTunable'), ('setvar', 'NoSuchTunable', '1'), ('getdbstatus', 'nosuch.tdb'), ('catdb', 'nosuch.tdb'),
    ('pfetch', 'nosuch.tdb', 'key'), ('wipedb', 'nosuch.tdb'), ('-n', '9', 'status'), ('-n', '9', 'pnn'),
    ('-n', '1', 'listnodes'), ('nosuchverb',), ('getvar',), ('pstore', DATABASE),
]   # getvnnmap is ours alone: ctdb 4.17 has no such verb


def normalised(text):
    """Makes equal what differs by nature from one call to the next."""
    text = re.sub(r'\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) +[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}', 'DATE', text)
    text = re.sub(r'\(\d{3} \d\d:\d\d:\d\d\)', '(AGE)', text)
    text = re.sub(r'time=\d+\.\d{6} sec', 'time=T', text)
    text = re.sub(r'\(\d+ clients\)', '(N clients)', text)
    text = re.sub(r'[\d.]+ seconds', 'T seconds', text)
    text = re.sub(r'^Generation:\d+', 'Generation:G', text, flags=re.M)
    return text


def counters_hidden(text):
    """`statistics`: names, order and layout count, the numbers do not."""
    lines = text.splitlines()
    if len(lines) == 2 and lines[0].startswith('CTDB version|'):
        return lines[0] + '\n' + re.sub(r'[\d.]+', 'N', lines[1])
    return '\n'.join(re.sub(r'(?<=[\s/])[\d.]+(?=[\s/]|$)', 'N', re.sub(r' +(?=\d)', ' ', line)) for line in lines)


def comparable(answer):
    """What goes wrong is said on stderr in each program's own words, a usage too; what is right must be equal."""
    if answer['exit']:
        return {'exit': answer['exit'], 'out': '' if answer['out'].startswith('Usage:') else answer['out']}
    return answer


def records(dump):
    """The records that catdb printed, sorted: in which order they come is up to the store. Without the sequence
    number, which starts anew when CTDB wipes a database and goes on with us."""
    return sorted(block for block in dump.split('\n\n')[:-1] if '__db_sequence_number__' not in block)


class ToolParity(Scenario):
    def ask(self, program, arguments, node=None, input=None):
        result = (node or self.nodes[0]).samba([program] + list(arguments), input=input, check=False)
        out = normalised(result.stdout)
        if 'statistics' in arguments:
            out = counters_hidden(out)
        return {'exit': result.returncode, 'out': out, 'err': normalised(result.stderr)}

    def assert_alike(self, arguments, input=None):
        ctdb = self.ask('ctdb', arguments, input=input)
        ours = self.ask(self.lab.flavour.tool, arguments, input=input)
        self.assertEqual(comparable(ours), comparable(ctdb), ' '.join(arguments))
        return ctdb

    def setUp(self):
        super().setUp()
        self.nodes[0].samba(['ctdb', 'attach', DATABASE, 'persistent'])

    def test_verbs_that_look_print_the_same(self):
        for arguments in LOOKING:
            with self.subTest(' '.join(arguments)):
                self.assert_alike(arguments)

    def test_reads_and_writes_of_either_tool_are_those_of_the_other(self):
        tools = ('ctdb', self.lab.flavour.tool)
        for number, (writer, reader) in enumerate([tools, tools[::-1]]):
            key = 'key%d' % number
            self.nodes[0].samba([writer, 'pstore', DATABASE, key, 'value of ' + writer])
            self.assertEqual(self.nodes[1].samba([reader, 'pfetch', DATABASE, key]).stdout, 'value of %s\n' % writer)
            self.nodes[2].samba([writer, 'ptrans', DATABASE], input='"%s" "changed"\n"other%d" "new"\n' % (key, number))
            self.assertEqual(self.nodes[0].samba([reader, 'pfetch', DATABASE, key]).stdout, 'changed\n')
        self.assert_alike(('pfetch', DATABASE, 'key0'))
        self.assert_alike(('pfetch', DATABASE, 'absent'))
        self.assert_alike(('pfetch', DATABASE, '0x6b657930'))
        dumped = self.assert_alike(('catdb', DATABASE))
        self.assertIn('key(4) = "key0"', dumped['out'])
        self.assert_alike(('-n', '1', 'catdb', DATABASE))
        self.assert_identical_databases()

    def test_wipedb_empties_a_database_on_all_nodes(self):
        for tool in ('ctdb', self.lab.flavour.tool):
            self.nodes[0].samba(['ctdb', 'pstore', DATABASE, 'gone', 'soon'])
            answer = self.ask(tool, ('wipedb', DATABASE))
            self.assertEqual(answer, {'exit': 0, 'out': 'Database %s wiped\n' % DATABASE, 'err': ''}, tool)
            for node in self.nodes:
                self.assertEqual(records(self.ask('ctdb', ('catdb', DATABASE), node)['out']), [], tool)
            self.lab.wait_all_ok()
        self.assert_identical_databases()

    def test_properties_set_by_either_tool_hold_on_all_nodes(self):
        ours = self.lab.flavour.tool
        for program, verb, word in (('ctdb', 'setdbreadonly', 'READONLY'), (ours, 'setdbsticky', 'STICKY'),
                                    (ours, 'setdbreadonly', 'READONLY'), ('ctdb', 'setdbsticky', 'STICKY')):
            name = '%s_by_%s.tdb' % (verb, program)
            self.nodes[0].samba(['ctdb', 'attach', name])
            self.nodes[0].samba([program, verb, name])
            for node in self.nodes:
                shown = [line for line in node.samba(['ctdb', 'getdbmap']).stdout.splitlines() if name in line]
                self.assertTrue(shown and word in shown[0], (node.number, shown))
            refused = self.ask(program, (verb, DATABASE))
            self.assertIn('only on volatile DB', str(refused))

    def test_setvar_of_either_tool_is_seen_by_the_other(self):
        for value, (writer, reader) in ((321, ('ctdb', self.lab.flavour.tool)), (300, (self.lab.flavour.tool, 'ctdb'))):
            self.nodes[0].samba([writer, 'setvar', 'EventScriptTimeout', str(value)])
            self.assertEqual(re.sub(' +', ' ', self.nodes[0].samba([reader, 'getvar', 'EventScriptTimeout']).stdout),
                             'EventScriptTimeout = %d\n' % value)

    def test_getvnnmap_prints_what_status_prints_of_it(self):
        if asked_for_peer():
            self.skipTest('ctdb 4.17 has no such verb')
        shown = self.nodes[0].tool('getvnnmap').stdout
        self.assertIn(shown.strip(), self.nodes[0].tool('status').stdout)

    def test_a_stopped_daemon_is_reported_alike(self):
        self.nodes[0].stop()
        for arguments in (('status',), ('ping',), ('pnn',), ('getdbmap',), ('listnodes',)):
            with self.subTest(' '.join(arguments)):
                self.assert_alike(arguments)

    def test_shutdown_by_either_tool(self):
        for tool in ('ctdb', self.lab.flavour.tool):
            with self.subTest(tool):
                answer = self.ask(tool, ('shutdown',), self.nodes[2])
                self.assertEqual((answer['exit'], answer['out']), (0, ''))
                self.nodes[2].wait_until_ended()
                self.lab.make_whole()
                answer = self.ask(tool, ('-n', '1', 'shutdown'), self.nodes[0])
                self.assertEqual((answer['exit'], answer['out']), (0, ''))
                self.nodes[1].wait_until_ended()
                self.lab.make_whole()

    @unittest.skipIf(asked_for_peer(), 'compares with the real CTDB itself')
    @unittest.skipUnless(os.path.exists('/usr/sbin/ctdbd'), "needs Debian's ctdb")
    def test_what_is_printed_is_what_a_real_ctdb_cluster_prints(self):
        with Lab(self.node_count, RealCtdb()) as real:
            real.start()
            real.wait_all_ok()
            real.nodes[0].run(['ctdb', 'attach', DATABASE, 'persistent'])
            real.nodes[0].run(['ctdb', 'pstore', DATABASE, 'a key', 'a "value"'])
            self.nodes[0].samba(['ctdb', 'wipedb', DATABASE])
            self.lab.wait_all_ok()
            self.nodes[0].samba(['ctdb', 'pstore', DATABASE, 'a key', 'a "value"'])
            for arguments in LOOKING + [('catdb', DATABASE), ('pfetch', DATABASE, 'a key')]:
                with self.subTest(' '.join(arguments)):
                    theirs = self.ask('ctdb', arguments, real.nodes[0])
                    ours = self.ask('ctdb', arguments)
                    self.assertEqual(self.cluster_hidden(arguments, ours), self.cluster_hidden(arguments, theirs))

    @staticmethod
    def cluster_hidden(arguments, answer):
        """Makes equal what differs by nature from one cluster to another."""
        out = answer['out']
        out = re.sub(r'^Leader:\d+', 'Leader:L', out, flags=re.M)
        out = re.sub(r'(path:|\|)/\S*/(?=parity)', r'\1DIR/', out)
        if 'leader' in arguments:
            out = re.sub(r'^\d+$', 'L', out, flags=re.M)
        if 'getdbmap' in arguments:         # the databases that happen to be attached
            out = '\n'.join(line for line in out.splitlines() if 'parity' in line or line.startswith('|ID'))
        if 'getdbstatus' in arguments:
            out = re.sub(r'^path: /\S*/', 'path: DIR/', out, flags=re.M)
        if 'listvars' in arguments:         # names and order; this lab's CTDB runs with faster settings
            out = re.sub(r'= \d+$', '= V', out, flags=re.M)
        if 'getvar' in arguments:
            out = re.sub(r'= \d+$', '= V', out, flags=re.M)
        if 'catdb' in arguments and answer['exit'] == 0:       # who stored last and how often
            out = records(re.sub(r'^(dmaster|rsn): \d+', r'\1: N', out, flags=re.M))
        return comparable({'exit': answer['exit'], 'out': out})


if __name__ == '__main__':
    main()
