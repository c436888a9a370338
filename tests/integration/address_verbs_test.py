#!/usr/bin/python3 -B
"""The verbs about public addresses, by Debian's unmodified `ctdb` and by ours: both do the same and print the same.
What they print is what `ctdb` prints on a real CTDB cluster (its texts stand here; `--peer` runs the parts that CTDB
has on the real one)."""
import json
import re
import signal

from lab import asked_for_peer, main, wait_for
from public_lab import CLIENT4, PublicScenario

HOST, OTHER = '10.99.0.101', '10.99.0.102'
NEW = '10.99.0.150'
SRC = CLIENT4 + ':1234'


class AddressVerbs(PublicScenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tools = ['ctdb'] if asked_for_peer() else ['ctdb', 'tdbmesh']

    def say(self, tool, *words, node=None, input=None):
        done = (node or self.nodes[0]).run([tool, *words], input=input, check=False)
        return done.returncode, done.stdout

    def at(self, address, pnn):
        wait_for(lambda: self.lab.holders().get(address) == [pnn] and self.lab.owners().get(address) == pnn,
                 lambda: '%s to be on node %d: %s' % (address, pnn, self.lab.holders()))

    def test_moveip_moves_and_ipreallocate_ends_it(self):
        for tool in self.tools:
            for target in (1, 2, 0):
                self.assertEqual(self.say(tool, 'moveip', HOST, str(target)), (0, ''))
                self.at(HOST, target)
            self.assertEqual(self.say(tool, 'ipreallocate'), (0, ''))
            self.assertEqual(self.say(tool, 'moveip', 'nonsense', '1')[0], 1)

    def test_what_cannot_be_moved_is_refused(self):
        if asked_for_peer():
            self.skipTest('CTDB tries for 15 s each')
        before = self.lab.holders()
        for words in (('10.9.9.9', '1'), (HOST, '9'), (HOST,)):
            self.assertEqual(self.say('tdbmesh', 'moveip', *words)[0], 1, words)
        self.assertEqual(self.lab.holders(), before)

    def test_an_interface_that_the_operator_calls_down_hosts_nothing(self):
        for tool in self.tools:
            self.assertEqual(self.say(tool, 'setifacelink', 'pub0', 'down'), (0, ''))
            self.assertIn('name:pub0 link:down', self.say(tool, 'ifaces')[1])
            self.assertIn('Link:down', self.say(tool, 'ipinfo', HOST)[1])
            if not asked_for_peer():     # CTDB moves them with the next run that something else causes
                wait_for(lambda: not [a for a, who in self.lab.holders().items() if 0 in who], 'node 0 to have none')
            self.assertEqual(self.say(tool, 'setifacelink', 'pub0', 'up'), (0, ''))
            self.lab.wait_all_hosted()
            self.assertEqual(self.say(tool, 'setifacelink', 'nosuch', 'down'),
                             (1, 'Interface nosuch not configured on node 0\n'))
            self.assertEqual(self.say(tool, 'setifacelink', 'pub0', 'sideways')[0], 1)

    def test_tickles_are_kept_shown_and_forgotten(self):
        host = next(node for node in self.nodes if self.lab.holders()[HOST] == [node.number])
        pairs = [(SRC, HOST + ':445'), (SRC, HOST + ':446')]
        for tool in self.tools:
            def tickles(*words):
                return self.say(tool, *words, node=host)
            self.assertEqual(tickles('addtickle', *pairs[0]), (0, ''))
            self.assertEqual(self.say(tool, 'addtickle', input='%s %s\n' % pairs[1], node=host), (0, ''))
            self.assertEqual(tickles('gettickles', HOST), (
                0, 'Connections for IP: %s\nNum connections: 2\n' % HOST +
                ''.join('SRC: %s   DST: %s\n' % pair for pair in pairs)))
            self.assertEqual(tickles('-X', 'gettickles', HOST, '446'), (
                0, '|Source IP|Port|Destiation IP|Port|\n|%s|1234|%s|446|\n' % (CLIENT4, HOST)))
            for pair in pairs:
                self.assertEqual(tickles('deltickle', *pair), (0, ''))
            self.assertEqual(tickles('deltickle', *pairs[0]), (0, ''))
            self.assertEqual(tickles('gettickles', HOST), (0, 'Connections for IP: %s\nNum connections: 0\n' % HOST))
            self.assertEqual(tickles('addtickle', SRC, '10.9.9.9:445'), (1, ''))
            self.assertEqual(tickles('gettickles', '10.9.9.9'), (1, ''))
            self.assertEqual(tickles('gettickles', 'nonsense'), (1, ''))
            self.assertEqual(tickles('gratarp', HOST, 'pub0'), (0, ''))
            self.assertEqual(tickles('tickle', *pairs[0]), (0, ''))
            self.assertEqual(tickles('tickle', 'bad', 'worse')[0], 1)

    def test_addresses_come_and_go(self):
        for tool in self.tools:
            self.assertEqual(self.say(tool, 'addip', NEW + '/24', 'pub0'), (0, ''))
            self.assertEqual(self.say(tool, 'addip', NEW + '/24', 'pub0'), (0, ''), 'it is there already')
            self.assertEqual(self.say(tool, 'ipreallocate'), (0, ''))
            self.assertIn('CurrentNode:0\n', self.say(tool, 'ipinfo', NEW)[1])
            wait_for(lambda: NEW in self.nodes[0].run(['ip', 'addr']).stdout, 'the address to be added')
            self.assertEqual(self.say(tool, 'delip', NEW), (0, ''))
            self.assertEqual(self.say(tool, 'ipreallocate'), (0, ''))
            wait_for(lambda: NEW not in self.nodes[0].run(['ip', 'addr']).stdout, 'the address to go')
            for words in (('10.99.0.151', 'pub0'), ('bad/24', 'pub0'), ('10.99.0.152/24',)):
                self.assertEqual(self.say(tool, 'addip', *words)[0], 1, words)
            self.assertEqual(self.say(tool, 'delip', 'bad')[0], 1)
        if not asked_for_peer():
            self.assertEqual(self.say('tdbmesh', 'addip', '10.99.0.153/24', 'nosuch')[0], 1)

    def test_reloadips_takes_up_the_file(self):
        path = self.nodes[0].path(self.lab.flavour.config_dir + '/public_addresses')
        with open(path) as file:
            before = file.read()
        def restore():
            with open(path, 'w') as out:
                out.write(before)
            self.nodes[0].tool('reloadips')
        self.addCleanup(restore)
        for tool in self.tools:
            with open(path, 'w') as out:
                out.write(before.replace('%s/24 pub0\n' % OTHER, '') + NEW + '/24 pub0\n')
            self.assertEqual(self.say(tool, 'reloadips'), (0, ''))
            self.assertIn(NEW, self.say(tool, 'ip')[1])
            self.assertNotIn(OTHER, self.say(tool, 'ip')[1])
            wait_for(lambda: self.lab.holders()[OTHER] in ([1], [2]), 'the address to leave node 0')
            wait_for(lambda: NEW in self.nodes[0].run(['ip', 'addr']).stdout, 'the address to be added')
            with open(path, 'w') as out:
                out.write(before)
            self.assertEqual(self.say(tool, 'reloadips', '0,1'), (0, ''))
            self.assertEqual(self.say(tool, 'reloadips', 'all'), (0, ''))
            self.assertNotIn(NEW, self.say(tool, 'ip')[1])
            self.assertIn(OTHER, self.say(tool, 'ip')[1])
            self.assertEqual(self.say(tool, 'reloadips', '9')[0], 1)

    def test_no_failback_and_no_takeover_are_kept_to(self):
        if asked_for_peer():
            self.skipTest('looks at what only tdbmesh does at once')
        everywhere = lambda name, value: [node.run(['ctdb', 'setvar', name, value]) for node in self.nodes]
        self.addCleanup(lambda: (everywhere('NoIPFailback', '0'), everywhere('NoIPTakeover', '0'),
                                 self.nodes[2].tool('enable', check=False)))
        everywhere('NoIPFailback', '1')
        self.nodes[2].tool('disable')
        wait_for(lambda: self.lab.all_hosted(self.nodes[:2]), 'two nodes to host all')
        held = self.lab.holders()
        self.nodes[2].tool('enable')
        self.nodes[0].tool('ipreallocate')
        self.assertEqual(self.lab.holders(), held, 'nothing goes back')
        everywhere('NoIPFailback', '0')
        self.lab.wait_all_hosted()
        # a node that takes nothing more: another one's end leaves it with what it has
        self.nodes[0].run(['ctdb', 'setvar', 'NoIPTakeover', '1'])
        mine = {a for a, who in self.lab.holders().items() if who == [0]}
        self.nodes[2].tool('disable')
        wait_for(lambda: self.lab.all_hosted(self.nodes[:2]), 'two nodes to host all')
        self.assertEqual({a for a, who in self.lab.holders().items() if who == [0]}, mine)

    def test_an_address_goes_home_whenever_it_can(self):
        if asked_for_peer():
            self.skipTest('CTDB has no home_nodes')

        def restart_with(text):
            for node in self.nodes:
                with open(node.path('/etc/tdbmesh/home_nodes'), 'w') as out:
                    out.write(text)
                node.stop()
                node.start()
            self.lab.wait_all_ok()

        self.addCleanup(restart_with, '')
        restart_with('%s 2\n%s 2\n%s 2\n%s 2\n' % tuple(self.lab.addresses[:4]))
        for address in self.lab.addresses[:4]:
            self.at(address, 2)
        self.nodes[2].tool('disable')
        wait_for(lambda: 2 not in self.lab.owners().values(), lambda: 'all to leave: %s' % self.lab.owners())
        self.nodes[2].tool('enable')
        for address in self.lab.addresses[:4]:
            self.at(address, 2)

    def test_drain_ends_when_the_node_can_be_stopped(self):
        if asked_for_peer():
            self.skipTest('CTDB has no such verb')
        victim = self.nodes[1]
        done = self.say('tdbmesh', 'drain', node=victim)
        holders = self.lab.holders()
        self.assertEqual(done, (0, 'Node 1 is disabled and hosts no public address: it can be stopped\n'))
        self.assertEqual([a for a, who in holders.items() if 1 in who], [])
        self.assertTrue(self.lab.all_hosted([self.nodes[0], self.nodes[2]]), holders)
        self.assertEqual(self.say('tdbmesh', 'drain', node=victim)[0], 0, 'once more changes nothing')
        victim.stop()
        victim.start()
        self.lab.wait_all_hosted()      # back by itself, as after any restart

    def test_why_ip_tells_who_decided_what(self):
        if asked_for_peer():
            self.skipTest('CTDB has no why')
        self.assertEqual(self.say('tdbmesh', 'moveip', HOST, '1'), (0, ''))
        told = self.say('tdbmesh', 'why', 'ip', HOST, node=self.nodes[2])[1]
        self.assertRegex(told, r'node \d: (leaves node \d|goes to node 1): the operator moved it to node 1|stands on pub0')
        self.addCleanup(lambda: self.nodes[1].tool('enable', check=False))
        self.nodes[1].tool('disable')
        told = json.loads(self.say('tdbmesh', '--json', 'why', 'ip', HOST)[1])
        self.assertTrue([line for line in told if 'leaves node 1: node 1 is disabled' in line['text']], told)
        self.assertTrue([line for line in told if line['node'] != 1 and line['text'] == 'stands on pub0 here'], told)
        unknown = self.nodes[0].tool('why', 'ip', '10.99.0.77', check=False)
        self.assertEqual(unknown.returncode, 1)
        self.assertIn('No node has 10.99.0.77 in its public_addresses', unknown.stderr)

    def test_why_node_tells_how_it_was_lost(self):
        if asked_for_peer():
            self.skipTest('CTDB has no why')
        victim = self.nodes[2]
        self.addCleanup(self.lab.make_whole)

        def told():
            return self.nodes[0].tool('why', 'node', '2').stdout
        victim.signal_daemon(signal.SIGKILL)
        wait_for(lambda: re.search(r'became disconnected \(its daemon (ended|closed the connection)\)', told()), told)
        self.lab.repair(victim)
        self.lab.wait_all_ok()
        victim.tool('shutdown')
        wait_for(lambda: 'became disconnected (it was shut down)' in told(), told)

    def test_json_of_every_verb_parses(self):
        if asked_for_peer():
            self.skipTest('CTDB has no --json')
        for words in (('ip',), ('ip', 'all'), ('ipinfo', HOST), ('ifaces',), ('gettickles', HOST), ('moveip', HOST, '0'),
                      ('gratarp', HOST, 'pub0'), ('ipreallocate',), ('reloadips',), ('why', 'node', '0'),
                      ('why', 'unhealthy'), ('why', 'ip', HOST)):
            status, said = self.say('tdbmesh', '--json', *words)
            self.assertEqual(status, 0, words)
            json.loads(said)


if __name__ == '__main__':
    main()
